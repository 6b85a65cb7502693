//! What a parent tells of a node, and whether the node keeps to it.
//!
//! A tree whose nodes keep to it has each path once and no end that is not paid for in stored nodes: one that names the same
//! node again and again breaks the order. A list whose nodes keep to it gives exactly the bytes that its entry says.

use crate::format::FormatError;
use crate::format::tree::{ListChild, Node, TreeChild};
use crate::model::id::ChunkId;
use crate::model::path::EntryPath;
use crate::model::snapshot::TreeRoot;
use crate::repository::reader::ReadError;

/// A node of a tree, and what is known of it before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// The node.
    pub id: ChunkId,
    /// Levels from here down, 1 for a leaf.
    pub depth: u8,
    /// The path that it begins with; of the root nothing is told.
    pub first: Option<EntryPath>,
    /// The first path behind it, unless nothing is.
    pub end: Option<EntryPath>,
    /// Entries below it, and bytes of their content.
    pub sums: Option<(u64, u64)>,
}

/// A node of a chunk list, and what is known of it before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListNode {
    /// The node.
    pub id: ChunkId,
    /// Levels from here down, 1 for a leaf.
    pub depth: u8,
    /// Chunks below it.
    pub chunks: u64,
    /// Bytes of content below it.
    pub bytes: u64,
}

/// What is known of a node before it is read.
pub trait Told {
    /// Returns the node.
    fn id(&self) -> &ChunkId;

    /// Checks a node that was read for it.
    ///
    /// # Errors
    /// [`FormatError`] when it is not of its level, or not what its parent tells.
    fn check(&self, node: &Node) -> Result<(), FormatError>;

    /// Holds what was read for it to what is told: nothing else makes a node believed.
    ///
    /// # Errors
    /// [`ReadError::Node`] when it is no node, or another one.
    fn held(&self, node: Result<Node, FormatError>) -> Result<Node, ReadError> {
        let held = node.and_then(|node| self.check(&node).map(|()| node));
        held.map_err(|source| ReadError::Node { id: *self.id(), source })
    }
}

/// Adds up what cannot be more than a number has room for.
fn sum(mut numbers: impl Iterator<Item = u64>) -> Option<u64> {
    numbers.try_fold(0u64, u64::checked_add)
}

impl TreeNode {
    const WHAT: &str = "a tree node";

    /// Returns what is known of the root.
    pub fn root(root: TreeRoot) -> Self {
        Self { id: root.id, depth: root.depth, first: None, end: None, sums: None }
    }

    /// Returns what is known of its children, which were checked.
    pub fn children<'a>(&self, children: &'a [TreeChild]) -> impl Iterator<Item = Self> + 'a {
        let depth = self.depth - 1;
        let ends = children.iter().skip(1).map(|child| Some(child.first.clone())).chain([self.end.clone()]);
        children.iter().zip(ends).map(move |(child, end)| Self {
            id: child.id,
            depth,
            first: Some(child.first.clone()),
            end,
            sums: Some((child.entries, child.bytes)),
        })
    }

    /// Stands for all that is known of it.
    pub fn digest(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.depth]);
        for path in [&self.first, &self.end] {
            let bytes = path.as_ref().map_or(&b""[..], |path| path.as_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        if let Some((entries, bytes)) = self.sums {
            hasher.update(&entries.to_le_bytes()).update(&bytes.to_le_bytes());
        }
        hasher.finalize().as_bytes()[..16].try_into().expect("16 bytes")
    }
}

impl Told for TreeNode {
    fn id(&self) -> &ChunkId {
        &self.id
    }

    fn check(&self, node: &Node) -> Result<(), FormatError> {
        let (first, last, sums) = match (node, self.depth) {
            (Node::Entries(entries), 1) => {
                let sums = (entries.len() as u64, sum(entries.iter().map(|entry| entry.size())));
                let last = entries.last();
                let goes_on = last.zip(self.end.as_ref()).is_some_and(|(last, end)| end.is_within(&last.path));
                if goes_on && last.is_some_and(|last| !last.is_directory()) {
                    return Err(FormatError::invalid(
                        Self::WHAT,
                        "what follows lies below something that is no directory",
                    ));
                }
                (entries.first().map(|entry| &entry.path), last.map(|entry| &entry.path), Some(sums))
            }
            (Node::Children(children), 2..) => {
                let entries = sum(children.iter().map(|child| child.entries));
                let sums = entries.map(|entries| (entries, sum(children.iter().map(|child| child.bytes))));
                (children.first().map(|child| &child.first), children.last().map(|child| &child.first), sums)
            }
            _ => return Err(FormatError::WrongMark("a tree node of its level")),
        };
        if first.is_none() && self.first.is_some() {
            return Err(FormatError::invalid(Self::WHAT, "it is empty"));
        }
        if self.first.is_some() && first != self.first.as_ref() {
            return Err(FormatError::invalid(Self::WHAT, "it does not begin as its parent says"));
        }
        if last.zip(self.end.as_ref()).is_some_and(|(last, end)| last >= end) {
            return Err(FormatError::invalid(Self::WHAT, "it reaches into the next one"));
        }
        let Some((entries, Some(bytes))) = sums else {
            return Err(FormatError::invalid(Self::WHAT, "its sums are too large"));
        };
        if self.sums.is_some_and(|told| told != (entries, bytes)) {
            return Err(FormatError::invalid(Self::WHAT, "what is below it does not add up to what its parent says"));
        }
        Ok(())
    }
}

impl ListNode {
    const WHAT: &str = "a list node";

    /// Returns what is known of its children, which were checked.
    pub fn children<'a>(&self, children: &'a [ListChild]) -> impl DoubleEndedIterator<Item = Self> + 'a {
        let depth = self.depth - 1;
        children.iter().map(move |child| Self { id: child.id, depth, chunks: child.chunks, bytes: child.bytes })
    }
}

impl Told for ListNode {
    fn id(&self) -> &ChunkId {
        &self.id
    }

    fn check(&self, node: &Node) -> Result<(), FormatError> {
        let (chunks, bytes) = match (node, self.depth) {
            (Node::Chunks(chunks), 1) => {
                (Some(chunks.len() as u64), sum(chunks.iter().map(|chunk| u64::from(chunk.length))))
            }
            (Node::Lists(children), 2..) => {
                (sum(children.iter().map(|child| child.chunks)), sum(children.iter().map(|child| child.bytes)))
            }
            _ => return Err(FormatError::WrongMark("a list node of its level")),
        };
        if (chunks, bytes) == (Some(self.chunks), Some(self.bytes)) {
            return Ok(());
        }
        let number = |found: Option<u64>| found.map_or_else(|| "too many".to_owned(), |found| found.to_string());
        Err(FormatError::invalid(
            Self::WHAT,
            format!(
                "it holds {} chunks of {} bytes together, where {} of {} are told",
                number(chunks),
                number(bytes),
                self.chunks,
                self.bytes
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{ChunkRef, Entry, EntryKind, Metadata};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).expect("safe")
    }

    fn leaf(paths: &[&str]) -> Node {
        let kind = |path: &str| if path.ends_with('/') { EntryKind::Directory } else { EntryKind::Fifo };
        let entry = |text: &&str| Entry {
            path: path(text.trim_end_matches('/')),
            kind: kind(text),
            metadata: Metadata::default(),
        };
        Node::Entries(paths.iter().map(entry).collect())
    }

    fn inner(children: &[(&str, u64)]) -> Node {
        let child =
            |&(first, entries): &(&str, u64)| TreeChild { first: path(first), id: ChunkId([1; 32]), entries, bytes: 0 };
        Node::Children(children.iter().map(child).collect())
    }

    #[test]
    fn a_tree_node_is_what_its_parent_tells_or_refused() {
        let told = |depth, first: &str, end: &str, entries| TreeNode {
            id: ChunkId([1; 32]),
            depth,
            first: Some(path(first)),
            end: (!end.is_empty()).then(|| path(end)),
            sums: Some((entries, 0)),
        };
        let cases = [
            (told(1, "a", "c", 2), leaf(&["a", "b"]), true),
            (told(1, "a", "", 2), leaf(&["a", "b"]), true),
            (told(1, "a", "b", 2), leaf(&["a", "b"]), false),
            (told(1, "a0", "c", 2), leaf(&["a", "b"]), false),
            (told(1, "a", "c", 3), leaf(&["a", "b"]), false),
            (told(2, "a", "c", 2), leaf(&["a", "b"]), false),
            (told(1, "a", "c", 0), leaf(&[]), false),
            (told(1, "a", "b/c", 2), leaf(&["a", "b/"]), true),
            (told(1, "a", "b/c", 2), leaf(&["a", "b"]), false),
            (told(2, "a", "c", 5), inner(&[("a", 2), ("b", 3)]), true),
            (told(2, "a", "b", 5), inner(&[("a", 2), ("b", 3)]), false),
            (told(2, "a", "c", u64::MAX), inner(&[("a", u64::MAX), ("b", 1)]), false),
            (told(1, "a", "c", 5), inner(&[("a", 2), ("b", 3)]), false),
        ];
        for (told, node, right) in cases {
            assert_eq!(told.check(&node).is_ok(), right, "{told:?} {node:?}");
        }
        let root = TreeNode::root(TreeRoot { id: ChunkId([1; 32]), depth: 1 });
        assert_eq!((root.check(&leaf(&[])), root.check(&leaf(&["x"]))), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_told_of_children_is_what_stands_beside_them() {
        let Node::Children(children) = inner(&[("a", 2), ("b", 3)]) else { unreachable!() };
        let above = TreeNode { end: Some(path("x")), ..TreeNode::root(TreeRoot { id: ChunkId([2; 32]), depth: 2 }) };
        let told: Vec<TreeNode> = above.children(&children).collect();
        let ends: Vec<_> =
            told.iter().map(|child| (child.depth, child.end.clone().expect("told"), child.sums)).collect();
        assert_eq!(ends, [(1, path("b"), Some((2, 0))), (1, path("x"), Some((3, 0)))]);
        assert_ne!(told[0].digest(), told[1].digest());
        assert_ne!(told[0].digest(), TreeNode { end: None, ..told[0].clone() }.digest());
    }

    #[test]
    fn a_list_node_holds_as_much_as_is_told_or_is_refused() {
        let told = |depth, chunks, bytes| ListNode { id: ChunkId([1; 32]), depth, chunks, bytes };
        let chunk = |length| ChunkRef { id: ChunkId([1; 32]), length };
        let child = |chunks, bytes| ListChild { id: ChunkId([1; 32]), chunks, bytes };
        let (chunks, lists) = (Node::Chunks(vec![chunk(3), chunk(4)]), Node::Lists(vec![child(3, 9), child(1, 1)]));
        assert_eq!(told(1, 2, 7).check(&chunks), Ok(()));
        assert_eq!(told(2, 4, 10).check(&lists), Ok(()));
        for (told, node) in [
            (told(1, 2, 8), &chunks),
            (told(1, 2, 6), &chunks),
            (told(1, 3, 7), &chunks),
            (told(2, 2, 7), &chunks),
            (told(2, 4, 11), &lists),
            (told(1, 4, 10), &lists),
            (told(2, 4, u64::MAX), &Node::Lists(vec![child(3, u64::MAX), child(1, 2)])),
        ] {
            assert!(told.check(node).is_err(), "{told:?} {node:?}");
        }
    }
}
