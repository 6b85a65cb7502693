//! Writing a window of files: their chunks sorted by pack and frame, so that each frame is fetched and decoded once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use crate::model::entry::{ChunkRef, Entry};
use crate::model::id::ChunkId;
use crate::model::key::ObjectKey;
use crate::model::path::display_bytes;
use crate::ops::Cancel;
use crate::ops::restore::files::{Piece, Places};
use crate::ops::restore::{DAMAGED_SUFFIX, RestoreError, problem};
use crate::progress::{Counter, Monitor, Problem, chain};
use crate::repository::index::table::Location;
use crate::repository::reader::{ReadError, Reader};
use crate::target::files::{FileTarget, TargetError};

/// The most bytes of neighbouring frames fetched at once.
const RANGE_BYTES: u64 = 4 << 20;
/// Bytes between two frames that are fetched and thrown away rather than asked for separately.
const GAP_BYTES: u64 = 64 << 10;
/// Ranges in flight at most; each needs up to 4 MiB, and as much decoded.
const RANGES_MAX: usize = 16;

/// A file that is being restored.
#[derive(Debug)]
pub(super) struct FileJob {
    entry: Entry,
    relative: Vec<u8>,
    /// Chunks not yet placed; who places the last one completes the file.
    left: AtomicUsize,
    started: Mutex<bool>,
    damaged: Mutex<Vec<String>>,
}

impl FileJob {
    pub(super) fn new(entry: Entry, relative: Vec<u8>) -> Self {
        Self { entry, relative, left: AtomicUsize::new(0), started: Mutex::new(false), damaged: Mutex::default() }
    }
}

/// A chunk and where it goes.
#[derive(Debug)]
struct Placement {
    file: u32,
    id: ChunkId,
    location: Location,
    pieces: Vec<Piece>,
}

/// Files to be written together.
#[derive(Debug, Default)]
pub(super) struct Window {
    files: Vec<FileJob>,
    placements: Vec<Placement>,
}

/// What writing a window did.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) written_bytes: u64,
    pub(super) problems: u64,
    pub(super) damaged: Vec<String>,
}

impl Window {
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) fn chunks(&self) -> usize {
        self.placements.len()
    }

    /// Adds a file and locates its chunks; what cannot be located is noted as damage of the file.
    pub(super) async fn push(&mut self, reader: &Arc<Reader>, job: FileJob) {
        let file = u32::try_from(self.files.len()).expect("a window is bounded");
        let Some(content) = job.entry.content() else { return };
        let mut walk = reader.chunks(&content.chunks, content.stored_length());
        let mut places = Places::new(content);
        let mut chunks = 0;
        while let Some(next) = walk.next().await {
            let lost = match next {
                Ok(ChunkRef { id, length }) => {
                    let pieces = places.take(length);
                    match reader.index().locate(&id).filter(|location| location.length == length) {
                        Some(location) => {
                            self.placements.push(Placement { file, id, location, pieces });
                            chunks += 1;
                            continue;
                        }
                        None => (pieces, format!("chunk {} is not in the index", id.short())),
                    }
                }
                Err(damaged) => {
                    let mut pieces = Vec::new();
                    let mut bytes = damaged.bytes;
                    while bytes > 0 {
                        let step = u32::try_from(bytes).unwrap_or(u32::MAX);
                        pieces.extend(places.take(step));
                        bytes -= u64::from(step);
                    }
                    (pieces, chain(&damaged.error))
                }
            };
            let (pieces, why) = lost;
            let mut notes = job.damaged.lock().expect("no panic while held");
            notes.extend(pieces.iter().map(|piece| describe(piece, &why)));
        }
        job.left.store(chunks, Ordering::Relaxed);
        self.files.push(job);
    }

    /// Fetches, decodes and writes everything.
    pub(super) async fn write(
        mut self,
        reader: &Arc<Reader>,
        target: &Arc<FileTarget>,
        memory_bytes: u64,
        monitor: &Arc<dyn Monitor>,
        cancel: &Cancel,
    ) -> Result<Written, RestoreError> {
        self.placements.sort_by_key(|p| {
            (p.location.pack, p.location.frame_offset, p.file, p.pieces.first().map(|piece| piece.file_offset))
        });
        let ranges = into_ranges(self.placements);
        let writer = Arc::new(FileWriter {
            files: self.files,
            reader: reader.clone(),
            target: target.clone(),
            monitor: monitor.clone(),
            written_bytes: AtomicU64::new(0),
            problems: AtomicU64::new(0),
            damaged: Mutex::default(),
        });
        let empty = writer.clone();
        tokio::task::spawn_blocking(move || empty.complete_without_chunks()).await.expect("writing does not panic");
        let in_flight =
            usize::try_from(memory_bytes / 4 / (2 * RANGE_BYTES)).unwrap_or(RANGES_MAX).clamp(2, RANGES_MAX);
        let failed: Vec<Placement> = stream::iter(ranges)
            .map(|range| {
                let writer = writer.clone();
                async move {
                    if cancel.is_cancelled() {
                        return Vec::new();
                    }
                    writer.range(range).await
                }
            })
            .buffer_unordered(in_flight)
            .concat()
            .await;
        if cancel.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        // What failed is tried alone, from every pack that holds it.
        for placement in failed {
            let chunk = reader.chunk(&placement.id).await;
            let writer = writer.clone();
            tokio::task::spawn_blocking(move || writer.retried(&placement, &chunk))
                .await
                .expect("writing does not panic");
        }
        let writer = Arc::into_inner(writer).expect("all tasks have ended");
        Ok(Written {
            written_bytes: writer.written_bytes.into_inner(),
            problems: writer.problems.into_inner(),
            damaged: writer.damaged.into_inner().expect("no panic while held"),
        })
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

/// Places chunks and completes files; shared by all who write.
struct FileWriter {
    files: Vec<FileJob>,
    reader: Arc<Reader>,
    target: Arc<FileTarget>,
    monitor: Arc<dyn Monitor>,
    written_bytes: AtomicU64,
    problems: AtomicU64,
    damaged: Mutex<Vec<String>>,
}

impl FileWriter {
    /// Fetches a range and writes what is wanted of it; returns what could not be had.
    async fn range(self: Arc<Self>, range: Range) -> Vec<Placement> {
        let pack = range.frames[0][0].location.pack;
        let store = self.reader.repository().store();
        let fetched = store.get_range(&ObjectKey::pack(pack), range.start..range.end).await;
        let Ok(bytes) = fetched else { return range.frames.into_iter().flatten().collect() };
        self.monitor.add(Counter::FetchedBytes, bytes.len() as u64);
        tokio::task::spawn_blocking(move || {
            range.frames.into_iter().flat_map(|frame| self.frame(range.start, &bytes, frame)).collect()
        })
        .await
        .expect("writing does not panic")
    }

    /// Decodes a frame and places its chunks, one file after the other; returns what could not be had.
    fn frame(&self, start: u64, bytes: &Bytes, wanted: Vec<Placement>) -> Vec<Placement> {
        let location = wanted[0].location;
        let at = (u64::from(location.frame_offset) - start) as usize;
        let sealed = bytes[at..at + location.sealed_len as usize].to_vec();
        let Ok(plain) = self.reader.decode_frame(&location, sealed) else { return wanted };
        let mut failed = Vec::new();
        let mut rest = wanted.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut group = vec![first];
            while let Some(next) = rest.next_if(|next| next.file == group[0].file) {
                group.push(next);
            }
            let mut good = Vec::with_capacity(group.len());
            for placement in group {
                match self.reader.verified(&placement.location, &placement.id, &plain) {
                    Ok(chunk) => good.push((placement.pieces, chunk, placement.file)),
                    Err(_) => failed.push(placement),
                }
            }
            if let Some(&(_, _, file)) = good.first() {
                self.place(file, &good);
            }
        }
        failed
    }

    /// Writes chunks of one file, and completes it when they were its last.
    fn place(&self, file: u32, chunks: &[(Vec<Piece>, &[u8], u32)]) {
        let job = &self.files[file as usize];
        let outcome = self.write_pieces(job, chunks);
        let bytes = chunks.iter().map(|(_, chunk, _)| chunk.len() as u64).sum();
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.monitor.add(Counter::Bytes, bytes);
        let is_last = job.left.fetch_sub(chunks.len(), Ordering::AcqRel) == chunks.len();
        let outcome = outcome.and_then(|partial| if is_last { self.complete(job, partial) } else { Ok(()) });
        if let Err(error) = outcome {
            self.problems.fetch_add(1, Ordering::Relaxed);
            self.monitor.problem(problem(&error));
        }
    }

    fn write_pieces(
        &self,
        job: &FileJob,
        chunks: &[(Vec<Piece>, &[u8], u32)],
    ) -> Result<crate::target::files::PartialFile, TargetError> {
        let partial = self.open(job)?;
        for (pieces, chunk, _) in chunks {
            for piece in pieces {
                let start = piece.chunk_offset as usize;
                let bytes = &chunk[start..start + piece.length as usize];
                self.target.write_at(&job.relative, &partial, piece.file_offset, bytes)?;
            }
        }
        Ok(partial)
    }

    /// Opens a file's temporary; whoever comes first empties a leftover.
    fn open(&self, job: &FileJob) -> Result<crate::target::files::PartialFile, TargetError> {
        let mut started = job.started.lock().expect("no panic while held");
        let partial = self.target.open_partial(&job.relative, !*started)?;
        *started = true;
        Ok(partial)
    }

    fn complete(&self, job: &FileJob, partial: crate::target::files::PartialFile) -> Result<(), TargetError> {
        let damage = std::mem::take(&mut *job.damaged.lock().expect("no panic while held"));
        let suffix = if damage.is_empty() { b"" } else { DAMAGED_SUFFIX.as_bytes() };
        let path = display_bytes(&job.relative).to_string();
        for message in self.target.finish_file(&job.relative, partial, &job.entry, suffix)? {
            self.problems.fetch_add(1, Ordering::Relaxed);
            self.monitor.problem(Problem { subject: path.clone(), message });
        }
        if !damage.is_empty() {
            let message = format!("restored as {path}{DAMAGED_SUFFIX} with zeros for {}", damage.join(", "));
            self.monitor.problem(Problem { subject: path, message });
            self.damaged.lock().expect("no panic while held").push(format!("/{}", job.entry.path));
        }
        Ok(())
    }

    /// Completes files that have no chunks, because they are empty or nothing of them can be had.
    fn complete_without_chunks(&self) {
        for job in self.files.iter().filter(|job| job.left.load(Ordering::Relaxed) == 0) {
            if let Err(error) = self.open(job).and_then(|partial| self.complete(job, partial)) {
                self.problems.fetch_add(1, Ordering::Relaxed);
                self.monitor.problem(problem(&error));
            }
        }
    }

    /// Places a chunk that was tried again, or notes that it is lost.
    fn retried(&self, placement: &Placement, chunk: &Result<Vec<u8>, ReadError>) {
        let job = &self.files[placement.file as usize];
        match chunk {
            Ok(chunk) => self.place(placement.file, &[(placement.pieces.clone(), chunk, placement.file)]),
            Err(error) => {
                let why = chain(error);
                let lost = placement.pieces.iter().map(|piece| describe(piece, &why));
                job.damaged.lock().expect("no panic while held").extend(lost);
                self.place(placement.file, &[(Vec::new(), &[], placement.file)]);
            }
        }
    }
}

fn describe(piece: &Piece, why: &str) -> String {
    format!("{} bytes at {} ({why})", piece.length, piece.file_offset)
}
