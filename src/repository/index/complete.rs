//! The complete face: every segment read, every snapshot opened, every replica asked, or an error. Whoever deletes takes
//! this one and no other, because what half an index does not know looks like what nobody needs.
//!
//! Two kinds of snapshots are no doubt: those of a domain that the keyring names as erased, which nobody can read any more, and
//! those that no session of this repository made, unless a list of cleaning up accounts for them.
//! Segments of an erased domain name nothing.
//!
//! ```
//! # use coffre::repository::access::Deleting;
//! # use coffre::repository::index::complete::CompleteIndex;
//! fn delete_unneeded(deleting: &Deleting, index: &CompleteIndex) {}
//! ```
//!
//! The index that serves restoring is not taken for it:
//!
//! ```compile_fail,E0308
//! # use coffre::repository::access::Deleting;
//! # use coffre::repository::index::{Index, complete::CompleteIndex};
//! # fn delete_unneeded(deleting: &Deleting, index: &CompleteIndex) {}
//! fn clean_up(deleting: &Deleting, index: &Index) {
//!     delete_unneeded(deleting, index);
//! }
//! ```
//!
//! Nor is that of a writer, which leaves out what it must not rely on:
//!
//! ```compile_fail,E0308
//! # use coffre::repository::access::Deleting;
//! # use coffre::repository::index::{checked::CheckedIndex, complete::CompleteIndex};
//! # fn delete_unneeded(deleting: &Deleting, index: &CompleteIndex) {}
//! fn clean_up(deleting: &Deleting, index: &CheckedIndex) {
//!     delete_unneeded(deleting, index);
//! }
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::format::FormatError;
use crate::model::id::{DomainEpoch, PackId, SegmentId, SessionId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{Foreign, Snapshot, SnapshotId, TreeRoot};
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::access::Deleting;
use crate::repository::cleanups::Cleanups;
use crate::repository::index::available::LISTINGS;
use crate::repository::index::presence::ids;
use crate::repository::index::{Index, IndexError};
use crate::repository::objects::ListedPacks;
use crate::repository::snapshots::SnapshotError;
use crate::repository::state::LeftLists;

/// Why it is not known what is needed, so that nothing may be deleted.
#[derive(Debug, thiserror::Error)]
pub enum IncompleteError {
    /// A part of the index is missing.
    #[error("the index is not complete, so nothing may be deleted")]
    Index(#[from] IndexError),
    /// A list of cleaning up cannot be opened.
    #[error("{key} cannot be opened ({why}), so nothing may be deleted")]
    List {
        /// The list.
        key: ObjectKey,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot that an earlier clean-up found is not there, and nobody removed it.
    #[error("{key} is not there, and was not removed, so nothing may be deleted")]
    Hidden {
        /// The snapshot.
        key: ObjectKey,
    },
    /// A snapshot is another object than an earlier clean-up found.
    #[error("{key} is not what it was, so nothing may be deleted")]
    Exchanged {
        /// The snapshot.
        key: ObjectKey,
    },
    /// A snapshot cannot be opened, or they cannot all be listed.
    #[error("not every snapshot can be opened, so nothing may be deleted")]
    Snapshots(#[from] SnapshotError),
}

impl Ended for IncompleteError {
    fn outcome(&self) -> Outcome {
        match self {
            IncompleteError::Index(error) => error.outcome(),
            IncompleteError::Snapshots(error) => error.outcome(),
            IncompleteError::List { .. } | IncompleteError::Hidden { .. } | IncompleteError::Exchanged { .. } => {
                Outcome::Damaged
            }
        }
    }
}

/// Packs asked for by themselves where a listing lacks them.
const ASKED: usize = 1000;

/// A snapshot that counts, and what is asked about it when something is to be deleted: the whole of it would take some KiB, of each of
/// many thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeedingSnapshot {
    /// Its name.
    pub id: SnapshotId,
    /// The domain and epoch that it is of.
    pub at: DomainEpoch,
    /// The run that made it.
    pub session: SessionId,
    /// The top of its tree.
    pub root: TreeRoot,
    /// The number of the highest list of cleaning up that its run honoured.
    pub honoured: Option<u64>,
    /// SHA-256 of its object.
    pub digest: Option<[u8; 32]>,
    /// Another cleaner is about to remove it, and may yet take that back: what it needs stays, as far as it is there.
    pub is_leaving: bool,
}

impl NeedingSnapshot {
    fn of(snapshot: &Snapshot) -> Self {
        let Snapshot { id, at, session, root, honoured, digest, .. } = *snapshot;
        Self { id, at, session, root, honoured, digest, is_leaving: false }
    }
}

/// All that is stored and all that is needed, as of when it was loaded.
#[derive(Debug)]
pub struct CompleteIndex {
    index: Arc<Index>,
    snapshots: Vec<NeedingSnapshot>,
    cleanups: Arc<Cleanups>,
    listed: BTreeSet<SnapshotId>,
    packs: StoredPacks,
}

/// What there is of packs.
#[derive(Debug)]
struct StoredPacks {
    /// They are in every required replica as segments say, and not being deleted.
    kept: HashSet<PackId>,
    /// They are in some required replica, whatever becomes of them, with their lengths where all have them alike.
    there: HashMap<PackId, u64>,
    /// They are there, and no segment names them.
    unnamed: Vec<PackId>,
    /// They are being deleted, there or not.
    deleting: HashSet<PackId>,
}

impl Deref for CompleteIndex {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl CompleteIndex {
    /// Opens all snapshots, then reads all segments: what a snapshot needs was indexed before it was visible.
    ///
    /// # Errors
    /// [`IncompleteError`] for the first doubt.
    pub async fn load(deleting: &Deleting, monitor: &dyn Monitor) -> Result<Self, IncompleteError> {
        let repository = deleting.repository();
        let cleanups = repository.cleanups().await.map_err(SnapshotError::List)?;
        if let Some((key, why)) = cleanups.damaged().first() {
            return Err(IncompleteError::List { key: key.clone(), why: why.clone() });
        }
        let ids = repository.objects().every_snapshot().await.map_err(SnapshotError::List)?;
        let is_hidden =
            |id: &SnapshotId| ids.binary_search(id).is_err() && !cleanups.is_gone(&ObjectKey::snapshot(*id));
        let writers = repository.keys().writers().iter();
        let counting = writers.flat_map(|writer| cleanups.counting(&writer.counting));
        let hidden: BTreeSet<SnapshotId> = cleanups.accounted().chain(counting).filter(is_hidden).collect();
        for missing in hidden {
            if !repository.was_removed(missing).await? {
                return Err(IncompleteError::Hidden { key: ObjectKey::snapshot(missing) });
            }
        }
        let listed: BTreeSet<SnapshotId> = ids.iter().copied().collect();
        let ids = repository.that_count(ids, &cleanups).await;
        let mut opening = repository.listed_snapshots(ids);
        let mut snapshots = Vec::new();
        while let Some((id, snapshot)) = opening.next().await {
            match snapshot {
                Ok(snapshot) if snapshot.foreign == Some(Foreign::Exchanged) => {
                    return Err(IncompleteError::Exchanged { key: ObjectKey::snapshot(id) });
                }
                // What nobody may have written, nobody needs, unless a list has accounted for it while it counted.
                Ok(snapshot) if snapshot.foreign.is_some() && !cleanups.is_accounted(id) => {}
                Ok(snapshot) => snapshots.push(NeedingSnapshot::of(&snapshot)),
                Err(error)
                    if error.is_erased(repository.keys()) || error.is_nobodys() && !cleanups.is_accounted(id) =>
                {
                    monitor.problem(Problem::advice(ObjectKey::snapshot(id).to_string(), error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        snapshots.extend(leaving(repository, &cleanups, &listed).await);
        let index = complete_index(repository, &cleanups, monitor).await?;
        let packs = StoredPacks::of(repository, &index, &cleanups).await?;
        Ok(Self { index: Arc::new(index), snapshots, cleanups, listed, packs })
    }

    /// Returns the index for a reader.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Returns all snapshots that count, the oldest first, and behind them those that are leaving: what they need is all that is needed.
    pub fn snapshots(&self) -> &[NeedingSnapshot] {
        &self.snapshots
    }

    /// Returns the names of all snapshots that any replica listed, whether they count or not.
    pub fn listed(&self) -> &BTreeSet<SnapshotId> {
        &self.listed
    }

    /// Returns what was told of cleaning up before anything was listed.
    pub fn cleanups(&self) -> &Arc<Cleanups> {
        &self.cleanups
    }

    /// Tells whether a pack is there, as long as a segment says, in every replica that is written to, and is not being deleted.
    pub fn keeps(&self, pack: PackId) -> bool {
        self.packs.kept.contains(&pack)
    }

    /// Tells whether a list says of a pack that it is being deleted.
    pub fn is_being_deleted(&self, pack: PackId) -> bool {
        self.packs.deleting.contains(&pack)
    }

    /// Returns the packs that are there and that no segment names, in order.
    pub fn unnamed(&self) -> Vec<PackId> {
        self.packs.unnamed.clone()
    }

    /// Returns the length of a pack that is there, as it is listed.
    pub fn stored_size(&self, pack: PackId) -> u64 {
        self.packs.there.get(&pack).copied().unwrap_or(0)
    }

    /// Tells whether a pack is in any replica that is written to, whatever becomes of it.
    pub fn is_there(&self, pack: PackId) -> bool {
        self.packs.there.contains_key(&pack)
    }
}

/// Opens those of listed snapshots that another cleaner is about to remove and may yet take back. One that cannot be opened by now may be
/// removed already.
async fn leaving(
    repository: &Arc<Repository>,
    cleanups: &Cleanups,
    listed: &BTreeSet<SnapshotId>,
) -> Vec<NeedingSnapshot> {
    let own: Vec<_> = [LeftLists::Removing, LeftLists::Removed].map(|left| repository.state().left(left)).concat();
    let ids = listed.iter().copied().filter(|id| cleanups.may_come_back(*id, &own)).collect();
    let opened = repository.listed_snapshots(ids).filter_map(async |(_, snapshot)| snapshot.ok());
    opened.map(|snapshot| NeedingSnapshot { is_leaving: true, ..NeedingSnapshot::of(&snapshot) }).collect().await
}

/// Reads every segment that any replica has. What was merged meanwhile is not there any more, so one that is missed is listed again.
async fn complete_index(
    repository: &Repository,
    cleanups: &Cleanups,
    monitor: &dyn Monitor,
) -> Result<Index, IncompleteError> {
    let mut missing = None;
    for _ in 0..LISTINGS {
        let segments = repository.objects().every_segment().await.map_err(IndexError::Store)?;
        let index = Index::load(repository, monitor).await?;
        let wrong = || index.tables().into_iter().find(|table| !table.is_sound());
        if wrong().is_some() {
            index.make_anew(repository, monitor).await?;
        }
        if let Some(id) = wrong().and_then(|table| table.segments().first().copied()) {
            let why = "what the cache has of it is not as it was written, and it could not be read again".into();
            let source = FormatError::Invalid { what: "an index segment", why };
            return Err(IndexError::Damaged { key: ObjectKey::segment(id), source }.into());
        }
        if let Some((key, source)) = index.damaged().iter().find(|(key, _)| !cleanups.is_gone(key)) {
            return Err(IndexError::Damaged { key: key.clone(), source: source.clone() }.into());
        }
        let read = index.segments();
        let is_missing = |id: &&SegmentId| !read.contains(*id) && !cleanups.is_gone(&ObjectKey::segment(**id));
        missing = segments.iter().find(is_missing).copied();
        if missing.is_none() {
            return Ok(index);
        }
    }
    let key = ObjectKey::segment(missing.expect("found by each listing"));
    let source = FormatError::Invalid { what: "an index segment", why: "it is listed and was not read".into() };
    Err(IndexError::Damaged { key, source }.into())
}

impl StoredPacks {
    async fn of(repository: &Repository, index: &Index, cleanups: &Cleanups) -> Result<Self, IndexError> {
        let mut listed = ListedPacks { deleting: cleanups.deleting(), ..repository.objects().packs().await? };
        let unstored = index.unstored(repository, &mut listed, ASKED).await?;
        if let Some(refused) = listed.refused {
            return Err(refused.into());
        }
        let unstored: HashSet<PackId> = ids(&unstored).collect();
        let known = index.pack_sizes();
        let is_kept = |pack: &PackId| !listed.deleting.contains(pack) && !unstored.contains(pack);
        let kept = ids(&known).filter(is_kept).collect();
        let mut there = listed.sizes;
        for pack in listed.partly {
            there.entry(pack).or_insert(0);
        }
        let is_named = |pack: &PackId| known.binary_search_by_key(pack, |(known, _)| *known).is_ok();
        let mut unnamed: Vec<PackId> = there.keys().filter(|pack| !is_named(pack)).copied().collect();
        unnamed.sort_unstable();
        Ok(Self { kept, there, unnamed, deleting: listed.deleting })
    }
}
