//! A window of chunks: sorted by pack and frame, so that each frame is fetched and decoded once.
//!
//! A window is bounded in files and in chunks, whatever the files are: a file of more chunks than a window takes is written
//! in several, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use crate::blocking::blocking;
use crate::model::entry::ChunkRef;
use crate::model::id::ChunkId;
use crate::ops::Cancel;
use crate::ops::restore::RestoreError;
use crate::ops::restore::lost::Why;
use crate::ops::restore::places::{Piece, Places};
use crate::ops::restore::writer::{FileJob, FileWriter, Written};
use crate::repository::index::table::Location;
use crate::repository::reader::chunks::ChunkWalk;
use crate::repository::reader::{ReadError, Reader};

/// Files in a window.
const FILES: usize = 16_384;
/// Chunks in a window, at most.
const CHUNKS: usize = 131_072;
/// What a chunk takes while it waits, in bytes.
const CHUNK_BYTES: u64 = 160;
/// The part of the memory given that waiting chunks may take.
const WAITING_SHARE: u64 = 8;
/// The most bytes of neighbouring frames fetched at once.
const RANGE_BYTES: u64 = 4 << 20;
/// Bytes between two frames that are fetched and thrown away rather than asked for separately.
const GAP_BYTES: u64 = 64 << 10;
/// Ranges in flight at most; each needs up to 4 MiB, and as much decoded.
const RANGES_MAX: usize = 16;

/// A chunk and where it goes.
#[derive(Debug)]
pub(super) struct Placement {
    /// Which file of the window.
    pub(super) file: u32,
    pub(super) id: ChunkId,
    pub(super) location: Location,
    pub(super) pieces: Vec<Piece>,
}

/// A file whose chunks are being added to windows.
pub(super) struct Adding {
    job: Arc<FileJob>,
    walk: ChunkWalk,
    places: Places,
}

impl Adding {
    /// Begins with a file, which has a content.
    pub(super) fn new(reader: &Arc<Reader>, job: FileJob) -> Option<Self> {
        let content = job.entry.content()?;
        let (walk, places) = (reader.chunks(&content.chunks, content.stored_length()), Places::new(content));
        Some(Self { job: Arc::new(job), walk, places })
    }
}

/// Files to be written together.
#[derive(Debug)]
pub(super) struct Window {
    files: Vec<Arc<FileJob>>,
    placements: Vec<Placement>,
    chunks_max: usize,
}

impl Window {
    pub(super) fn new(memory_bytes: u64) -> Self {
        let chunks_max = usize::try_from(memory_bytes / WAITING_SHARE / CHUNK_BYTES).unwrap_or(CHUNKS).min(CHUNKS);
        Self { files: Vec::new(), placements: Vec::new(), chunks_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= FILES || self.placements.len() >= self.chunks_max
    }

    /// Adds chunks of a file until the window is full or the file has no more, and returns whether it has no more. What
    /// cannot be located is noted as damage of the file.
    pub(super) async fn add(
        &mut self,
        reader: &Arc<Reader>,
        adding: &mut Adding,
        cancel: &Cancel,
    ) -> Result<bool, RestoreError> {
        let file = u32::try_from(self.files.len()).expect("a window is bounded");
        self.files.push(adding.job.clone());
        while self.placements.len() < self.chunks_max {
            let (pieces, why) = match cancel.or(adding.walk.next()).await.ok_or(RestoreError::Cancelled)? {
                None => {
                    adding.job.left.fetch_sub(1, Ordering::AcqRel);
                    return Ok(true);
                }
                Some(Ok(ChunkRef { id, length })) => {
                    let pieces = adding.places.take(length);
                    match reader.index().locate(&id).filter(|location| location.length == length) {
                        Some(location) => {
                            self.placements.push(Placement { file, id, location, pieces });
                            adding.job.left.fetch_add(1, Ordering::AcqRel);
                            continue;
                        }
                        None => (pieces, Why::unknown(&id)),
                    }
                }
                Some(Err(lost)) if !lost.error.is_damage() => return Err(RestoreError::Read(lost.error)),
                Some(Err(lost)) => {
                    let mut pieces = Vec::new();
                    let mut bytes = lost.bytes;
                    while bytes > 0 {
                        let step = u32::try_from(bytes).unwrap_or(u32::MAX);
                        pieces.extend(adding.places.take(step));
                        bytes -= u64::from(step);
                    }
                    (pieces, Why::of(&lost.error))
                }
            };
            adding.job.note_lost(&pieces, &why);
        }
        Ok(false)
    }

    /// Fetches, decodes and writes everything, and leaves the window empty.
    ///
    /// # Errors
    /// When the store cannot be reached, or ending was asked for. Nobody is at work any more then.
    pub(super) async fn write(&mut self, writer: FileWriter, cancel: &Cancel) -> Result<Written, RestoreError> {
        let mut placements = std::mem::take(&mut self.placements);
        placements.sort_by_key(|p| {
            (p.location.pack, p.location.frame_offset, p.file, p.pieces.first().map(|piece| piece.file_offset))
        });
        let ranges = into_ranges(placements);
        let writer = Arc::new(FileWriter { files: std::mem::take(&mut self.files), ..writer });
        let ready = writer.clone();
        blocking(move || ready.complete_ready()).await;
        let in_flight =
            usize::try_from(writer.memory_bytes / 4 / (2 * RANGE_BYTES)).unwrap_or(RANGES_MAX).clamp(2, RANGES_MAX);
        let failed: Vec<Placement> = stream::iter(ranges)
            .map(|range| write_range(writer.clone(), range, cancel))
            .buffer_unordered(in_flight)
            .concat()
            .await;
        // What failed is tried alone, from every pack that holds it.
        for placement in failed {
            if writer.has_stopped() || cancel.is_cancelled() {
                break;
            }
            let Some(chunk) = cancel.or(writer.reader.chunk(&placement.id)).await else { break };
            let retrying = writer.clone();
            blocking(move || retrying.retried(&placement, chunk)).await;
        }
        let writer = Arc::into_inner(writer).expect("all tasks have ended");
        if cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        writer.into_written()
    }
}

/// Neighbouring frames of one pack, with what is wanted from each.
struct Range {
    start: u64,
    end: u64,
    frames: Vec<Vec<Placement>>,
}

/// Groups sorted placements by frame, and frames that stand close together into ranges.
fn into_ranges(placements: Vec<Placement>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut last: Option<Location> = None;
    for placement in placements {
        let location = placement.location;
        let start = u64::from(location.frame_offset);
        let end = start + u64::from(location.sealed_len);
        let same_pack = last.is_some_and(|last| last.pack == location.pack);
        match ranges.last_mut() {
            Some(range) if same_pack && last.is_some_and(|last| last.frame == location.frame) => {
                range.frames.last_mut().expect("a range has frames").push(placement);
            }
            Some(range) if same_pack && start <= range.end + GAP_BYTES && end - range.start <= RANGE_BYTES => {
                range.end = end;
                range.frames.push(vec![placement]);
            }
            _ => ranges.push(Range { start, end, frames: vec![vec![placement]] }),
        }
        last = Some(location);
    }
    ranges
}

/// Fetches a range and writes what is wanted of it; returns what could not be had and is to be tried alone.
async fn write_range(writer: Arc<FileWriter>, range: Range, cancel: &Cancel) -> Vec<Placement> {
    if cancel.is_cancelled() || writer.has_stopped() {
        return Vec::new();
    }
    // Files are begun before anything is fetched for them: where there is no room for any, nothing is.
    let beginning = writer.clone();
    let (range, is_wanted) = blocking(move || {
        let mut is_wanted = false;
        for placement in range.frames.iter().flatten() {
            is_wanted |= beginning.begin(placement.file);
        }
        (range, is_wanted)
    })
    .await;
    if !is_wanted {
        blocking(move || range.frames.iter().flatten().for_each(|placement| writer.skip(placement))).await;
        return Vec::new();
    }
    let pack = range.frames[0][0].location.pack;
    let bytes = match cancel.or(writer.reader.fetch(pack, range.start..range.end)).await {
        Some(Ok(bytes)) => bytes,
        Some(Err(error)) if error.is_damage() => return range.frames.into_iter().flatten().collect(),
        Some(Err(error)) => {
            writer.stop(error);
            return Vec::new();
        }
        None => return Vec::new(),
    };
    blocking(move || {
        let wanted = range.frames.into_iter();
        wanted.flat_map(|frame| write_frame(&writer, range.start, &bytes, frame)).collect()
    })
    .await
}

/// Decodes a frame and places its chunks, one file after the other; returns what could not be had.
fn write_frame(writer: &FileWriter, start: u64, bytes: &Bytes, wanted: Vec<Placement>) -> Vec<Placement> {
    let location = wanted[0].location;
    let at = (u64::from(location.frame_offset) - start) as usize;
    let sealed = bytes[at..at + location.sealed_len as usize].to_vec();
    let plain = match writer.reader.decode_frame(&location, sealed) {
        Ok(plain) => plain,
        Err(error @ ReadError::Key { .. }) if !error.is_damage() => {
            writer.stop(error);
            return Vec::new();
        }
        Err(_) => return wanted,
    };
    let mut failed = Vec::new();
    let mut rest = wanted.into_iter().peekable();
    while let Some(first) = rest.next() {
        let mut group = vec![first];
        while let Some(next) = rest.next_if(|next| next.file == group[0].file) {
            group.push(next);
        }
        let mut good = Vec::with_capacity(group.len());
        for placement in group {
            match writer.reader.verified(&placement.location, &placement.id, &plain) {
                Ok(chunk) => good.push((placement.pieces, chunk, placement.file)),
                Err(_) => failed.push(placement),
            }
        }
        if let Some(&(_, _, file)) = good.first() {
            writer.place(file, &good);
        }
    }
    failed
}
