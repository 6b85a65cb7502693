//! Fetching parts of packs: the one place that asks for them, and that remembers what is lost.
//!
//! A pack that is gone or ends early is found once and decides for everything in it: what lies behind its end is not asked
//! for again, chunk by chunk. The same holds for a frame that came wrong twice.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::progress::{Counter, Problem, chain};
use crate::repository::index::Index;
use crate::repository::index::table::{ChunkPlace, FramePlace};
use crate::repository::reader::{ReadError, Reader};
use crate::store::{StoreError, StoreErrorKind};

/// Damaged frames remembered, 200 bytes each; beyond them one is asked for again.
const FRAMES_REMEMBERED: usize = 1 << 16;

/// A frame as the index tells where it is, and whether that index was made anew by then. Of one that came wrong from a place
/// that it is not at, or with a key that is not its own, nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FrameAsIndexed {
    place: FramePlace,
    made_anew: bool,
}

impl FrameAsIndexed {
    /// Tells of a frame as `index`, which gave its location, is now.
    pub(super) fn now(frame: &ChunkPlace, index: &Index) -> Self {
        Self { place: frame.frame_place(), made_anew: index.was_made_anew() }
    }
}

/// A pack in one of the replicas, given by its number.
type PackAt = (usize, PackId);

/// What this run has found to be lost.
#[derive(Debug, Default)]
pub(super) struct LostSoFar {
    /// Packs that end early at a replica, with the bytes that each still has there, and how that showed; of one that is gone,
    /// none.
    packs: Mutex<HashMap<PackAt, (u64, Arc<StoreError>)>>,
    /// How many of these are gone, and how many were when the index was loaded again.
    gone: AtomicU64,
    looked_again: tokio::sync::Mutex<u64>,
    frames: Mutex<HashMap<FrameAsIndexed, ReadError>>,
    /// Packs of which it was told that one replica stood in for another.
    told: Mutex<HashSet<PackId>>,
}

impl LostSoFar {
    /// Returns why the bytes up to `end` of a pack cannot be had, where that is known.
    fn pack(&self, nth: usize, pack: PackId, end: u64) -> Option<ReadError> {
        let packs = self.packs.lock().expect("no panic while held");
        let (length, source) = packs.get(&(nth, pack))?;
        (end > *length).then(|| ReadError::Fetch { pack, source: source.clone() })
    }

    fn note_pack(&self, nth: usize, pack: PackId, length: u64, source: &Arc<StoreError>) {
        let mut packs = self.packs.lock().expect("no panic while held");
        if packs.insert((nth, pack), (length, source.clone())).is_none() && length == 0 {
            self.gone.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns what is wrong with a frame, where that is known.
    pub(super) fn frame(&self, frame: FrameAsIndexed) -> Option<ReadError> {
        self.frames.lock().expect("no panic while held").get(&frame).cloned()
    }

    /// Remembers that a frame came wrong twice; `frame` is from before it was asked for.
    pub(super) fn note_frame(&self, frame: FrameAsIndexed, error: &ReadError) {
        let mut frames = self.frames.lock().expect("no panic while held");
        if frames.len() < FRAMES_REMEMBERED {
            frames.insert(frame, error.clone());
        }
    }
}

impl Reader {
    /// Tells whether there is reason to look again for what was not found in the index as of `loads`: it is loaded again once for
    /// each pack that turned out to be gone, by one of all who miss something at the same time.
    ///
    /// # Errors
    /// [`ReadError::Index`] when it cannot be.
    pub async fn loaded_since(&self, loads: u64) -> Result<bool, ReadError> {
        let mut looked = self.lost.looked_again.lock().await;
        let gone = self.lost.gone.load(Ordering::SeqCst);
        if gone > *looked {
            let again = self.index.load_again(&self.repository, &*self.monitor).await;
            again.map_err(|error| ReadError::Index(Arc::new(error)))?;
            *looked = gone;
        }
        Ok(self.index.loads() != loads)
    }

    /// Returns the bytes of `range` of a pack from the first replica that has them, unchecked.
    ///
    /// # Errors
    /// [`ReadError::Fetch`]; [`ReadError::is_damage`] tells whether the bytes are lost or only out of reach.
    pub(super) async fn fetch(&self, pack: PackId, range: Range<u64>) -> Result<FromReplica, ReadError> {
        let mut asking = InTurn::over(self);
        while let Some(nth) = asking.next() {
            match self.fetch_at(nth, pack, range.clone()).await {
                Ok(bytes) => return Ok(asking.told(FromReplica { nth, bytes })),
                Err(error) => asking.failed(error),
            }
        }
        Err(asking.error())
    }

    /// Tells, once for each pack, that what replicas before the `nth` did not give came from it.
    fn tell_passed_over(&self, nth: usize, error: &ReadError) {
        let Some(pack) = error.pack() else { return };
        if self.lost.told.lock().expect("no panic while held").insert(pack) {
            let giver = self.repository.objects().replicas().all()[nth].name();
            let message = format!("{}; it was read from replica {giver}", chain(error));
            self.monitor.note(Problem::advice(ObjectKey::pack(pack).to_string(), message));
        }
    }

    /// Returns the bytes of `range` of a pack as the `nth` replica has them, unchecked.
    ///
    /// Where the pack is gone or too short, that is asked twice, in two ways, and then remembered for the whole pack.
    pub(super) async fn fetch_at(&self, nth: usize, pack: PackId, range: Range<u64>) -> Result<Bytes, ReadError> {
        if let Some(known) = self.lost.pack(nth, pack, range.end) {
            return Err(known);
        }
        let objects = self.repository.objects();
        let error = match objects.pack_range(nth, pack, range.clone()).await {
            Ok(bytes) => return Ok(self.counted(bytes)),
            Err(error) => Arc::new(error),
        };
        let failed = |source| Err(ReadError::Fetch { pack, source });
        // What the disk cannot read was asked for twice below, and says nothing about the rest of the pack.
        if !error.kind.is_damage() || error.kind == StoreErrorKind::Unreadable {
            return failed(error);
        }
        match objects.pack_size_at(nth, pack).await {
            Ok(size) if size < range.end => self.lost.note_pack(nth, pack, size, &error),
            // It is all there: the first answer was not about what is stored.
            Ok(_) => match objects.pack_range(nth, pack, range).await {
                Ok(bytes) => return Ok(self.counted(bytes)),
                Err(again) => return failed(Arc::new(again)),
            },
            Err(gone) if gone.kind == StoreErrorKind::NotFound => self.lost.note_pack(nth, pack, 0, &error),
            Err(other) => return failed(Arc::new(other)),
        }
        failed(error)
    }

    fn counted(&self, bytes: Bytes) -> Bytes {
        self.monitor.add(Counter::FetchedBytes, bytes.len() as u64);
        bytes
    }
}

/// Bytes, unchecked, and the number of the replica that gave them.
#[derive(Debug, Clone)]
pub(super) struct FromReplica {
    pub(super) nth: usize,
    pub(super) bytes: Bytes,
}

/// The replicas asked in turn for a part of a pack, and how those failed that were asked so far.
pub(super) struct InTurn<'a> {
    reader: &'a Reader,
    asked: usize,
    failed: Option<ReadError>,
}

impl<'a> InTurn<'a> {
    pub(super) fn over(reader: &'a Reader) -> Self {
        Self { reader, asked: 0, failed: None }
    }

    /// Returns the number of the next replica to be asked.
    pub(super) fn next(&mut self) -> Option<usize> {
        let nth = self.asked;
        self.asked += 1;
        (nth < self.reader.repository.objects().replicas().all().len()).then_some(nth)
    }

    /// Notes how the replica failed. The first failure counts; one that is not damage comes before, since it leaves the
    /// answer open.
    pub(super) fn failed(&mut self, error: ReadError) {
        if self.failed.as_ref().is_none_or(|first| first.is_damage() && !error.is_damage()) {
            self.failed = Some(error);
        }
    }

    /// Hands on what the replica gave, and tells where it stood in for another.
    pub(super) fn told<T>(self, given: T) -> T {
        if let Some(error) = self.failed {
            self.reader.tell_passed_over(self.asked - 1, &error);
        }
        given
    }

    /// Returns why no replica gave it.
    pub(super) fn error(self) -> ReadError {
        self.failed.expect("there is a replica, and it failed")
    }
}
