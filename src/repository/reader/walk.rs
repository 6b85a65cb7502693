//! Walking a tree in path order, leaves read ahead.
//!
//! Every node must be what its parent tells, so a walk comes to an end, gives each path once and nothing below what is no directory.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};
use tokio::task::JoinHandle;

use crate::blocking::finished;
use crate::format::tree::{Node, NodeLimits};
use crate::model::entry::Entry;
use crate::model::id::ChunkId;
use crate::model::path::EntryPath;
use crate::model::snapshot::TreeRoot;
use crate::repository::reader::scope::Scope;
use crate::repository::reader::told::{Told, TreeNode};
use crate::repository::reader::{ReadError, Reader};

/// Leaves being read ahead of the one in use: about 64 KiB each.
const LEAVES_AHEAD: usize = 16;
/// The bytes that they have together, as the index tells, before no more are read ahead.
const BYTES_AHEAD: usize = 4 << 20;
/// A leaf whose paths are longer together, or whose entries hold more, is decoded when its turn comes.
const AHEAD: NodeLimits = NodeLimits { paths: 1 << 20, parts: 1 << 16 };

/// Which part of a tree is lost. Its `Display` is what people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPart {
    /// The first path of it, where its parent tells.
    pub first: Option<EntryPath>,
    /// How many entries it has, where its parent tells.
    pub entries: Option<u64>,
}

impl LostPart {
    /// A node and all below it.
    pub fn below(told: &TreeNode) -> Self {
        Self { first: told.first.clone(), entries: told.sums.map(|(entries, _)| entries) }
    }
}

impl fmt::Display for LostPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            Some(path) => write!(f, "/{path} and what follows")?,
            None => f.write_str("the tree and what follows")?,
        }
        self.entries.map_or(Ok(()), |entries| write!(f, " ({entries} entries)"))
    }
}

/// A part of a tree that cannot be read.
#[derive(Debug, Clone)]
pub struct DamagedTree {
    /// The node.
    pub id: ChunkId,
    /// What is lost with it.
    pub part: LostPart,
    /// What is wrong.
    pub error: ReadError,
}

/// A leaf that was read ahead.
#[derive(Debug)]
enum Leaf {
    Decoded(Node),
    /// One that takes more memory than the others.
    Bytes(Vec<u8>),
}

/// Entries of a tree in path order; parts that cannot be read are told and stepped over.
#[derive(Debug)]
pub struct TreeWalk {
    reader: Arc<Reader>,
    scope: Scope,
    /// Nodes still to visit, the next one last.
    stack: Vec<TreeNode>,
    leaves: FuturesOrdered<JoinHandle<(TreeNode, Result<Leaf, ReadError>)>>,
    /// For each of them its length.
    lengths: VecDeque<usize>,
    entries: VecDeque<Entry>,
    damaged: VecDeque<DamagedTree>,
}

impl Reader {
    /// Walks a tree, or only what is `within` a path and the entry at that path.
    pub fn walk(self: &Arc<Self>, root: TreeRoot, within: Option<EntryPath>) -> TreeWalk {
        TreeWalk::of(self, root, within.map_or(Scope::Everything, Scope::Within))
    }

    /// Walks the given leaves, which stand in path order.
    pub(super) fn walk_leaves(self: &Arc<Self>, leaves: Vec<TreeNode>) -> TreeWalk {
        TreeWalk::over(self, leaves.into_iter().rev().collect(), Scope::Everything)
    }
}

impl TreeWalk {
    /// Walks what of a tree is in the scope.
    pub(super) fn of(reader: &Arc<Reader>, root: TreeRoot, scope: Scope) -> Self {
        Self::over(reader, vec![TreeNode::root(root)], scope)
    }

    fn over(reader: &Arc<Reader>, stack: Vec<TreeNode>, scope: Scope) -> Self {
        Self {
            reader: reader.clone(),
            scope,
            stack,
            leaves: FuturesOrdered::new(),
            lengths: VecDeque::new(),
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
                    let (told, leaf) = finished(std::future::ready(leaf)).await;
                    self.lengths.pop_front();
                    self.take_leaf(told, leaf);
                }
                None if self.damaged.is_empty() => return None,
                None => {}
            }
        }
    }

    /// Starts reading leaves until enough are under way; inner nodes on the way are read and taken apart.
    async fn read_ahead(&mut self) {
        while self.leaves.len() < LEAVES_AHEAD
            && self.lengths.iter().sum::<usize>() < BYTES_AHEAD
            && let Some(told) = self.stack.pop()
        {
            if told.depth > 1 {
                // What is under way comes first in path order, so a damaged inner node is told after it.
                let node = self.reader.node(&told).await;
                self.take_inner(told, node);
                continue;
            }
            let reader = self.reader.clone();
            let length = reader.index().locate(&told.id).map_or(0, |location| location.length as usize);
            self.lengths.push_back(length);
            self.leaves.push_back(tokio::spawn(async move {
                let leaf = reader.chunk(&told.id).await.map(|bytes| match Node::decode_within(&bytes, AHEAD) {
                    Ok(node) => Leaf::Decoded(node),
                    Err(_) => Leaf::Bytes(bytes),
                });
                (told, leaf)
            }));
        }
    }

    fn take_inner(&mut self, told: TreeNode, node: Result<Node, ReadError>) {
        match node {
            Ok(Node::Children(children)) => {
                let scope = &self.scope;
                let may_hold = |child: &TreeNode| {
                    let first = child.first.as_ref().expect("told of every child");
                    scope.may_hold(first, child.end.as_ref())
                };
                let wanted: Vec<TreeNode> = told.children(&children).filter(may_hold).collect();
                self.stack.extend(wanted.into_iter().rev());
            }
            Ok(_) => unreachable!("checked to be of this level"),
            Err(error) => self.note_damaged(told, error),
        }
    }

    fn take_leaf(&mut self, told: TreeNode, leaf: Result<Leaf, ReadError>) {
        let node = leaf.and_then(|leaf| match leaf {
            Leaf::Decoded(node) => told.held(Ok(node)),
            Leaf::Bytes(bytes) => told.held(Node::decode(&bytes)),
        });
        match node {
            Ok(Node::Entries(mut entries)) => {
                entries.retain(|entry| self.scope.wants(&entry.path));
                self.entries.extend(entries);
            }
            Ok(_) => unreachable!("checked to be of this level"),
            Err(error) => self.note_damaged(told, error),
        }
    }

    fn note_damaged(&mut self, told: TreeNode, error: ReadError) {
        self.damaged.push_back(DamagedTree { id: told.id, part: LostPart::below(&told), error });
    }
}
