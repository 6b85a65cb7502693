//! A window of chunks, gathered together, so that each frame is fetched and decoded once.
//!
//! A window is bounded in files and in chunks, whatever the files are: a file of more chunks than a window takes is written
//! in several, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt};

use crate::blocking::blocking;
use crate::ops::Cancel;
use crate::ops::restore::RestoreError;
use crate::ops::restore::lost::Why;
use crate::ops::restore::places::PiecePlaces;
use crate::ops::restore::writer::{FileJob, FileWriter, Placement, WindowWritten};
use crate::repository::reader::Reader;
use crate::repository::reader::chunks::ChunkWalk;
use crate::repository::reader::gather::{Found, Keep};
use crate::repository::reader::range::{GatherGroup, Wanted, join};

/// Files in a window.
const FILES: usize = 16_384;
/// Chunks in a window, at most.
const CHUNKS: usize = 131_072;
/// What a chunk takes while it waits, in bytes.
const CHUNK_BYTES: u64 = 160;
/// The part of the memory given that waiting chunks may take.
const WAITING_SHARE: u64 = 8;

/// A file whose chunks are being added to windows.
pub(super) struct Adding {
    job: Arc<FileJob>,
    walk: ChunkWalk,
    places: PiecePlaces,
}

impl Adding {
    /// Begins with a file, which has a content.
    pub(super) fn new(reader: &Arc<Reader>, job: FileJob) -> Option<Self> {
        let content = job.entry.content()?;
        let (walk, places) = (reader.chunks(&content.chunks, content.stored_length()), PiecePlaces::new(content));
        Some(Self { job: Arc::new(job), walk, places })
    }
}

/// Files to be written together.
#[derive(Debug)]
pub(super) struct FileWindow {
    files: Vec<Arc<FileJob>>,
    wanted: Vec<Wanted<Placement>>,
    chunks_max: usize,
}

impl FileWindow {
    pub(super) fn new(memory_bytes: u64) -> Self {
        let chunks_max = usize::try_from(memory_bytes / WAITING_SHARE / CHUNK_BYTES).unwrap_or(CHUNKS).min(CHUNKS);
        Self { files: Vec::new(), wanted: Vec::new(), chunks_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= FILES || self.wanted.len() >= self.chunks_max
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
        while self.wanted.len() < self.chunks_max {
            // However many chunks there are to come, nothing is written of them.
            if adding.job.has_failed() {
                adding.job.left.fetch_sub(1, Ordering::AcqRel);
                return Ok(true);
            }
            match cancel.or(adding.walk.next()).await.ok_or(RestoreError::Cancelled)? {
                None => {
                    adding.job.left.fetch_sub(1, Ordering::AcqRel);
                    return Ok(true);
                }
                Some(Ok(chunk)) => {
                    let pieces = adding.places.take(chunk.length);
                    match cancel.or(reader.locate(&chunk)).await.ok_or(RestoreError::Cancelled)? {
                        Ok(location) => {
                            self.wanted.push(Wanted { chunk, location, by: Placement { file, pieces } });
                            adding.job.left.fetch_add(1, Ordering::AcqRel);
                            continue;
                        }
                        Err(error) if !error.is_damage() => return Err(RestoreError::Read(error)),
                        Err(error) => adding.job.note_lost_pieces(&pieces, &Why::of(&error)),
                    }
                }
                Some(Err(lost)) if !lost.error.is_damage() => return Err(RestoreError::Read(lost.error)),
                Some(Err(lost)) => adding.job.note_lost(adding.places.skip(lost.bytes), &Why::of(&lost.error)),
            }
        }
        Ok(false)
    }

    /// Fetches, decodes and writes everything, and leaves the window empty.
    ///
    /// # Errors
    /// When the store cannot be reached, or ending was asked for. Nobody is at work any more then.
    pub(super) async fn write(&mut self, writer: FileWriter, cancel: &Cancel) -> Result<WindowWritten, RestoreError> {
        let group_bytes = writer.reader.group_bytes();
        let ranges = join(std::mem::take(&mut self.wanted), u64::MAX, group_bytes);
        let writer = Arc::new(FileWriter { files: std::mem::take(&mut self.files), ..writer });
        let ready = writer.clone();
        blocking(move || ready.complete_ready()).await;
        let in_flight = writer.reader.ranges_in_flight();
        stream::iter(ranges).for_each_concurrent(in_flight, |range| write_range(writer.clone(), range, cancel)).await;
        let writer = Arc::into_inner(writer).expect("all tasks have ended");
        if cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        writer.into_written()
    }
}

/// Gathers what is wanted of a range or group and writes it.
async fn write_range(writer: Arc<FileWriter>, range: GatherGroup<Placement>, cancel: &Cancel) {
    if cancel.is_cancelled() || writer.has_stopped() {
        return;
    }
    // Files are begun before anything is fetched for them: where there is no room for any, nothing is.
    let beginning = writer.clone();
    let (range, is_wanted) = blocking(move || {
        let mut is_wanted = false;
        for wanted in range.wanted() {
            is_wanted |= beginning.begin(wanted.by.file);
        }
        (range, is_wanted)
    })
    .await;
    if !is_wanted {
        return blocking(move || range.into_wanted().for_each(|wanted| writer.skip(&wanted.by))).await;
    }
    let Some(mut gathering) = cancel.or(writer.reader.gather(range, Keep::Nothing)).await else { return };
    while !writer.has_stopped()
        && let Some(Some(found)) = cancel.or(gathering.next()).await
    {
        let salvaged = match &found {
            Found::Lost(wanted, error) if error.is_damage() => {
                match writer.reader.salvage(&wanted.chunk, error.clone()).await {
                    Ok(salvaged) => Some(salvaged).filter(|salvaged| salvaged.there().next().is_some()),
                    Err(error) => return writer.stop(error),
                }
            }
            _ => None,
        };
        let taking = writer.clone();
        blocking(move || taking.take(found, salvaged)).await;
    }
}
