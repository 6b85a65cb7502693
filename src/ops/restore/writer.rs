//! Writing the files of a window: each gets its name when its last byte was written, and none that met an error.
//!
//! A file that cannot be written is told once, removed, and does not count; what had its name keeps it. When there is no
//! room, the first file is told and the others are counted.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::model::entry::{Entry, LinkKey};
use crate::model::path::display_bytes;
use crate::ops::restore::lost::{LostPieces, Why};
use crate::ops::restore::places::Piece;
use crate::ops::restore::{DAMAGED_SUFFIX, NotWhole, RestoreError, problem};
use crate::progress::{Counter, Monitor, Problem};
use crate::repository::reader::gather::Found;
use crate::repository::reader::salvage::SalvagedChunk;
use crate::repository::reader::{ReadError, Reader};
use crate::sink::error::{Obstacle, TargetError};
use crate::sink::partial::{IfTaken, PartialFile};
use crate::sink::target::FileTarget;

/// Where a chunk goes.
#[derive(Debug)]
pub(super) struct Placement {
    /// Which file of the window.
    pub(super) file: u32,
    pub(super) pieces: Vec<Piece>,
}

/// A file that is being restored.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) entry: Entry,
    relative: Vec<u8>,
    if_taken: IfTaken,
    /// Chunks not yet placed, and one more until all are known; who takes the last one completes the file.
    pub(super) left: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partial: Option<PartialFile>,
    failed: bool,
    lost: LostPieces,
}

impl FileJob {
    pub(super) fn new(entry: Entry, relative: Vec<u8>, if_taken: IfTaken) -> Self {
        Self { entry, relative, if_taken, left: AtomicUsize::new(1), state: Mutex::default() }
    }

    /// Notes that bytes cannot be had: offsets and lengths.
    pub(super) fn note_lost(&self, ranges: impl IntoIterator<Item = (u64, u64)>, why: &Why) {
        let lost = &mut self.state().lost;
        ranges.into_iter().for_each(|(offset, length)| lost.add(offset, length, why));
    }

    /// Tells whether it was found that the file cannot be written.
    pub(super) fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Notes that a chunk cannot be had.
    pub(super) fn note_lost_pieces(&self, pieces: &[Piece], why: &Why) {
        self.note_lost(pieces.iter().map(|piece| (piece.file_offset, u64::from(piece.length))), why);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Bytes that will be written for it.
    fn stored_bytes(&self) -> u64 {
        self.entry.content().map_or(0, |content| content.stored_length())
    }
}

/// What writing a window did.
#[derive(Debug, Default)]
pub(super) struct WindowWritten {
    /// Files that have their names, and the bytes written for them.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that could not be written, and those of them for which there was no room.
    pub(super) failed: u64,
    pub(super) no_room: u64,
    pub(super) damaged: Vec<NotWhole>,
    /// Files with several names that are not there, or not whole: nothing may be linked to them.
    pub(super) unplaced: HashSet<LinkKey>,
}

/// Places chunks and completes files; shared by all who write.
pub(super) struct FileWriter {
    pub(super) files: Vec<Arc<FileJob>>,
    pub(super) reader: Arc<Reader>,
    pub(super) target: Arc<FileTarget>,
    pub(super) monitor: Arc<dyn Monitor>,
    /// The target was told to be full; in this window or before.
    pub(super) told_full: Arc<AtomicBool>,
    pub(super) written: Mutex<WindowWritten>,
    pub(super) stopped: Mutex<Option<ReadError>>,
}

impl FileWriter {
    /// Ends the run: the store is out of reach, which says nothing about what is stored.
    pub(super) fn stop(&self, error: ReadError) {
        self.stopped.lock().expect("no panic while held").get_or_insert(error);
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.lock().expect("no panic while held").is_some()
    }

    /// Returns what was done.
    pub(super) fn into_written(self) -> Result<WindowWritten, RestoreError> {
        match self.stopped.into_inner().expect("no panic while held") {
            Some(error) => Err(RestoreError::Read(error)),
            None => Ok(self.written.into_inner().expect("no panic while held")),
        }
    }

    /// Makes a file's temporary, if that was not done; returns whether anything is to be written to it.
    pub(super) fn begin(&self, file: u32) -> bool {
        let job = &self.files[file as usize];
        let mut state = job.state();
        if !state.failed && state.partial.is_none() {
            match self.target.create_partial(&job.relative, self.needed_bytes(job)) {
                Ok(partial) => state.partial = Some(partial),
                Err(error) => {
                    state.failed = true;
                    self.failed(job, &error);
                }
            }
        }
        !state.failed
    }

    fn needed_bytes(&self, job: &FileJob) -> u64 {
        if self.target.is_sparse() { 0 } else { job.stored_bytes() }
    }

    /// Leaves a chunk out that is lost, or wanted by a file that failed.
    pub(super) fn skip(&self, placement: &Placement) {
        self.place(placement.file, &[(Vec::new(), &[], placement.file)]);
    }

    /// Writes chunks of one file, and completes it when they were its last.
    pub(super) fn place(&self, file: u32, chunks: &[(Vec<Piece>, &[u8], u32)]) {
        let job = &self.files[file as usize];
        if self.begin(file)
            && let Err(error) = self.write_pieces(job, chunks)
        {
            let mut state = job.state();
            if !std::mem::replace(&mut state.failed, true) {
                self.failed(job, &error);
            }
        }
        self.monitor.add(Counter::Bytes, chunks.iter().map(|(_, chunk, _)| chunk.len() as u64).sum());
        if job.left.fetch_sub(chunks.len(), Ordering::AcqRel) == chunks.len() {
            self.complete(job);
        }
    }

    fn write_pieces(&self, job: &FileJob, chunks: &[(Vec<Piece>, &[u8], u32)]) -> Result<(), TargetError> {
        let file = match &job.state().partial {
            Some(partial) => self.target.open_partial(&job.relative, partial)?,
            None => return Ok(()),
        };
        for (pieces, chunk, _) in chunks {
            for piece in pieces {
                let start = piece.chunk_offset as usize;
                let bytes = &chunk[start..start + piece.length as usize];
                self.target.write_at(&job.relative, &file, piece.file_offset, bytes)?;
            }
        }
        Ok(())
    }

    /// Gives a file its name, or removes what was written of it.
    fn complete(&self, job: &FileJob) {
        let State { partial, failed, lost } = std::mem::take(&mut *job.state());
        let Some(partial) = partial else { return };
        if failed {
            return self.target.discard(&job.relative, partial);
        }
        let suffix = if lost.is_empty() { b"" } else { DAMAGED_SUFFIX.as_bytes() };
        let if_taken = if lost.is_empty() { job.if_taken } else { IfTaken::Replace };
        let path = display_bytes(&job.relative).to_string();
        let messages = match self.target.finish_file(&job.relative, partial, &job.entry, suffix, if_taken) {
            Ok(messages) => messages,
            Err(error) => return self.failed(job, &error),
        };
        let mut written = self.written.lock().expect("no panic while held");
        if lost.is_empty() {
            written.files += 1;
            written.bytes += job.stored_bytes();
        } else {
            written.damaged.push(NotWhole::File(job.entry.path.clone()));
            written.unplaced.extend(job.entry.link_key());
        }
        drop(written);
        for message in messages {
            self.monitor.problem(Problem::missing(path.clone(), message));
        }
        if !lost.is_empty() {
            let message = format!("restored as {path}{DAMAGED_SUFFIX} with zeros for {}", lost.in_full());
            let cause = format!("restored as NAME{DAMAGED_SUFFIX} with zeros for what is lost: {}", lost.causes());
            self.monitor.problem_of_many(Problem::damaged(path, message), &cause);
        }
    }

    /// Counts a file that could not be written, and tells why.
    fn failed(&self, job: &FileJob, error: &TargetError) {
        let is_full = error.cause == Obstacle::Full;
        let mut written = self.written.lock().expect("no panic while held");
        written.failed += 1;
        written.unplaced.extend(job.entry.link_key());
        written.no_room += u64::from(is_full);
        if is_full && self.told_full.swap(true, Ordering::AcqRel) {
            return;
        }
        drop(written);
        self.monitor.problem(problem(error));
    }

    /// Completes files of which nothing is left to write: those that are empty, or of which nothing can be had.
    pub(super) fn complete_ready(&self) {
        for (at, job) in (0..).zip(&self.files) {
            if job.left.load(Ordering::Acquire) == 0 {
                self.begin(at);
                self.complete(job);
            }
        }
    }

    /// Writes what there is of a chunk, whose gaps become zeros, and notes these.
    fn place_salvaged(&self, placement: Placement, salvaged: &SalvagedChunk) {
        let job = &self.files[placement.file as usize];
        for lost in &salvaged.lost {
            let within = placement.pieces.iter().filter_map(|piece| piece.within(&lost.range));
            job.note_lost(within, &Why::of(&lost.why));
        }
        self.place(placement.file, &[(placement.pieces, &salvaged.bytes, placement.file)]);
    }

    /// Writes what was found, one file after the other, and notes what is lost; of a chunk that is not whole, `salvaged` is there.
    pub(super) fn take(&self, found: Found<Placement>, salvaged: Option<SalvagedChunk>) {
        match (found, salvaged) {
            (Found::Chunks(bytes, chunks), _) => {
                let chunks: Vec<_> =
                    chunks.into_iter().map(|(at, range)| (at.pieces, &bytes[range], at.file)).collect();
                for of_one_file in chunks.chunk_by(|one, next| one.2 == next.2) {
                    self.place(of_one_file[0].2, of_one_file);
                }
            }
            (Found::Lost(_, error), _) if !error.is_damage() => self.stop(error),
            (Found::Lost(wanted, _), Some(salvaged)) => self.place_salvaged(wanted.by, &salvaged),
            (Found::Lost(wanted, error), None) => {
                self.files[wanted.by.file as usize].note_lost_pieces(&wanted.by.pieces, &Why::of(&error));
                self.skip(&wanted.by);
            }
        }
    }
}
