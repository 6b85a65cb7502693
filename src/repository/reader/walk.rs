//! Walking a tree in path order, leaves read ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};
use tokio::task::JoinHandle;

use crate::format::tree::Node;
use crate::model::entry::Entry;
use crate::model::id::ChunkId;
use crate::model::path::{EntryPath, compare_paths};
use crate::model::snapshot::TreeRoot;
use crate::repository::reader::{ReadError, Reader};

/// Leaves being read ahead of the one in use: about 64 KiB each.
const LEAVES_AHEAD: usize = 16;

/// A part of a tree that cannot be read.
#[derive(Debug, Clone)]
pub struct DamagedTree {
    /// The node.
    pub id: ChunkId,
    /// The first path below it, where its parent tells.
    pub first: Option<EntryPath>,
    /// Entries below it, where its parent tells.
    pub entries: Option<u64>,
    /// What is wrong.
    pub error: ReadError,
}

#[derive(Debug, Clone)]
struct Pending {
    id: ChunkId,
    depth: u8,
    first: Option<EntryPath>,
    entries: Option<u64>,
}

/// Entries of a tree in path order; parts that cannot be read are told and stepped over.
#[derive(Debug)]
pub struct TreeWalk {
    reader: Arc<Reader>,
    within: Option<EntryPath>,
    /// Nodes still to visit, the next one last.
    stack: Vec<Pending>,
    leaves: FuturesOrdered<JoinHandle<(Pending, Result<Node, ReadError>)>>,
    entries: VecDeque<Entry>,
    damaged: VecDeque<DamagedTree>,
}

impl Reader {
    /// Walks a tree, or only what is `within` a path and the entry at that path.
    pub fn walk(self: &Arc<Self>, root: TreeRoot, within: Option<EntryPath>) -> TreeWalk {
        TreeWalk {
            reader: self.clone(),
            within,
            stack: vec![Pending { id: root.id, depth: root.depth, first: None, entries: None }],
            leaves: FuturesOrdered::new(),
            entries: VecDeque::new(),
            damaged: VecDeque::new(),
        }
    }

    /// Walks the given leaves, which stand in path order.
    pub(super) fn walk_leaves(self: &Arc<Self>, leaves: Vec<ChunkId>) -> TreeWalk {
        let pending = |id| Pending { id, depth: 1, first: None, entries: None };
        TreeWalk {
            reader: self.clone(),
            within: None,
            stack: leaves.into_iter().rev().map(pending).collect(),
            leaves: FuturesOrdered::new(),
            entries: VecDeque::new(),
            damaged: VecDeque::new(),
        }
    }
}

impl TreeWalk {
    /// Returns the next entry, or a part that cannot be read, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Entry, DamagedTree>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Some(Ok(entry));
            }
            if let Some(damaged) = self.damaged.pop_front() {
                return Some(Err(damaged));
            }
            self.read_ahead().await;
            match self.leaves.next().await {
                Some(leaf) => {
                    let (pending, node) = leaf.expect("reading a node does not panic");
                    self.take_leaf(pending, node);
                }
                None if self.damaged.is_empty() => return None,
                None => {}
            }
        }
    }

    /// Starts reading leaves until enough are under way; inner nodes on the way are read and taken apart.
    async fn read_ahead(&mut self) {
        while self.leaves.len() < LEAVES_AHEAD
            && let Some(pending) = self.stack.pop()
        {
            if pending.depth > 1 {
                // What is under way comes first in path order, so a damaged inner node is told after it.
                let node = self.reader.node(&pending.id).await;
                self.take_inner(pending, node);
                continue;
            }
            let reader = self.reader.clone();
            self.leaves.push_back(tokio::spawn(async move {
                let node = reader.node(&pending.id).await;
                (pending, node)
            }));
        }
    }

    fn take_inner(&mut self, pending: Pending, node: Result<Node, ReadError>) {
        let children = match node {
            Ok(Node::Children(children)) => children,
            other => return self.take_damaged(pending, other),
        };
        let next_firsts = children.iter().skip(1).map(|child| Some(child.first.clone())).chain([None]);
        let wanted: Vec<Pending> = children
            .iter()
            .zip(next_firsts)
            .filter(|(child, next)| self.may_hold(child.first.as_bytes(), next.as_ref()))
            .map(|(child, _)| Pending {
                id: child.id,
                depth: pending.depth - 1,
                first: Some(child.first.clone()),
                entries: Some(child.entries),
            })
            .collect();
        self.stack.extend(wanted.into_iter().rev());
    }

    fn take_leaf(&mut self, pending: Pending, node: Result<Node, ReadError>) {
        match node {
            Ok(Node::Entries(entries)) => match &self.within {
                Some(within) => self.entries.extend(entries.into_iter().filter(|entry| entry.path.is_within(within))),
                None => self.entries.extend(entries),
            },
            other => self.take_damaged(pending, other),
        }
    }

    fn take_damaged(&mut self, pending: Pending, node: Result<Node, ReadError>) {
        let error = match node {
            Err(error) => error,
            Ok(_) => ReadError::Node {
                id: pending.id.short(),
                source: crate::format::FormatError::WrongMark("a node of this level"),
            },
        };
        let Pending { id, first, entries, .. } = pending;
        self.damaged.push_back(DamagedTree { id, first, entries, error });
    }

    /// Tells whether a child that begins at `first`, before the child that begins at `next`, may hold what is wanted.
    fn may_hold(&self, first: &[u8], next: Option<&EntryPath>) -> bool {
        let Some(within) = &self.within else { return true };
        let begins_after = compare_paths(first, within.as_bytes()).is_gt()
            && !EntryPath::new(first).is_ok_and(|first| first.is_within(within));
        let ends_before = next.is_some_and(|next| compare_paths(next.as_bytes(), within.as_bytes()).is_le());
        !begins_after && !ends_before
    }
}
