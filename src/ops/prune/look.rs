//! One look at everything: all that is stored, and what snapshots need of it, through trees, lists and recipes.
//!
//! Beside another clean-up, which removes snapshots and deletes packs meanwhile, what is missing may be what that one deleted: before it is
//! called lost, everything is looked at again.

use std::sync::Arc;

use crate::model::entry::ChunkList;
use crate::model::id::{ChunkId, ChunkKey};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{SnapshotId, TreeRoot};
use crate::ops::Cancel;
use crate::ops::prune::copies::LastChunk;
use crate::ops::prune::recipes::named_by_recipes;
use crate::ops::prune::{CleanUp, PruneError};
use crate::progress::Counter;
use crate::repository::index::complete::{CompleteIndex, NeedingSnapshot};
use crate::repository::index::needed::{Needed, NeededChunk};
use crate::repository::reader::Reader;
use crate::repository::reader::told::{ListNode, TreeNode};
use crate::repository::tree::Node;

/// Times that everything is looked at while other clean-ups go on deleting.
const LOOKS: usize = 4;
/// Nodes whose frames are brought before they are looked at.
const NODES_AHEAD: usize = 64;

/// What is stored, and what snapshots need.
pub(super) struct Look {
    pub(super) index: CompleteIndex,
    pub(super) reader: Arc<Reader>,
    pub(super) needed: Needed,
}

/// A node that is to be walked.
enum NodeToWalk {
    Tree(TreeNode),
    List(ListNode),
}

impl NodeToWalk {
    fn id(&self) -> ChunkId {
        match self {
            NodeToWalk::Tree(node) => node.id,
            NodeToWalk::List(node) => node.id,
        }
    }
}

impl Look {
    /// Loads all that is stored, and walks the snapshots that are `wanted`.
    pub(super) async fn take(clean_up: &CleanUp<'_>, wanted: impl Fn(SnapshotId) -> bool) -> Result<Self, PruneError> {
        for again in 0.. {
            let mut look = Self::load(clean_up).await?;
            match look.walk_all(clean_up, &wanted).await {
                Ok(()) => return Ok(look),
                Err(error) if error.outcome() != Outcome::Damaged || again + 1 == LOOKS => return Err(error),
                Err(error) if !look.is_overtaken(clean_up).await? => return Err(error),
                Err(_) => {}
            }
        }
        unreachable!("the last look is answered")
    }

    async fn load(clean_up: &CleanUp<'_>) -> Result<Self, PruneError> {
        let monitor = clean_up.monitor;
        let index = CompleteIndex::load(clean_up.deleting, &**monitor).await?;
        let (reading, memory_bytes) = (clean_up.deleting.reading(), clean_up.options.memory_bytes);
        let reader = Arc::new(Reader::new(reading, index.index().clone(), memory_bytes, monitor.clone()));
        let needed = Needed::nothing_of(&index);
        Ok(Self { index, reader, needed })
    }

    async fn walk_all(
        &mut self,
        clean_up: &CleanUp<'_>,
        wanted: &impl Fn(SnapshotId) -> bool,
    ) -> Result<(), PruneError> {
        clean_up.monitor.phase("looking what snapshots need");
        let snapshots: Vec<NeedingSnapshot> =
            self.index.snapshots().iter().filter(|it| wanted(it.id)).copied().collect();
        for snapshot in snapshots {
            if !snapshot.is_leaving || self.is_whole(clean_up, &snapshot).await? {
                self.walk(clean_up, snapshot.id, snapshot.root).await?;
            }
        }
        self.check_that_all_is_there()
    }

    /// Tells whether a snapshot that is leaving is still whole: what it needs may be gone as soon as its object is.
    async fn is_whole(&mut self, clean_up: &CleanUp<'_>, snapshot: &NeedingSnapshot) -> Result<bool, PruneError> {
        let before = std::mem::replace(&mut self.needed, Needed::nothing_of(&self.index));
        let walked = self.walk(clean_up, snapshot.id, snapshot.root).await;
        let whole = walked.and_then(|()| self.check_that_all_is_there());
        self.needed = before;
        match whole {
            Ok(()) => Ok(true),
            Err(error) if error.outcome() == Outcome::Damaged => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells whether another clean-up has removed snapshots, or begun to delete packs, since it was told what is to be deleted.
    async fn is_overtaken(&self, clean_up: &CleanUp<'_>) -> Result<bool, PruneError> {
        let now = clean_up.deleting.repository().cleanups().await?;
        let is_gone =
            |snapshot: &NeedingSnapshot| !snapshot.is_leaving && now.is_gone(&ObjectKey::snapshot(snapshot.id));
        Ok(now.deleting() != self.index.cleanups().deleting() || self.index.snapshots().iter().any(is_gone))
    }

    /// Notes all that a snapshot needs.
    async fn walk(&mut self, clean_up: &CleanUp<'_>, snapshot: SnapshotId, root: TreeRoot) -> Result<(), PruneError> {
        let unreadable = |source| PruneError::Unreadable { snapshot, source };
        let mut left = vec![NodeToWalk::Tree(TreeNode::root(root))];
        while let Some(node) = left.pop() {
            if clean_up.cancel.is_cancelled() {
                return Err(PruneError::Cancelled);
            }
            self.need(snapshot, &node.id().key(), clean_up.cancel).await?;
            if !self.needed.walk(&node.id().key()) {
                continue;
            }
            let from = left.len();
            match &node {
                NodeToWalk::Tree(told) => match self.reader.node(told).await.map_err(unreadable)? {
                    Node::Children(children) => left.extend(told.children(&children).map(NodeToWalk::Tree)),
                    Node::Entries(entries) => {
                        for content in entries.iter().filter_map(|entry| entry.content()) {
                            match &content.chunks {
                                ChunkList::Inline(chunks) => {
                                    for chunk in chunks {
                                        self.need(snapshot, &chunk.id.key(), clean_up.cancel).await?;
                                    }
                                }
                                ChunkList::Indirect { root, depth, chunks } => {
                                    let (chunks, bytes) = (*chunks, content.stored_length());
                                    let root = ListNode { id: *root, depth: *depth, chunks, bytes };
                                    left.push(NodeToWalk::List(root));
                                }
                            }
                        }
                        clean_up.monitor.add(Counter::Entries, entries.len() as u64);
                    }
                    Node::Chunks(_) | Node::Lists(_) => unreachable!("checked to be of a tree"),
                },
                NodeToWalk::List(told) => match self.reader.node(told).await.map_err(unreadable)? {
                    Node::Lists(children) => left.extend(told.children(&children).map(NodeToWalk::List)),
                    Node::Chunks(chunks) => {
                        for chunk in &chunks {
                            self.need(snapshot, &chunk.id.key(), clean_up.cancel).await?;
                        }
                    }
                    Node::Entries(_) | Node::Children(_) => unreachable!("checked to be of a list"),
                },
            }
            left[from..].reverse();
            self.bring(&left[from..]).await;
        }
        Ok(())
    }

    /// Notes that a chunk is needed, and what its recipes name, through all depths.
    async fn need(&mut self, snapshot: SnapshotId, key: &ChunkKey, cancel: &Cancel) -> Result<(), PruneError> {
        let mut left = vec![*key];
        while let Some(chunk) = left.pop() {
            match self.needed.need(&chunk) {
                NeededChunk::Unplaced => return Err(PruneError::Unplaced { snapshot, chunk }),
                NeededChunk::Known | NeededChunk::New { has_recipes: false } => {}
                NeededChunk::New { has_recipes: true } if cancel.is_cancelled() => return Err(PruneError::Cancelled),
                NeededChunk::New { has_recipes: true } => {
                    let named = named_by_recipes(&self.index, &self.reader, &chunk).await;
                    left.extend(named.map_err(|source| PruneError::Unreadable { snapshot, source })?);
                }
            }
        }
        Ok(())
    }

    /// Brings the frames of nodes that come next, the last first.
    async fn bring(&self, next: &[NodeToWalk]) {
        let next = next.iter().rev().filter(|node| !self.needed.is_walked(&node.id().key())).take(NODES_AHEAD);
        let places: Vec<_> = next.filter_map(|node| self.index.locate(&node.id())).collect();
        if places.len() > 1 {
            // An error is met again, and told, when the node is walked.
            self.reader.bring(places).await;
        }
    }

    /// Makes sure that each chunk which is needed lies in a pack that is there.
    fn check_that_all_is_there(&self) -> Result<(), PruneError> {
        let is_kept = |key: &ChunkKey| self.index.places(key).iter().any(|place| self.index.keeps(place.pack));
        let mut kept = LastChunk::default();
        let lost = self.needed.find(|pack| !self.index.keeps(pack), |key, _| !kept.is(key, || is_kept(key)));
        lost.map_or(Ok(()), |(chunk, place)| Err(PruneError::Lost { pack: place.pack, chunk }))
    }
}
