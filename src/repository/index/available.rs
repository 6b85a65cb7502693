//! The available face: what can be read of the index is used, what cannot is told and left out. It serves restoring, where
//! half an index is better than none, and can be handed neither to a writer nor to whoever deletes.

use std::collections::{BTreeSet, HashSet};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64};

use futures::stream::TryStreamExt;
use tokio::sync::OnceCell;

use crate::format::FormatError;
use crate::model::id::SegmentId;
use crate::model::key::ObjectKey;
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::shelf::Shelf;
use crate::repository::index::{Index, IndexError, opened_segments};

/// Times that segments are listed before one that is listed and cannot be found counts as lost: whoever merges segments
/// puts the new one before the old ones go.
pub(super) const LISTINGS: usize = 3;

/// The segments that count, as of a listing.
pub(super) struct ListedSegments {
    pub(super) all: BTreeSet<SegmentId>,
    /// Those that some required replica lacks.
    lacking: BTreeSet<SegmentId>,
}

impl ListedSegments {
    /// Lists them, without those that a list names as gone: a replica that was away, or a listing that lags, may show them. Lists
    /// are read for that where some replica lacks a segment, or something else is `doubtful`.
    pub(super) async fn of(repository: &Repository, doubtful: bool) -> Result<Self, IndexError> {
        let (mut all, mut lacking) = repository.objects().segments().await?;
        let cleanups = match doubtful || !lacking.is_empty() {
            true => Some(repository.cleanups().await?),
            false => repository.lists.read().await.clone(),
        };
        for segments in [&mut all, &mut lacking] {
            segments.retain(|id| !cleanups.as_ref().is_some_and(|it| it.is_gone(&ObjectKey::segment(*id))));
        }
        Ok(Self { all, lacking })
    }
}

impl Index {
    /// Brings the local tables up to date with the store and maps them.
    ///
    /// A damaged segment is reported to `monitor` and left out: what it alone knows is read as missing, and a backup
    /// stores it again. A cache that cannot be used is told and costs fetching everything.
    ///
    /// # Errors
    /// [`IndexError`] when the store fails, or there is no room for tables anywhere.
    pub async fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, IndexError> {
        monitor.phase("reading the index");
        let shelf = Shelf::new(repository.cache());
        let mut index = Self {
            shelf,
            tables: RwLock::default(),
            superseded: RwLock::default(),
            unreliable: HashSet::new(),
            trusted: None,
            lacking: BTreeSet::new(),
            damaged: Vec::new(),
            from_cache: BTreeSet::new(),
            made_anew: OnceCell::new(),
            again: tokio::sync::Mutex::default(),
            loads: AtomicU64::new(0),
            kept_apart: AtomicBool::new(false),
        };
        let mut lost = Vec::new();
        for listing in 0..LISTINGS {
            let wanted = ListedSegments::of(repository, listing > 0).await?;
            index.lacking = wanted.lacking;
            let wanted = wanted.all;
            if listing == 0 {
                index.tables = RwLock::new(index.shelf.tables(&wanted));
                index.from_cache = index.segments();
            }
            lost = index.fetch(repository, wanted, monitor).await?;
            if lost.is_empty() {
                break;
            }
        }
        for id in lost {
            let why = "it is listed and cannot be found".into();
            index.note_damaged(id, FormatError::Invalid { what: "an index segment", why }, monitor);
        }
        index.shelf.tell(monitor);
        repository.objects().replicas().take_concerns().into_iter().for_each(|concern| monitor.note(concern));
        Ok(index)
    }

    fn note_damaged(&mut self, id: SegmentId, source: FormatError, monitor: &dyn Monitor) {
        let key = ObjectKey::segment(id);
        monitor.problem(Problem::damaged(key.to_string(), source.to_string()));
        self.damaged.push((key, source));
    }

    /// Fetches the segments that no table covers yet; returns those that are not there.
    async fn fetch(
        &mut self,
        repository: &Repository,
        wanted: BTreeSet<SegmentId>,
        monitor: &dyn Monitor,
    ) -> Result<Vec<SegmentId>, IndexError> {
        let known = self.segments();
        let is_damaged = |id: &SegmentId| self.damaged.iter().any(|(key, _)| *key == ObjectKey::segment(*id));
        let missing = wanted.into_iter().filter(|id| !known.contains(id) && !is_damaged(id)).collect();
        let mut lost = Vec::new();
        for (id, source) in self.add_segments(repository, missing, &mut lost).await? {
            self.note_damaged(id, source, monitor);
        }
        Ok(lost)
    }

    /// Makes tables of segments; returns those that are damaged, and adds to `lost` those that are not there.
    pub(super) async fn add_segments(
        &self,
        repository: &Repository,
        wanted: Vec<SegmentId>,
        lost: &mut Vec<SegmentId>,
    ) -> Result<Vec<(SegmentId, FormatError)>, IndexError> {
        let mut fetches = opened_segments(repository, wanted);
        let mut damaged = Vec::new();
        // One segment at a time becomes a table, so that memory does not grow with their number.
        while let Some((id, opened, _room)) = fetches.try_next().await? {
            match opened {
                Some(Ok(segment)) => self.add_segment(id, segment.author(), segment.packs())?,
                Some(Err(source)) => damaged.push((id, source)),
                None => lost.push(id),
            }
        }
        Ok(damaged)
    }

    /// Returns the segments that could not be read.
    pub fn damaged(&self) -> &[(ObjectKey, FormatError)] {
        &self.damaged
    }
}
