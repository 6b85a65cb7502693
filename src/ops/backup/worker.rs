//! A worker: completes the entries of batches, reading the files among them, and compresses and seals full frames, of streams
//! as well.

use std::io;
use std::sync::mpsc::SyncSender;

use crate::compress::Compressor;
use crate::model::entry::{Entry, EntryKind, FileContent, Metadata};
use crate::ops::Cancel;
use crate::ops::backup::batch::{Batch, Finished, Planned};
use crate::ops::backup::beside::{Beside, before};
use crate::ops::backup::cut::{Cutter, Filled, NextBytes};
use crate::ops::backup::jobs::{Job, Jobs, LargeTurn, UntilTurn};
use crate::ops::backup::large::LargeFiles;
use crate::ops::backup::nightly::CutContent;
use crate::ops::backup::random_bytes::looks_random;
use crate::ops::backup::reading::ThreadsReading;
use crate::ops::backup::stopped::Stopped;
use crate::ops::backup::trees::roots_named;
use crate::progress::{Counter, EntryEvent, Monitor, Problem};
use crate::repository::frame::Frame;
use crate::repository::nights::FinishedNight;
use crate::repository::uploader::UploadStopped;
use crate::repository::writer::Writer;
use crate::source::files::{EntryError, FileReader, FoundEntry, FoundKind, Mark};

/// Why a worker gave an entry up.
enum Failed {
    /// The entry cannot be read; the run goes on without it.
    Entry(Problem),
    /// The entry is gone; nothing is missing.
    Vanished,
    /// The entry is coffre's own.
    LeftOut,
    /// The whole run ends.
    Stopped(Stopped),
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        Failed::Stopped(stopped)
    }
}

impl From<UploadStopped> for Failed {
    fn from(stopped: UploadStopped) -> Self {
        Failed::Stopped(stopped.into())
    }
}

/// What is coffre's own by its content, and left out unless it was asked for by its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) marks: &'a [Mark],
    /// The absolute paths of what was asked for.
    pub(super) roots: &'a [Vec<u8>],
}

impl Own<'_> {
    /// Tells whether an entry is left out whose content begins with `bytes`.
    fn leaves_out(&self, found: &FoundEntry, bytes: &[u8]) -> bool {
        let is_root = |root: &Vec<u8>| root.strip_prefix(b"/") == Some(found.path.as_bytes());
        self.marks.iter().any(|mark| mark.is_on(bytes)) && !self.roots.iter().any(is_root)
    }
}

/// One worker's tools.
pub(super) struct Worker<'a> {
    writer: &'a Writer,
    large: LargeFiles<'a>,
    jobs: &'a Jobs,
    monitor: &'a dyn Monitor,
    /// Ends the run early, for whatever reason.
    early: &'a Cancel,
    reading: &'a ThreadsReading,
    own: Own<'a>,
    cutter: Cutter<'a>,
    compressor: Compressor,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        large: LargeFiles<'a>,
        jobs: &'a Jobs,
        monitor: &'a dyn Monitor,
        early: &'a Cancel,
        reading: &'a ThreadsReading,
        own: Own<'a>,
    ) -> Self {
        let writer = large.writer;
        let (cutter, compressor) = (Cutter::for_files(writer, monitor), writer.compressor());
        Self { writer, large, jobs, monitor, early, reading, own, cutter, compressor }
    }

    /// Does jobs until there are no more.
    ///
    /// # Errors
    /// When the run has ended.
    pub(super) fn run(mut self, finished: &SyncSender<Finished>) -> Result<(), Stopped> {
        while let Some(job) = self.jobs.next() {
            match job {
                Job::Frame(frame) => self.seal(frame)?,
                // A failed send means that the assembler has given up, which it tells itself.
                Job::Batch(batch) => drop(finished.send(self.complete(batch)?)),
            }
        }
        let mut last = self.cutter.take_frame();
        Ok(self.writer.store_frame(&mut last, &mut self.compressor)?)
    }

    /// Stores a full frame that somebody else gathered.
    fn seal(&mut self, mut frame: Frame) -> Result<(), Stopped> {
        self.writer.store_frame(&mut frame, &mut self.compressor)?;
        self.jobs.recycle(frame);
        Ok(())
    }

    /// Waits until it may read a large file, and seals what others gather meanwhile.
    fn turn(&mut self) -> Result<LargeTurn<'a>, Stopped> {
        loop {
            match self.jobs.wait_for_turn() {
                UntilTurn::Turn(turn) => return Ok(turn),
                UntilTurn::Frame(frame) => self.seal(frame)?,
            }
        }
    }

    /// Completes the entries of a batch.
    fn complete(&mut self, batch: Batch) -> Result<Finished, Stopped> {
        let mut finished = Finished { number: batch.number, ..Finished::default() };
        for planned in batch.entries {
            if self.early.is_cancelled() {
                return Err(Stopped::Elsewhere);
            }
            let (completed, event, path) = match planned {
                Planned::Unchanged(entry) => {
                    finished.unchanged_files += u64::from(matches!(entry.kind, EntryKind::File(_)));
                    let beside = Beside::unchanged(&entry);
                    finished.entries.push((entry, beside));
                    continue;
                }
                Planned::SameContent(found, content, looks_random) => {
                    finished.unchanged_files += 1;
                    self.monitor.add(Counter::Bytes, content.size);
                    let entry =
                        self.with_attributes(&found, EntryKind::File(content), &mut finished).map(|mut entry| {
                            entry.metadata.looks_random = looks_random;
                            let beside = Beside::unchanged(&entry);
                            (entry, beside)
                        });
                    (entry, EntryEvent::Unchanged, found.path)
                }
                Planned::Changed(found, event, parents) => {
                    let new_before = finished.bytes.new;
                    let entry = self.entry(&found, &mut finished).map(|entry| {
                        let has_changed = parents.as_ref().is_none_or(|parents| parents.content() != entry.content());
                        let is_known = finished.bytes.new == new_before && entry.size() > 0;
                        (entry, Beside { before: before(parents.as_deref()), has_changed, is_known })
                    });
                    (entry, event, found.path)
                }
            };
            match completed {
                Ok((entry, beside)) => {
                    self.monitor.add(Counter::Entries, 1);
                    self.monitor.entry(entry.path.as_bytes(), event);
                    finished.entries.push((entry, beside));
                }
                Err(Failed::Vanished) => {}
                Err(Failed::LeftOut) => finished.left_out.push(path),
                Err(Failed::Entry(problem)) => {
                    finished.unreadable += 1;
                    finished.unread_roots.extend(roots_named(self.own.roots, &problem.subject));
                    self.monitor.problem(problem);
                }
                Err(Failed::Stopped(stopped)) => return Err(stopped),
            }
        }
        Ok(finished)
    }

    fn entry(&mut self, found: &FoundEntry, finished: &mut Finished) -> Result<Entry, Failed> {
        let kind = match &found.kind {
            FoundKind::File { .. } => return self.file(found, finished),
            FoundKind::Directory => EntryKind::Directory,
            FoundKind::Symlink(target) => EntryKind::Symlink(target.clone()),
            FoundKind::Fifo => EntryKind::Fifo,
            FoundKind::Socket => EntryKind::Socket,
            FoundKind::CharDevice(number) => EntryKind::CharDevice(*number),
            FoundKind::BlockDevice(number) => EntryKind::BlockDevice(*number),
        };
        self.with_attributes(found, kind, finished)
    }

    /// Completes an entry whose content is known.
    fn with_attributes(&self, found: &FoundEntry, kind: EntryKind, finished: &mut Finished) -> Result<Entry, Failed> {
        let xattrs = match self.reading.during(|| found.read_xattrs()) {
            Ok(xattrs) => xattrs,
            Err(EntryError::Vanished { .. }) => return Err(Failed::Vanished),
            Err(error) => {
                // The entry itself is known; only its attributes are missing.
                finished.unreadable += 1;
                self.monitor.problem(error.into());
                Default::default()
            }
        };
        let metadata = Metadata { xattrs, ..found.metadata() };
        Ok(Entry { path: found.path.clone(), kind, metadata })
    }

    fn file(&mut self, found: &FoundEntry, finished: &mut Finished) -> Result<Entry, Failed> {
        let place = self.large.place(&found.path, found.size());
        let turn = place.is_some().then(|| self.turn()).transpose()?;
        self.monitor.entry(found.path.as_bytes(), EntryEvent::Begun);
        let reader = match self.reading.during(|| found.open()) {
            Ok(reader) => reader,
            Err(EntryError::Vanished { .. }) => return Err(Failed::Vanished),
            Err(error) => return Err(Failed::Entry(error.into())),
        };
        let mut metadata = reader.metadata();
        match self.reading.during(|| reader.read_xattrs()) {
            Ok(xattrs) => metadata.xattrs = xattrs,
            Err(error) => {
                finished.unreadable += 1;
                let message = format!("its extended attributes could not be read: {error}");
                self.monitor.problem(Problem::missing(format!("/{}", found.path), message));
            }
        }
        let Self { own, early, reading, .. } = *self;
        let mut source = FileBytes { reader, found, own, is_first: true, looks_random: false, early, reading };
        let (jobs, writer, compressor) = (self.jobs, self.writer, &mut self.compressor);
        // New rows take more memory to be compressed, which is there for the one who reads a large file.
        let hand_on = |full: Frame| match if full.is_rows() { Err(full) } else { jobs.offer_frame(full) } {
            Ok(empty) => Ok(empty),
            Err(mut full) => {
                writer.store_frame(&mut full, compressor)?;
                Ok(full)
            }
        };
        let (list, night) = match place {
            Some(place) => {
                let cutter = self.large.cutter(&found.path, place, self.monitor);
                let cut = cutter.cut(&mut source, &mut finished.bytes, hand_on);
                self.compressor = writer.compressor();
                drop(turn);
                let CutContent { list, night } = cut?;
                (list, night)
            }
            None => (self.cutter.cut(&mut source, &mut finished.bytes, hand_on)?, None),
        };
        metadata.looks_random = source.looks_random;
        let summary = source.reader.finish().map_err(|error| unreadable(found, &error))?;
        finished.changed_while_read += u64::from(summary.changed_while_read);
        let chunks = list.finish(self.writer)?;
        finished.nights.extend(night.and_then(FinishedNight::closed));
        let content = FileContent { size: summary.size, chunks, holes: summary.holes };
        Ok(Entry { path: found.path.clone(), kind: EntryKind::File(content), metadata })
    }
}

/// The bytes of a file.
struct FileBytes<'a> {
    reader: FileReader,
    found: &'a FoundEntry,
    /// What nothing that is stored begins with.
    own: Own<'a>,
    /// Whether nothing was read yet.
    is_first: bool,
    /// Whether what was read first looks random.
    looks_random: bool,
    early: &'a Cancel,
    reading: &'a ThreadsReading,
}

impl NextBytes for FileBytes<'_> {
    type Error = Failed;

    fn next(&mut self, space: &mut [u8]) -> Result<Filled, Failed> {
        if self.early.is_cancelled() {
            return Err(Stopped::Elsewhere.into());
        }
        let filled = self.reading.during(|| self.reader.fill(space));
        let count = filled.map_err(|error| unreadable(self.found, &error))?;
        if std::mem::take(&mut self.is_first) {
            if self.own.leaves_out(self.found, &space[..count]) {
                return Err(Failed::LeftOut);
            }
            self.looks_random = looks_random(&space[..count]);
        }
        Ok(Filled { count, is_end: count < space.len() })
    }
}

fn unreadable(found: &FoundEntry, error: &io::Error) -> Failed {
    Failed::Entry(Problem::missing(format!("/{}", found.path), format!("could not be read: {error}")))
}
