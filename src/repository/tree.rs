//! Trees and chunk lists: building them from entries in order, and walking them.
//!
//! A tree is a content-defined B-tree: where a node ends depends on the path of its last entry, so two snapshots share
//! every node between which nothing changed, and a difference costs what differs. Chunk lists of large files are cut at
//! chunks whose id says so.

pub use crate::format::tree::{LeafBuilder, Node};
use crate::format::tree::{ListChild, TreeChild, encode_children, encode_chunks, encode_lists};
use crate::model::entry::{ChunkList, ChunkRef, Entry};
use crate::model::id::ChunkId;
use crate::model::snapshot::TreeRoot;

/// No leaf but the last is shorter, in bytes.
const LEAF_MIN: usize = 16 << 10;
/// A leaf this long ends whatever its last path is.
const LEAF_MAX: usize = 256 << 10;
/// A leaf ends whose decoded paths are this long together, a fraction of what a reader takes.
const LEAF_PATHS_MAX: usize = 4 << 20;
/// Beyond the minimum, one path in this many ends a leaf: with entries of about 120 bytes leaves average 64 KiB.
const LEAF_ODDS: u32 = 400;
/// Limits for inner nodes and list nodes, in children.
const INNER_MIN: usize = 32;
const INNER_MAX: usize = 1024;
const INNER_ODDS: u32 = 96;
const LIST_MIN: usize = 256;
const LIST_MAX: usize = 4096;
const LIST_ODDS: u32 = 768;

/// Stores nodes: the writer in a backup, a map in tests.
pub trait NodeSink {
    /// Why a node could not be stored.
    type Error;

    /// Stores a node and returns its id.
    ///
    /// # Errors
    /// As the sink says.
    fn store_node(&self, node: &[u8]) -> Result<ChunkId, Self::Error>;

    /// Stores a leaf of a tree; a sink may treat leaves in a way of its own.
    ///
    /// # Errors
    /// As the sink says.
    fn store_leaf(&self, leaf: &[u8]) -> Result<ChunkId, Self::Error> {
        self.store_node(leaf)
    }
}

impl NodeSink for crate::repository::writer::Writer {
    type Error = crate::repository::uploader::UploadStopped;

    fn store_node(&self, node: &[u8]) -> Result<ChunkId, Self::Error> {
        crate::repository::writer::Writer::store_node(self, node)
    }
}

/// Builds a tree from entries in path order.
#[derive(Debug)]
pub struct TreeBuilder<'a, S> {
    sink: &'a S,
    leaf: LeafBuilder,
    levels: Vec<Vec<TreeChild>>,
}

impl<'a, S: NodeSink> TreeBuilder<'a, S> {
    /// Starts an empty tree.
    pub fn new(sink: &'a S) -> Self {
        Self { sink, leaf: LeafBuilder::default(), levels: Vec::new() }
    }

    /// Appends an entry, whose path must come after all before it.
    ///
    /// # Errors
    /// When a node that is complete cannot be stored.
    pub fn push(&mut self, entry: &Entry) -> Result<(), S::Error> {
        self.leaf.push(entry);
        let len = self.leaf.len();
        if len >= LEAF_MAX
            || self.leaf.paths_len() >= LEAF_PATHS_MAX
            || (len >= LEAF_MIN && draws(entry.path.as_bytes(), LEAF_ODDS))
        {
            self.finish_leaf()?;
        }
        Ok(())
    }

    /// Completes the tree and returns its root. A tree without entries has an empty leaf.
    ///
    /// # Errors
    /// When a node cannot be stored.
    pub fn finish(mut self) -> Result<TreeRoot, S::Error> {
        if self.levels.is_empty() && self.leaf.is_empty() {
            let (node, _) = self.leaf.finish();
            return Ok(TreeRoot { id: self.sink.store_leaf(&node)?, depth: 1 });
        }
        if !self.leaf.is_empty() {
            self.finish_leaf()?;
        }
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            match self.levels[level].as_slice() {
                [only] if is_top => {
                    let depth = u8::try_from(level + 1).expect("trees are a few levels deep");
                    return Ok(TreeRoot { id: only.id, depth });
                }
                [] => {}
                _ => self.finish_inner(level)?,
            }
            level += 1;
        }
    }

    fn finish_leaf(&mut self) -> Result<(), S::Error> {
        let (node, child) = self.leaf.finish();
        let mut child = child.expect("only leaves with entries are finished");
        child.id = self.sink.store_leaf(&node)?;
        self.push_child(0, child)
    }

    fn push_child(&mut self, level: usize, child: TreeChild) -> Result<(), S::Error> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let ends = draws(&child.id.0, INNER_ODDS);
        let children = &mut self.levels[level];
        children.push(child);
        if children.len() >= INNER_MAX || (children.len() >= INNER_MIN && ends) {
            self.finish_inner(level)?;
        }
        Ok(())
    }

    fn finish_inner(&mut self, level: usize) -> Result<(), S::Error> {
        let children = std::mem::take(&mut self.levels[level]);
        let parent = TreeChild {
            first: children[0].first.clone(),
            id: self.sink.store_node(&encode_children(&children))?,
            entries: children.iter().map(|child| child.entries).sum(),
            bytes: children.iter().map(|child| child.bytes).sum(),
        };
        self.push_child(level + 1, parent)
    }
}

/// Gathers the chunks of one content: inside the entry while they are few, in list nodes when they are many.
#[derive(Debug, Default)]
pub struct ListBuilder {
    leaf: Vec<ChunkRef>,
    levels: Vec<Vec<ListChild>>,
    chunks: u64,
}

impl ListBuilder {
    /// Appends a chunk.
    ///
    /// # Errors
    /// When a node that is complete cannot be stored.
    pub fn push<S: NodeSink>(&mut self, chunk: ChunkRef, sink: &S) -> Result<(), S::Error> {
        self.leaf.push(chunk);
        self.chunks += 1;
        let len = self.leaf.len();
        if len >= LIST_MAX || (len >= LIST_MIN && draws(&chunk.id.0, LIST_ODDS)) {
            self.finish_leaf(sink)?;
        }
        Ok(())
    }

    /// Completes the list.
    ///
    /// # Errors
    /// When a node cannot be stored.
    pub fn finish<S: NodeSink>(mut self, sink: &S) -> Result<ChunkList, S::Error> {
        if self.levels.is_empty() && self.leaf.len() <= ChunkList::INLINE_MAX {
            return Ok(ChunkList::Inline(self.leaf));
        }
        if !self.leaf.is_empty() {
            self.finish_leaf(sink)?;
        }
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            match self.levels[level].as_slice() {
                [only] if is_top => {
                    let depth = u8::try_from(level + 1).expect("lists are a few levels deep");
                    return Ok(ChunkList::Indirect { root: only.id, depth, chunks: self.chunks });
                }
                [] => {}
                _ => self.finish_inner(level, sink)?,
            }
            level += 1;
        }
    }

    fn finish_leaf<S: NodeSink>(&mut self, sink: &S) -> Result<(), S::Error> {
        let leaf = std::mem::take(&mut self.leaf);
        let child = ListChild {
            id: sink.store_node(&encode_chunks(&leaf))?,
            chunks: leaf.len() as u64,
            bytes: leaf.iter().map(|chunk| u64::from(chunk.length)).sum(),
        };
        self.push_child(0, child, sink)
    }

    fn push_child<S: NodeSink>(&mut self, level: usize, child: ListChild, sink: &S) -> Result<(), S::Error> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let children = &mut self.levels[level];
        children.push(child);
        if children.len() >= INNER_MAX || (children.len() >= INNER_MIN && draws(&child.id.0, INNER_ODDS)) {
            self.finish_inner(level, sink)?;
        }
        Ok(())
    }

    fn finish_inner<S: NodeSink>(&mut self, level: usize, sink: &S) -> Result<(), S::Error> {
        let children = std::mem::take(&mut self.levels[level]);
        let parent = ListChild {
            id: sink.store_node(&encode_lists(&children))?,
            chunks: children.iter().map(|child| child.chunks).sum(),
            bytes: children.iter().map(|child| child.bytes).sum(),
        };
        self.push_child(level + 1, parent, sink)
    }
}

/// Draws a lot that depends on `bytes` alone: true once in `odds`.
fn draws(bytes: &[u8], odds: u32) -> bool {
    let hash = blake3::hash(bytes);
    u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("4 bytes")) % odds == 0
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;
    use crate::format::tree::Node;
    use crate::model::entry::{EntryKind, Metadata};
    use crate::model::path::EntryPath;

    #[derive(Default)]
    struct Nodes(RefCell<HashMap<ChunkId, Vec<u8>>>);

    impl NodeSink for Nodes {
        type Error = std::convert::Infallible;

        fn store_node(&self, node: &[u8]) -> Result<ChunkId, Self::Error> {
            let id = ChunkId(*blake3::hash(node).as_bytes());
            self.0.borrow_mut().insert(id, node.to_vec());
            Ok(id)
        }
    }

    impl Nodes {
        fn entries(&self, id: ChunkId) -> Vec<Entry> {
            match Node::decode(&self.0.borrow()[&id]).expect("a node") {
                Node::Entries(entries) => entries,
                Node::Children(children) => children.iter().flat_map(|child| self.entries(child.id)).collect(),
                other => panic!("{other:?} in a tree"),
            }
        }

        fn chunks(&self, id: ChunkId) -> Vec<ChunkRef> {
            match Node::decode(&self.0.borrow()[&id]).expect("a node") {
                Node::Chunks(chunks) => chunks,
                Node::Lists(children) => children.iter().flat_map(|child| self.chunks(child.id)).collect(),
                other => panic!("{other:?} in a list"),
            }
        }
    }

    fn entries(count: u32, inode_of_last: u64) -> Vec<Entry> {
        (0..count)
            .map(|i| Entry {
                path: EntryPath::new(format!("d/{i:06}-some-file-name-of-usual-length")).expect("safe"),
                kind: EntryKind::Fifo,
                metadata: Metadata { inode: if i + 1 == count { inode_of_last } else { 7 }, ..Metadata::default() },
            })
            .collect()
    }

    fn build(sink: &Nodes, entries: &[Entry]) -> TreeRoot {
        let mut builder = TreeBuilder::new(sink);
        entries.iter().for_each(|entry| builder.push(entry).expect("in memory"));
        builder.finish().expect("in memory")
    }

    #[test]
    fn trees_of_any_size_hold_their_entries() {
        for count in [0, 1, 1000, 60_000] {
            let (sink, entries) = (Nodes::default(), entries(count, 1));
            let root = build(&sink, &entries);
            assert_eq!(sink.entries(root.id), entries, "{count}");
        }
    }

    #[test]
    fn a_small_change_changes_few_nodes() {
        let sink = Nodes::default();
        build(&sink, &entries(60_000, 1));
        let before = sink.0.borrow().len();
        build(&sink, &entries(60_000, 2));
        assert!(sink.0.borrow().len() <= before + 3, "{} new nodes", sink.0.borrow().len() - before);
    }

    #[test]
    fn lists_move_out_of_the_entry_when_they_grow() {
        for count in [0u32, 1, 32, 33, 5000, 300_000] {
            let sink = Nodes::default();
            let chunks: Vec<ChunkRef> = (0..count)
                .map(|i| ChunkRef { id: ChunkId(*blake3::hash(&i.to_le_bytes()).as_bytes()), length: i + 1 })
                .collect();
            let mut builder = ListBuilder::default();
            chunks.iter().for_each(|chunk| builder.push(*chunk, &sink).expect("in memory"));
            match builder.finish(&sink).expect("in memory") {
                ChunkList::Inline(found) => assert!(found == chunks && count <= 32),
                ChunkList::Indirect { root, chunks: total, .. } => {
                    assert!(sink.chunks(root) == chunks && total == u64::from(count) && count > 32);
                }
            }
        }
    }
}
