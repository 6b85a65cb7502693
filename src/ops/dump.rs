//! Dump: one file or stream to an output, byte for byte, or a directory as a tar archive.

use std::io::{self, Read, Write};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::blocking::blocking;
use crate::model::entry::{Entry, FileContent};
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::{Cancel, LookError};
use crate::progress::{Counter, Monitor, Problem, Totals, chain};
use crate::repository::reader::content::{ContentError, ContentPart, ContentStream};
use crate::repository::reader::walk::{DamagedTree, LostPart, TreeWalk};
use crate::repository::reader::{ReadError, Reader};
use crate::sink::tar::{Put, TarTarget};

/// What was written.
#[derive(Debug, Clone, Default)]
pub struct DumpReport {
    /// Entries in the archive; 1 for a single file.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Entries that an archive cannot hold.
    pub skipped: u64,
}

impl Ended for DumpReport {
    fn outcome(&self) -> Outcome {
        if self.skipped > 0 { Outcome::Incomplete } else { Outcome::Clean }
    }
}

/// Why a dump is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The path cannot be found or the index not be had.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The path is neither a file, a stream nor a directory.
    #[error("/{path} has no content to dump")]
    NoContent {
        /// The path.
        path: EntryPath,
    },
    /// A chunk cannot be had.
    #[error("/{path} is damaged; what was written so far is right")]
    Damaged {
        /// The entry.
        path: EntryPath,
        /// Where and why.
        #[source]
        source: ContentError,
    },
    /// A chunk is out of reach.
    #[error("/{path} could not be read to its end; what was written so far is right")]
    Unreachable {
        /// The entry.
        path: EntryPath,
        /// Where and why.
        #[source]
        source: ContentError,
    },
    /// A part of the tree cannot be had.
    #[error("{part} cannot be read; what was written so far is right")]
    Tree {
        /// What is lost.
        part: LostPart,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The output cannot be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    /// Ending was asked for.
    #[error("interrupted")]
    Cancelled,
}

impl DumpError {
    /// Tells whether something may have been written by then.
    pub fn began_writing(&self) -> bool {
        !matches!(self, DumpError::Look(_) | DumpError::NoContent { .. })
    }
}

impl Ended for DumpError {
    fn outcome(&self) -> Outcome {
        match self {
            DumpError::Look(error) => error.outcome(),
            DumpError::NoContent { .. } => Outcome::Missing,
            DumpError::Damaged { source, .. } | DumpError::Unreachable { source, .. } => source.outcome(),
            DumpError::Tree { source, .. } => source.outcome(),
            DumpError::Output(_) => Outcome::Failed,
            DumpError::Cancelled => Outcome::Interrupted,
        }
    }
}

/// Writes what is at `path` to `output`, or the whole snapshot; a snapshot of one single stream is that stream.
///
/// A file comes with its holes filled by zeros, a directory as a tar archive (POSIX, pax) of what is in it. Every byte
/// was checked before it is written.
///
/// # Errors
/// [`DumpError`]; what was written before it is right, but not all.
pub async fn dump(
    reader: Arc<Reader>,
    snapshot: &Snapshot,
    path: Option<EntryPath>,
    output: Box<dyn Write + Send>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<DumpReport, DumpError> {
    write_out(reader, snapshot, path, output, monitor, cancel, true).await
}

/// Does the same, also for a caller to whom this is a part of its work, and who tells the totals of all of it itself.
///
/// # Errors
/// As for [`dump`].
pub(super) async fn write_out(
    reader: Arc<Reader>,
    snapshot: &Snapshot,
    path: Option<EntryPath>,
    output: Box<dyn Write + Send>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
    tells_totals: bool,
) -> Result<DumpReport, DumpError> {
    let told = monitor.clone();
    let tell = |totals: Totals| {
        if tells_totals {
            told.totals(totals)
        }
    };
    let mut walk = reader.walk(snapshot.root, path.clone());
    let missing = || match &path {
        Some(path) => LookError::NoSuchPath { snapshot: snapshot.id, path: path.clone() },
        None => LookError::Empty { snapshot: snapshot.id },
    };
    let first = entry(walk.next().await)?.ok_or_else(missing)?;
    let dumper = Dumper { reader, output, monitor, cancel, handle: Handle::current(), report: DumpReport::default() };
    let is_only = snapshot.counts.entries() == 1;
    // Streams have no entries for what looks like directories in their names.
    let is_named = path.as_ref() == Some(&first.path);
    let single = (is_named || is_only).then(|| first.content().cloned()).flatten();
    match single {
        Some(content) => {
            tell(Totals { entries: Some(1), bytes: Some(content.size), ..Totals::default() });
            blocking(move || dumper.file(&first, &content)).await
        }
        None if is_named && !first.is_directory() => Err(DumpError::NoContent { path: first.path }),
        None => {
            let counts = &snapshot.counts;
            if path.is_none() {
                tell(Totals { entries: Some(counts.entries()), bytes: Some(counts.bytes), ..Totals::default() });
            }
            let strip = path.map_or(0, |path| path.as_bytes().len());
            blocking(move || dumper.tar(first, walk, strip)).await
        }
    }
}

/// Tells damage from what is only out of reach.
fn unread(entry: &Entry, source: ContentError) -> DumpError {
    let path = entry.path.clone();
    if source.is_damage() { DumpError::Damaged { path, source } } else { DumpError::Unreachable { path, source } }
}

fn entry(next: Option<Result<Entry, DamagedTree>>) -> Result<Option<Entry>, DumpError> {
    next.transpose().map_err(|damaged| DumpError::Tree { part: damaged.part, source: damaged.error })
}

struct Dumper {
    reader: Arc<Reader>,
    output: Box<dyn Write + Send>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
    handle: Handle,
    report: DumpReport,
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Dumper {
    fn file(mut self, entry: &Entry, content: &FileContent) -> Result<DumpReport, DumpError> {
        let mut stream = self.reader.content(content);
        while let Some(part) = self.handle.block_on(stream.next()) {
            if self.cancel.is_cancelled() {
                return Err(DumpError::Cancelled);
            }
            let written = match part.map_err(|source| unread(entry, source))? {
                ContentPart::Bytes(frame, range) => {
                    self.output.write_all(&frame[range.clone()]).map_err(DumpError::Output)?;
                    range.len() as u64
                }
                ContentPart::Zeros(length) => {
                    io::copy(&mut io::repeat(0).take(length), &mut self.output).map_err(DumpError::Output)?
                }
            };
            self.report.bytes += written;
            self.monitor.add(Counter::Bytes, written);
        }
        self.output.flush().map_err(DumpError::Output)?;
        self.monitor.add(Counter::Entries, 1);
        self.report.entries = 1;
        Ok(self.report)
    }

    /// Writes `first` and what the walk gives after it, paths without their first `strip` bytes.
    fn tar(self, first: Entry, mut walk: TreeWalk, strip: usize) -> Result<DumpReport, DumpError> {
        let Self { reader, output, monitor, cancel, handle, mut report } = self;
        let mut target = TarTarget::new(output);
        let mut current = Some(first);
        while let Some(now) = current {
            if cancel.is_cancelled() {
                return Err(DumpError::Cancelled);
            }
            let relative = now.path.as_bytes().get(strip..).unwrap_or_default();
            let relative = relative.strip_prefix(b"/").unwrap_or(relative);
            let stream = now.content().map(|content| reader.content(content));
            let mut bytes = ContentRead { stream, handle: &handle, part: None, at: 0, failed: None };
            let put = target.put(&now, relative, &mut bytes);
            if let Some(source) = bytes.failed {
                return Err(unread(&now, source));
            }
            match put.map_err(DumpError::Output)? {
                Put::Written => {
                    report.entries += 1;
                    report.bytes += now.size();
                    monitor.add(Counter::Entries, 1);
                    monitor.add(Counter::Bytes, now.size());
                }
                Put::Unsupported(why) => {
                    report.skipped += 1;
                    monitor.problem(Problem::missing(format!("/{}", now.path), why.to_owned()));
                }
            }
            current = entry(handle.block_on(walk.next()))?;
        }
        target.finish().map_err(DumpError::Output)?;
        Ok(report)
    }
}

/// A content as something to read from; why it failed is kept, because the reader only hears of an I/O error.
struct ContentRead<'a> {
    stream: Option<ContentStream>,
    handle: &'a Handle,
    part: Option<ContentPart>,
    at: u64,
    failed: Option<ContentError>,
}

impl Read for ContentRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let given = match &self.part {
                Some(ContentPart::Bytes(frame, range)) => {
                    let rest = &frame[range.start + self.at as usize..range.end];
                    let given = rest.len().min(buffer.len());
                    buffer[..given].copy_from_slice(&rest[..given]);
                    given
                }
                Some(ContentPart::Zeros(length)) => {
                    let rest = usize::try_from(length - self.at).unwrap_or(usize::MAX);
                    let given = rest.min(buffer.len()).min(ZEROS.len());
                    buffer[..given].copy_from_slice(&ZEROS[..given]);
                    given
                }
                None => 0,
            };
            if given > 0 || buffer.is_empty() {
                self.at += given as u64;
                return Ok(given);
            }
            let Some(stream) = &mut self.stream else { return Ok(0) };
            self.at = 0;
            match self.handle.block_on(stream.next()) {
                Some(Ok(part)) => self.part = Some(part),
                Some(Err(error)) => {
                    let message = chain(&error);
                    self.failed = Some(error);
                    return Err(io::Error::other(message));
                }
                None => return Ok(0),
            }
        }
    }
}
