//! Frames: fetched, opened and decompressed once for all who ask at the same time, and kept for who asks soon after.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::blocking::blocking;
use crate::compress::decompress;
use crate::crypto::pack::PackOpener;
use crate::repository::index::table::{ChunkPlace, FramePlace, PackInfo};
use crate::repository::reader::fetch::{FrameAsIndexed, FromReplica, InTurn};
use crate::repository::reader::{ReadError, Reader};

/// The part of the memory given in which decoded frames are kept for chunks that are asked for soon after.
const FRAMES_KEPT_SHARE: u64 = 8;
/// What a frame that is kept counts for at least. Its place and its lock take memory as well, and whoever lies may tell of millions of
/// frames of one byte.
const CELL_BYTES_LEAST: usize = 4096;

/// A frame, once it is there. Whoever holds the lock of one that is not yet there is bringing it, and waits for nobody.
pub(super) type FrameCell = Arc<Mutex<Option<Arc<Vec<u8>>>>>;
/// The right to bring a frame. Dropped before it is there, it goes to whoever waits.
pub(super) type FrameClaim = OwnedMutexGuard<Option<Arc<Vec<u8>>>>;

/// Frames that are kept, or on their way to be.
#[derive(Default)]
pub(super) struct FrameCache {
    cells: HashMap<FramePlace, (FrameCell, usize)>,
    order: VecDeque<FramePlace>,
    bytes: usize,
}

impl FrameCache {
    /// Returns where a frame is kept, after making room for it in `room` bytes.
    fn cell(&mut self, location: &ChunkPlace, room: u64) -> FrameCell {
        let (key, bytes) = (location.frame_place(), (location.plain_len as usize).max(CELL_BYTES_LEAST));
        if let Some((cell, _)) = self.cells.get(&key) {
            return cell.clone();
        }
        while (self.bytes + bytes) as u64 > room
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some((_, bytes)) = self.cells.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
        let cell = FrameCell::default();
        self.cells.insert(key, (cell.clone(), bytes));
        self.order.push_back(key);
        self.bytes += bytes;
        cell
    }
}

/// What becomes of a frame that somebody wants.
pub(super) enum Claimed {
    /// Whoever asked is to bring it.
    Ours(FrameClaim),
    /// It is there.
    There(Arc<Vec<u8>>),
    /// Another one is bringing it.
    Others(FrameCell),
}

impl Claimed {
    /// Claims a frame that is kept for nobody.
    pub(super) fn alone() -> Self {
        Claimed::of(FrameCell::default())
    }

    fn of(cell: FrameCell) -> Self {
        match cell.clone().try_lock_owned() {
            Ok(claim) => claim.clone().map_or(Claimed::Ours(claim), Claimed::There),
            Err(_) => Claimed::Others(cell),
        }
    }
}

impl Reader {
    /// Returns the plaintext of the frame at `location`, fetched and decoded once for all who ask at the same time.
    ///
    /// # Errors
    /// Any [`ReadError`] but [`ReadError::WrongChunk`].
    pub async fn frame(self: &Arc<Self>, location: &ChunkPlace) -> Result<Arc<Vec<u8>>, ReadError> {
        let cell = self.cache().cell(location, self.room());
        let mut kept = cell.lock().await;
        if let Some(frame) = &*kept {
            return Ok(frame.clone());
        }
        let frame = self.fetch_frame(*location).await?;
        *kept = Some(frame.clone());
        Ok(frame)
    }

    /// Claims frames that are to be kept, all at once: of two who want the same ones, one brings them all.
    pub(super) fn claim(&self, frames: &[ChunkPlace]) -> Vec<Claimed> {
        let mut cache = self.cache();
        frames.iter().map(|location| Claimed::of(cache.cell(location, self.room()))).collect()
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, FrameCache> {
        self.frames.lock().expect("no panic while held")
    }

    fn room(&self) -> u64 {
        self.memory_bytes / FRAMES_KEPT_SHARE
    }

    /// Fetches and decodes a frame. One that comes wrong is asked for once more, then at the next replica.
    pub(super) async fn fetch_frame(self: &Arc<Self>, location: ChunkPlace) -> Result<Arc<Vec<u8>>, ReadError> {
        match self.lost.frame(FrameAsIndexed::now(&location, &self.index)) {
            Some(known) => Err(known),
            None => self.frame_from_replicas(location, None).await,
        }
    }

    /// Decodes a frame that came from a replica. One that came wrong is fetched as [`Reader::fetch_frame`] does.
    pub(super) async fn open_frame(
        self: &Arc<Self>,
        location: ChunkPlace,
        came: FromReplica,
    ) -> Result<Arc<Vec<u8>>, ReadError> {
        match self.decoded(location, came.bytes.clone()).await {
            Err(ReadError::Damaged { .. } | ReadError::Undecodable { .. }) => {
                self.frame_from_replicas(location, Some(came)).await
            }
            other => other,
        }
    }

    async fn frame_from_replicas(
        self: &Arc<Self>,
        location: ChunkPlace,
        came: Option<FromReplica>,
    ) -> Result<Arc<Vec<u8>>, ReadError> {
        let asked = FrameAsIndexed::now(&location, &self.index);
        let mut asking = InTurn::over(self);
        while let Some(nth) = asking.next() {
            let first = came.as_ref().filter(|came| came.nth == nth).map(|came| came.bytes.clone());
            match self.frame_from_replica(nth, location, first).await {
                Ok(frame) => return Ok(asking.told(frame)),
                Err(error) => asking.failed(error),
            }
        }
        let error = asking.error();
        if error.is_damage() {
            self.lost.note_frame(asked, &error);
        }
        Err(error)
    }

    /// Decodes a frame as one replica has it, asked twice unless the `first` answer is there already.
    async fn frame_from_replica(
        self: &Arc<Self>,
        nth: usize,
        location: ChunkPlace,
        first: Option<Bytes>,
    ) -> Result<Arc<Vec<u8>>, ReadError> {
        let start = u64::from(location.frame_offset);
        let range = start..start + u64::from(location.sealed_len);
        let first = match first {
            Some(first) => first,
            None => self.fetch_at(nth, location.pack, range.clone()).await?,
        };
        let error = match self.decoded(location, first.clone()).await {
            Err(error @ (ReadError::Damaged { .. } | ReadError::Undecodable { .. })) => error,
            other => return other,
        };
        let pack = location.pack;
        let looked_back = self.repository.objects().look_back_at(nth, pack).await;
        looked_back.map_err(|source| ReadError::Fetch { pack, source: Arc::new(source) })?;
        let second = self.fetch_at(nth, pack, range).await?;
        if second == first {
            return Err(error);
        }
        self.decoded(location, second).await.map_err(|_| error)
    }

    async fn decoded(self: &Arc<Self>, location: ChunkPlace, sealed: Bytes) -> Result<Arc<Vec<u8>>, ReadError> {
        let reader = self.clone();
        blocking(move || reader.decode(&location, sealed.into())).await.map(Arc::new)
    }

    /// Opens and decompresses a frame, with whichever record of its pack has the key to it.
    fn decode(&self, location: &ChunkPlace, sealed: Vec<u8>) -> Result<Vec<u8>, ReadError> {
        let pack = location.pack;
        let mut records = self.index.pack(pack).into_iter().peekable();
        let (mut sealed, mut failed) = (Some(sealed), ReadError::NoPack { pack });
        while let Some(record) = records.next() {
            // Opening changes the bytes, so each record but the last gets its own.
            let bytes = if records.peek().is_none() { sealed.take() } else { sealed.clone() };
            match self.opener(&record).and_then(|opener| decoded_with(&opener, location, bytes.unwrap_or_default())) {
                Ok(plain) => return Ok(plain),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Derives the key that opens a pack's frames, comparing its commitment with the record's.
    pub(super) fn opener(&self, record: &PackInfo) -> Result<PackOpener, ReadError> {
        let pack = record.id;
        let secret =
            self.repository.keys().session_secret(&record.header).map_err(|source| ReadError::Key { pack, source })?;
        PackOpener::new(&secret, self.repository.id(), pack, &record.commitment).map_err(|source| ReadError::Damaged {
            pack,
            frame: 0,
            source,
        })
    }
}

/// Opens and decompresses a frame.
pub(super) fn decoded_with(
    opener: &PackOpener,
    location: &ChunkPlace,
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>, ReadError> {
    let (pack, frame) = (location.pack, location.frame);
    let encoded = opener.open_frame(frame, &mut sealed).map_err(|source| ReadError::Damaged { pack, frame, source })?;
    decompress(location.codec, encoded, location.plain_len).map_err(|source| ReadError::Undecodable {
        pack,
        frame,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::author::Author;
    use crate::model::id::PackId;

    #[test]
    fn frames_of_a_byte_take_no_more_memory_than_others() {
        let kept_of = |plain_len: u32| {
            let mut cache = FrameCache::default();
            for frame in 0..1000 {
                let location = ChunkPlace {
                    pack: PackId([1; 16]),
                    author: Author::Reader,
                    kind: PackKind::Data,
                    frame,
                    frame_offset: 0,
                    sealed_len: 17,
                    plain_len,
                    codec: Codec::Stored,
                    offset: 0,
                    length: plain_len,
                };
                cache.cell(&location, 1 << 20);
            }
            assert_eq!(cache.cells.len(), cache.order.len());
            cache.cells.len()
        };
        assert_eq!([1, 4096, 64 << 10].map(kept_of), [256, 256, 16]);
    }
}
