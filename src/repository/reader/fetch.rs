//! Fetching parts of packs: the one place that asks for them, and that remembers what is lost.
//!
//! A pack that is gone or ends early is found once and decides for everything in it: what lies behind its end is not asked
//! for again, chunk by chunk. The same holds for a frame that came wrong twice.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::progress::Counter;
use crate::repository::reader::{FrameKey, ReadError, Reader};
use crate::store::{StoreError, StoreErrorKind};

/// Damaged frames remembered, 200 bytes each; beyond them one is asked for again.
const FRAMES_REMEMBERED: usize = 1 << 16;

/// What this run has found to be lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Packs that end early, with the bytes that each still has, and how that showed; of one that is gone, none.
    packs: Mutex<HashMap<PackId, (u64, Arc<StoreError>)>>,
    frames: Mutex<HashMap<FrameKey, ReadError>>,
}

impl Lost {
    /// Returns why the bytes up to `end` of a pack cannot be had, where that is known.
    fn pack(&self, pack: PackId, end: u64) -> Option<ReadError> {
        let packs = self.packs.lock().expect("no panic while held");
        let (length, source) = packs.get(&pack)?;
        (end > *length).then(|| ReadError::Fetch { pack, source: source.clone() })
    }

    fn note_pack(&self, pack: PackId, length: u64, source: &Arc<StoreError>) {
        self.packs.lock().expect("no panic while held").insert(pack, (length, source.clone()));
    }

    /// Returns what is wrong with a frame, where that is known.
    pub(super) fn frame(&self, key: FrameKey) -> Option<ReadError> {
        self.frames.lock().expect("no panic while held").get(&key).cloned()
    }

    /// Remembers that a frame came wrong twice.
    pub(super) fn note_frame(&self, key: FrameKey, error: &ReadError) {
        let mut frames = self.frames.lock().expect("no panic while held");
        if frames.len() < FRAMES_REMEMBERED {
            frames.insert(key, error.clone());
        }
    }
}

impl Reader {
    /// Returns the bytes of `range` of a pack as the store has them, unchecked.
    ///
    /// Where the pack is gone or too short, that is asked twice, in two ways, and then remembered for the whole pack.
    ///
    /// # Errors
    /// [`ReadError::Fetch`]; [`ReadError::is_damage`] tells whether the bytes are lost or only out of reach.
    pub async fn fetch(&self, pack: PackId, range: Range<u64>) -> Result<Bytes, ReadError> {
        if let Some(known) = self.lost.pack(pack, range.end) {
            return Err(known);
        }
        let (store, key) = (self.repository.store(), ObjectKey::pack(pack));
        let error = match store.get_range(&key, range.clone()).await {
            Ok(bytes) => return Ok(self.counted(bytes)),
            Err(error) => Arc::new(error),
        };
        let failed = |source| Err(ReadError::Fetch { pack, source });
        // What the disk cannot read was asked for twice below, and says nothing about the rest of the pack.
        if !error.kind.is_damage() || error.kind == StoreErrorKind::Unreadable {
            return failed(error);
        }
        match store.head(&key).await {
            Ok(info) if info.size < range.end => self.lost.note_pack(pack, info.size, &error),
            // It is all there: the first answer was not about what is stored.
            Ok(_) => match store.get_range(&key, range).await {
                Ok(bytes) => return Ok(self.counted(bytes)),
                Err(again) => return failed(Arc::new(again)),
            },
            Err(gone) if gone.kind == StoreErrorKind::NotFound => self.lost.note_pack(pack, 0, &error),
            Err(other) => return failed(Arc::new(other)),
        }
        failed(error)
    }

    fn counted(&self, bytes: Bytes) -> Bytes {
        self.monitor.add(Counter::FetchedBytes, bytes.len() as u64);
        bytes
    }
}
