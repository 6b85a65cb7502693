//! A worker: reads the files of a batch, cuts them, claims their chunks and gathers new ones into its frame.

use std::io;

use crate::chunker::Chunker;
use crate::compress::Compressor;
use crate::model::entry::{ChunkRef, Entry, EntryKind, FileContent, Metadata};
use crate::ops::Cancel;
use crate::ops::backup::assemble::Finished;
use crate::ops::backup::jobs::Jobs;
use crate::ops::backup::plan::{Batch, Planned};
use crate::ops::backup::reading::Reading;
use crate::progress::{Counter, EntryEvent, Monitor, Problem};
use crate::repository::frame::{FILE_FRAME_BYTES, Frame};
use crate::repository::tree::ListBuilder;
use crate::repository::uploader::UploadStopped;
use crate::repository::writer::Writer;
use crate::source::files::{EntryError, FileReader, FoundEntry, FoundKind};

/// Read ahead of the cut, in bytes, beyond the longest chunk.
const READ_BYTES: usize = 1 << 20;

/// Why a worker gave an entry up.
pub(super) enum Failed {
    /// The entry cannot be read; the run goes on without it.
    Entry(Problem),
    /// The entry is gone; nothing is missing.
    Vanished,
    /// The whole run ends.
    Stopped,
}

impl From<UploadStopped> for Failed {
    fn from(_: UploadStopped) -> Self {
        Failed::Stopped
    }
}

/// One worker's tools.
pub(super) struct FileWorker<'a> {
    writer: &'a Writer,
    jobs: &'a Jobs<Batch>,
    monitor: &'a dyn Monitor,
    cancel: &'a Cancel,
    reading: &'a Reading,
    chunker: Chunker,
    compressor: Compressor,
    frame: Frame,
    buffer: Vec<u8>,
}

impl<'a> FileWorker<'a> {
    pub(super) fn new(
        writer: &'a Writer,
        jobs: &'a Jobs<Batch>,
        monitor: &'a dyn Monitor,
        cancel: &'a Cancel,
        reading: &'a Reading,
    ) -> Self {
        let chunker = writer.file_chunker();
        let buffer = vec![0; chunker.max() + READ_BYTES];
        let (compressor, frame) = (writer.compressor(), Frame::default());
        Self { writer, jobs, monitor, cancel, reading, chunker, compressor, frame, buffer }
    }

    /// Compresses and seals a frame that someone else filled.
    pub(super) fn seal(&mut self, mut frame: Frame) -> Result<(), UploadStopped> {
        self.writer.store_frame(&mut frame, &mut self.compressor)?;
        self.jobs.recycle(frame);
        Ok(())
    }

    /// Seals what is left of this worker's frame.
    pub(super) fn finish(&mut self) -> Result<(), UploadStopped> {
        self.writer.store_frame(&mut self.frame, &mut self.compressor)
    }

    /// Completes the entries of a batch.
    pub(super) fn read(&mut self, batch: Batch) -> Result<Finished, UploadStopped> {
        let mut finished = Finished::new(batch.number);
        for planned in batch.entries {
            if self.cancel.is_cancelled() {
                return Err(UploadStopped);
            }
            let (completed, event) = match planned {
                Planned::Unchanged(entry) => {
                    finished.unchanged_files += u64::from(matches!(entry.kind, EntryKind::File(_)));
                    finished.entries.push(entry);
                    continue;
                }
                Planned::SameContent(found, content) => {
                    finished.unchanged_files += 1;
                    self.monitor.add(Counter::Bytes, content.size);
                    (self.with_attributes(&found, EntryKind::File(content), &mut finished), EntryEvent::Unchanged)
                }
                Planned::Changed(found, event) => (self.entry(&found, &mut finished), event),
            };
            match completed {
                Ok(entry) => {
                    self.monitor.add(Counter::Entries, 1);
                    self.monitor.entry(entry.path.as_bytes(), event);
                    finished.entries.push(entry);
                }
                Err(Failed::Vanished) => {}
                Err(Failed::Entry(problem)) => {
                    finished.unreadable += 1;
                    self.monitor.problem(problem);
                }
                Err(Failed::Stopped) => return Err(UploadStopped),
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
        self.monitor.entry(found.path.as_bytes(), EntryEvent::Begun);
        let mut reader = match self.reading.during(|| found.open()) {
            Ok(reader) => reader,
            Err(EntryError::Vanished { .. }) => return Err(Failed::Vanished),
            Err(error) => return Err(Failed::Entry(error.into())),
        };
        let failed = |error: io::Error| {
            Failed::Entry(Problem::missing(format!("/{}", found.path), format!("could not be read: {error}")))
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
        let list = self.content(&mut reader, finished, &failed)?;
        let summary = reader.finish().map_err(failed)?;
        finished.changed_while_read += u64::from(summary.changed_while_read);
        let chunks = list.finish(self.writer)?;
        let content = FileContent { size: summary.size, chunks, holes: summary.holes };
        Ok(Entry { path: found.path.clone(), kind: EntryKind::File(content), metadata })
    }

    /// Reads to the end, cutting as it goes; the buffer holds the longest chunk and what was read ahead.
    fn content(
        &mut self,
        reader: &mut FileReader,
        finished: &mut Finished,
        failed: &impl Fn(io::Error) -> Failed,
    ) -> Result<ListBuilder, Failed> {
        let mut list = ListBuilder::default();
        let (mut start, mut end, mut at_end) = (0, 0, false);
        loop {
            while let Some(length) = self.chunker.cut(&self.buffer[start..end], at_end) {
                self.chunk(start, length, &mut list, finished)?;
                start += length;
            }
            if at_end {
                return Ok(list);
            }
            if self.cancel.is_cancelled() {
                return Err(Failed::Stopped);
            }
            self.buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            let count = self.reading.during(|| reader.fill(&mut self.buffer[end..])).map_err(failed)?;
            at_end = end + count < self.buffer.len();
            end += count;
            finished.read_bytes += count as u64;
            self.monitor.add(Counter::ReadBytes, count as u64);
            self.monitor.add(Counter::Bytes, count as u64);
        }
    }

    fn chunk(
        &mut self,
        start: usize,
        length: usize,
        list: &mut ListBuilder,
        finished: &mut Finished,
    ) -> Result<(), UploadStopped> {
        let chunk = &self.buffer[start..start + length];
        let id = self.writer.id(chunk);
        if self.writer.claim(&id) {
            finished.new_bytes += length as u64;
            self.monitor.add(Counter::NewBytes, length as u64);
            self.frame.push(&id, chunk);
            if self.frame.len() >= FILE_FRAME_BYTES {
                match self.jobs.offer_frame(std::mem::take(&mut self.frame)) {
                    Ok(empty) => self.frame = empty,
                    Err(mut full) => {
                        self.writer.store_frame(&mut full, &mut self.compressor)?;
                        self.frame = full;
                    }
                }
            }
        }
        list.push(ChunkRef { id, length: length as u32 }, self.writer)
    }
}
