//! Salvage: one file or stream of which something is lost, with what there is of it, and every gap named.
//!
//! Everything else refuses to go on where something is lost. This is for when the rest is worth having: rows of a dump without those
//! that are gone, an image with zeros in their place. What is written was compared with its ids, chunk by chunk.

use std::io::{self, Read, Write};
use std::sync::Arc;

use memchr::memchr;
use tokio::runtime::Handle;

use crate::blocking::blocking;
use crate::model::entry::{Entry, FileContent};
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::dump::DumpError;
use crate::ops::salvage::rows::{RowWriter, RowsAt};
use crate::ops::{Cancel, LookError};
use crate::progress::{Counter, Monitor, Totals, chain};
use crate::repository::reader::content::{ContentError, ContentPart};
use crate::repository::reader::salvage::{SalvageStream, SalvagedPart};
use crate::repository::reader::{ReadError, Reader};

mod rows;

/// Gaps that are told, each with about 500 bytes; beyond them their number.
const GAPS_TOLD: usize = 10_000;
/// So much of what comes first tells whether it is text.
const LOOKED_AT: usize = 4096;

/// What becomes of gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GapFill {
    /// [`GapFill::Rows`] for text and for archives of PostgreSQL, else [`GapFill::Zeros`].
    #[default]
    ByContent,
    /// As many zeros as bytes are lost, so that everything else stands where it stood: for images, pages, archives with a directory.
    Zeros,
    /// Nothing, and the lines that are hit are left out whole: for dumps, so that what is left can be read as one.
    Rows,
}

/// A run of bytes that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvageGap {
    /// Where it begins in the file or stream.
    pub offset: u64,
    /// Its length, in bytes.
    pub length: u64,
    /// Where it stands in what was written.
    pub written_at: u64,
    /// Lines that were written before it, where rows are left out.
    pub lines: Option<u64>,
    /// The table that rows are of there, where it is known.
    pub table: Option<String>,
    /// How the last row before it begins, as far as whole ones were written.
    pub after: Option<String>,
    /// How the first row behind it begins.
    pub before: Option<String>,
    /// Why it is lost.
    pub why: String,
}

/// What was written, and what is missing of it.
#[derive(Debug, Clone)]
pub struct SalvageReport {
    /// What was salvaged.
    pub path: EntryPath,
    /// Bytes that were written, zeros in gaps among them.
    pub bytes: u64,
    /// Bytes that are lost.
    pub lost_bytes: u64,
    /// Bytes that are there and were left out, because the rest of their lines is lost.
    pub left_out_bytes: u64,
    /// What became of gaps: never [`GapFill::ByContent`].
    pub fill: GapFill,
    /// The gaps in order, at most ten thousand.
    pub gaps: Vec<SalvageGap>,
    /// How many there are.
    pub gap_count: u64,
}

impl Ended for SalvageReport {
    fn outcome(&self) -> Outcome {
        if self.gap_count > 0 { Outcome::Damaged } else { Outcome::Clean }
    }
}

/// Writes what there is of the file or stream at `path` to `output`; a snapshot of one single stream is that stream.
///
/// # Errors
/// [`DumpError`], but none because something is lost: that is in the report. A directory is none that can be salvaged:
/// restoring one puts what is damaged aside, each file by itself.
pub async fn salvage(
    reader: Arc<Reader>,
    snapshot: &Snapshot,
    path: Option<EntryPath>,
    fill: GapFill,
    output: Box<dyn Write + Send>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<SalvageReport, DumpError> {
    let missing = || match &path {
        Some(path) => LookError::NoSuchPath { snapshot: snapshot.id, path: path.clone() },
        None => LookError::Empty { snapshot: snapshot.id },
    };
    let first = reader.walk(snapshot.root, path.clone()).next().await.transpose();
    let first = first.map_err(|damaged| DumpError::Tree { part: damaged.part, source: damaged.error })?;
    let entry = first.ok_or_else(missing)?;
    let is_one = path.as_ref() == Some(&entry.path) || snapshot.counts.entries() == 1;
    let Some(content) = entry.content().filter(|_| is_one).cloned() else {
        return Err(DumpError::NoContent { path: entry.path });
    };
    monitor.totals(Totals { entries: Some(1), bytes: Some(content.size), ..Totals::default() });
    let fill = match fill {
        GapFill::ByContent => by_content(&reader, &entry, &content).await?,
        given => given,
    };
    let handle = Handle::current();
    let report = SalvageReport {
        path: entry.path.clone(),
        bytes: 0,
        lost_bytes: 0,
        left_out_bytes: 0,
        fill,
        gaps: Vec::new(),
        gap_count: 0,
    };
    let salvager = Salvager { reader, monitor, cancel, handle, report };
    blocking(move || match fill {
        GapFill::Rows => salvager.rows(&entry, &content, RowWriter::new(output)),
        GapFill::Zeros | GapFill::ByContent => salvager.zeros(&entry, &content, output),
    })
    .await
}

/// Decides what becomes of gaps by the first bytes that are there.
async fn by_content(reader: &Arc<Reader>, entry: &Entry, content: &FileContent) -> Result<GapFill, DumpError> {
    let mut stream = reader.salvaged_content(content);
    while let Some(part) = stream.next().await {
        match part.map_err(|source| unread(entry, source))? {
            SalvagedPart::There(ContentPart::Bytes(frame, range)) if is_of_rows(&frame[range.clone()]) => {
                return Ok(GapFill::Rows);
            }
            SalvagedPart::There(_) => return Ok(GapFill::Zeros),
            SalvagedPart::Lost { .. } => {}
        }
    }
    Ok(GapFill::Zeros)
}

/// Tells whether what begins so is made of rows that may be left out.
fn is_of_rows(first: &[u8]) -> bool {
    let first = &first[..first.len().min(LOOKED_AT)];
    first.starts_with(b"PGDMP") || memchr(0, first).is_none() && memchr(b'\n', first).is_some()
}

struct Salvager {
    reader: Arc<Reader>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
    handle: Handle,
    report: SalvageReport,
}

impl Salvager {
    /// Writes everything where it stood.
    fn zeros(
        mut self,
        entry: &Entry,
        content: &FileContent,
        mut output: Box<dyn Write + Send>,
    ) -> Result<SalvageReport, DumpError> {
        let mut stream = self.reader.salvaged_content(content);
        let mut offset = 0;
        while let Some(part) = self.next(&mut stream, entry)? {
            let zeros = match part {
                SalvagedPart::There(ContentPart::Bytes(frame, range)) => {
                    output.write_all(&frame[range.clone()]).map_err(DumpError::Output)?;
                    offset += range.len() as u64;
                    continue;
                }
                SalvagedPart::There(ContentPart::Zeros(zeros)) => zeros,
                SalvagedPart::Lost { length, why, .. } => {
                    self.lost(offset, length, offset, None, &why);
                    length
                }
            };
            io::copy(&mut io::repeat(0).take(zeros), &mut output).map_err(DumpError::Output)?;
            offset += zeros;
        }
        output.flush().map_err(DumpError::Output)?;
        self.report.bytes = offset;
        Ok(self.report)
    }

    /// Leaves out the lines that are hit.
    fn rows(mut self, entry: &Entry, content: &FileContent, mut rows: RowWriter) -> Result<SalvageReport, DumpError> {
        let mut stream = self.reader.salvaged_content(content);
        let mut offset = 0;
        while let Some(part) = self.next(&mut stream, entry)? {
            match part {
                SalvagedPart::There(ContentPart::Bytes(frame, range)) => {
                    rows.write(&frame[range.clone()]).map_err(DumpError::Output)?;
                    offset += range.len() as u64;
                }
                SalvagedPart::There(ContentPart::Zeros(zeros)) => {
                    let mut left = zeros;
                    while left > 0 {
                        let now = left.min(ZEROS.len() as u64);
                        rows.write(&ZEROS[..now as usize]).map_err(DumpError::Output)?;
                        left -= now;
                    }
                    offset += zeros;
                }
                SalvagedPart::Lost { length, why, is_of_lines } => {
                    let at = rows.gap(is_of_lines).map_err(DumpError::Output)?;
                    self.lost(offset, length, rows.written, Some(at), &why);
                    offset += length;
                }
            }
            if let Some((first, gap)) = rows.take_first().zip(self.report.gaps.last_mut()) {
                gap.before.get_or_insert(first);
            }
        }
        rows.finish().map_err(DumpError::Output)?;
        (self.report.bytes, self.report.left_out_bytes) = (rows.written, rows.left_out);
        Ok(self.report)
    }

    fn next(&self, stream: &mut SalvageStream, entry: &Entry) -> Result<Option<SalvagedPart>, DumpError> {
        if self.cancel.is_cancelled() {
            return Err(DumpError::Cancelled);
        }
        let part = self.handle.block_on(stream.next()).transpose().map_err(|source| unread(entry, source))?;
        if let Some(part) = &part {
            self.monitor.add(Counter::Bytes, part.length());
        }
        Ok(part)
    }

    /// Notes lost bytes; those that touch the ones before belong to one gap.
    fn lost(&mut self, offset: u64, length: u64, written_at: u64, rows: Option<RowsAt>, why: &ReadError) {
        self.report.lost_bytes += length;
        let why = chain(why.root());
        let last = self.report.gaps.last_mut().filter(|last| last.offset + last.length == offset && last.why == why);
        if let Some(last) = last {
            last.length += length;
            return;
        }
        self.report.gap_count += 1;
        if self.report.gaps.len() < GAPS_TOLD {
            let lines = rows.as_ref().map(|rows| rows.lines);
            let RowsAt { after, table, .. } = rows.unwrap_or_default();
            self.report.gaps.push(SalvageGap { offset, length, written_at, lines, table, after, before: None, why });
        }
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Something is out of reach, or the entry is not what it says.
fn unread(entry: &Entry, source: ContentError) -> DumpError {
    let path = entry.path.clone();
    if source.is_damage() { DumpError::Damaged { path, source } } else { DumpError::Unreachable { path, source } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_archives_of_postgresql_are_of_rows() {
        for (first, expected) in [
            (&b"-- MariaDB dump\n"[..], true),
            (b"PGDMP\x01\x0e\0\x04", true),
            (b"SQLite format 3\0\x10\0\n", false),
            (b"no line ends here", false),
            (b"", false),
        ] {
            assert_eq!(is_of_rows(first), expected, "{first:?}");
        }
    }
}
