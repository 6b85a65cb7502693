//! Streams: read to the end, cut fine, and believed only when their producer says that they are complete.

use std::time::{Duration, Instant};

use crate::model::entry::{ChunkRef, Entry, EntryKind, FileContent, Metadata};
use crate::model::path::EntryPath;
use crate::ops::Cancel;
use crate::ops::backup::jobs::Jobs;
use crate::ops::backup::pipeline::Stopped;
use crate::ops::backup::plan::Batch;
use crate::ops::backup::{StreamKind, StreamRequest};
use crate::progress::{Counter, Monitor};
use crate::repository::tree::ListBuilder;
use crate::repository::writer::{FRAME_TARGET_BYTES, Frame, Writer};
use crate::source::command::{CommandOptions, CommandSource};
use crate::source::stdin::StdinSource;
use crate::source::{SourceError, StreamSource};

/// Bytes asked for at once.
const READ_BYTES: usize = 1 << 20;
/// A producer that is silent is asked this often whether the run is to end.
const CANCEL_CHECK: Duration = Duration::from_millis(200);

/// What the streams of a run give to its counts.
#[derive(Debug, Default)]
pub(super) struct StreamTotals {
    pub(super) read_bytes: u64,
    pub(super) new_bytes: u64,
}

/// Stores streams; the workers compress and seal.
pub(super) struct StreamReader<'a> {
    pub(super) writer: &'a Writer,
    pub(super) jobs: &'a Jobs<Batch>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    pub(super) now: crate::model::time::Timestamp,
}

impl StreamReader<'_> {
    /// Stores one stream and returns its entry.
    ///
    /// A stream is never taken for unchanged: it is read to its end every time.
    pub(super) fn store(
        &self,
        path: &EntryPath,
        request: &StreamRequest,
        totals: &mut StreamTotals,
    ) -> Result<Entry, Stopped> {
        let failed = |source| Stopped::Stream { name: path.to_string(), source };
        let begun = Instant::now();
        let mut source: Box<dyn StreamSource> = match &request.kind {
            StreamKind::Stdin => Box::new(StdinSource::open().map_err(failed)?),
            StreamKind::Command(words) => {
                let (program, arguments) = words.split_first().ok_or_else(|| Stopped::NoCommand(path.to_string()))?;
                Box::new(CommandSource::spawn(&CommandOptions::new(program, arguments)).map_err(failed)?)
            }
        };
        let chunker = self.writer.stream_chunker();
        let mut buffer = vec![0; chunker.max() + READ_BYTES];
        let (mut start, mut end, mut at_end, mut size) = (0, 0, false, 0u64);
        let (mut frame, mut list) = (Frame::default(), ListBuilder::default());
        loop {
            while let Some(length) = chunker.cut(&buffer[start..end], at_end) {
                let chunk = &buffer[start..start + length];
                let id = self.writer.id(chunk);
                if self.writer.claim(&id) {
                    totals.new_bytes += length as u64;
                    self.monitor.add(Counter::NewBytes, length as u64);
                    frame.push(&id, chunk);
                    if frame.len() >= FRAME_TARGET_BYTES {
                        frame = self.jobs.push_frame(frame)?;
                    }
                }
                list.push(ChunkRef { id, length: length as u32 }, self.writer)?;
                start += length;
            }
            if at_end {
                break;
            }
            if self.cancel.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            while !source
                .wait_readable(CANCEL_CHECK)
                .map_err(|source| failed(SourceError::Io { name: path.to_string(), source }))?
            {
                if self.cancel.is_cancelled() {
                    return Err(Stopped::Cancelled);
                }
            }
            let count = match source.read(&mut buffer[end..]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(failed(SourceError::Io { name: path.to_string(), source })),
            };
            at_end = count == 0;
            end += count;
            size += count as u64;
            totals.read_bytes += count as u64;
            self.monitor.add(Counter::ReadBytes, count as u64);
            self.monitor.add(Counter::Bytes, count as u64);
        }
        if !frame.is_empty() {
            self.jobs.push_frame(frame)?;
        }
        let mut detail = source.finish().map_err(failed)?;
        detail.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let content = FileContent { size, chunks: list.finish(self.writer)?, holes: Vec::new() };
        self.monitor.add(Counter::Entries, 1);
        let metadata = Metadata { mode: 0o600, mtime: self.now, ctime: self.now, ..Metadata::default() };
        Ok(Entry { path: path.clone(), kind: EntryKind::Stream(content, detail), metadata })
    }

    /// Makes up the entry of a directory that a stream is in.
    pub(super) fn directory(&self, path: EntryPath) -> Entry {
        let metadata = Metadata { mode: 0o700, mtime: self.now, ctime: self.now, ..Metadata::default() };
        Entry { path, kind: EntryKind::Directory, metadata }
    }
}
