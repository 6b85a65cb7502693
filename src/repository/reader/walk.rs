//! Walking a tree in path order, leaves read ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};
use tokio::task::JoinHandle;

use crate::blocking::finished;
use crate::format::tree::Node;
use crate::model::entry::Entry;
use crate::model::id::ChunkId;
use crate::model::path::EntryPath;
use crate::model::snapshot::TreeRoot;
use crate::repository::reader::directory::Scope;
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
    /// The first path behind it, unless nothing is.
    end: Option<EntryPath>,
    entries: Option<u64>,
}

/// Entries of a tree in path order; parts that cannot be read are told and stepped over.
#[derive(Debug)]
pub struct TreeWalk {
    reader: Arc<Reader>,
    scope: Scope,
    /// Nodes still to visit, the next one last.
    stack: Vec<Pending>,
    leaves: FuturesOrdered<JoinHandle<(Pending, Result<Node, ReadError>)>>,
    entries: VecDeque<Entry>,
    damaged: VecDeque<DamagedTree>,
}

impl Reader {
    /// Walks a tree, or only what is `within` a path and the entry at that path.
    pub fn walk(self: &Arc<Self>, root: TreeRoot, within: Option<EntryPath>) -> TreeWalk {
        TreeWalk::of(self, root, within.map_or(Scope::Everything, Scope::Within))
    }

    /// Walks the given leaves, which stand in path order.
    pub(super) fn walk_leaves(self: &Arc<Self>, leaves: Vec<ChunkId>) -> TreeWalk {
        let pending = |id| Pending { id, depth: 1, first: None, end: None, entries: None };
        TreeWalk::over(self, leaves.into_iter().rev().map(pending).collect(), Scope::Everything)
    }
}

impl TreeWalk {
    /// Walks what of a tree is in the scope.
    pub(super) fn of(reader: &Arc<Reader>, root: TreeRoot, scope: Scope) -> Self {
        let root = Pending { id: root.id, depth: root.depth, first: None, end: None, entries: None };
        Self::over(reader, vec![root], scope)
    }

    fn over(reader: &Arc<Reader>, stack: Vec<Pending>, scope: Scope) -> Self {
        Self {
            reader: reader.clone(),
            scope,
            stack,
            leaves: FuturesOrdered::new(),
            entries: VecDeque::new(),
            damaged: VecDeque::new(),
        }
    }

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
                    let (pending, node) = finished(std::future::ready(leaf)).await;
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
        let ends = children.iter().skip(1).map(|child| Some(child.first.clone())).chain([pending.end]);
        let wanted: Vec<Pending> = children
            .iter()
            .zip(ends)
            .filter(|(child, end)| self.scope.may_hold(&child.first, end.as_ref()))
            .map(|(child, end)| Pending {
                id: child.id,
                depth: pending.depth - 1,
                first: Some(child.first.clone()),
                end,
                entries: Some(child.entries),
            })
            .collect();
        self.stack.extend(wanted.into_iter().rev());
    }

    fn take_leaf(&mut self, pending: Pending, node: Result<Node, ReadError>) {
        match node {
            Ok(Node::Entries(mut entries)) => {
                entries.retain(|entry| self.scope.wants(&entry.path));
                self.entries.extend(entries);
            }
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
}
