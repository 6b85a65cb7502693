//! Whether a stream is all of what its producer meant to write.
//!
//! An exit status of zero is not enough: a pipeline can hide that its first program failed, and standard input has no status
//! at all. Dump programs end their output with a mark, which is looked for; what else can be asked of a dump, its engine knows,
//! and asks as a [`Check`]. What comes compressed already is told, because it can be neither deduplicated nor compressed.

use std::io::{self, Read};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::model::entry::StreamDetail;
use crate::model::facts::{StreamFacts, fact};
use crate::source::{SourceError, StreamSource};

/// Bytes at the start by which a stream is recognised.
const HEAD_BYTES: usize = 512;
/// Bytes at the end in which the mark of completion is looked for.
const TAIL_BYTES: usize = 4096;

/// How compressed files begin.
const COMPRESSIONS: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
];

/// Something that is asked of a stream besides that its producer ended well.
pub trait Check: Send {
    /// Looks at more of it.
    fn feed(&mut self, bytes: &[u8]);

    /// Judges the stream, which messages call `name`, now that all of it has passed, and keeps what was found.
    ///
    /// # Errors
    /// When it must not be kept.
    fn finish(self: Box<Self>, name: &str, detail: &mut StreamDetail) -> Result<(), SourceError>;
}

/// It must end with a mark; a few lines may follow.
#[derive(Debug)]
pub struct EndsWith {
    mark: &'static str,
    tail: Vec<u8>,
}

impl EndsWith {
    /// Asks for this mark.
    pub fn new(mark: &'static str) -> Self {
        Self { mark, tail: Vec::new() }
    }
}

impl Check for EndsWith {
    fn feed(&mut self, bytes: &[u8]) {
        keep_tail(&mut self.tail, bytes);
    }

    fn finish(self: Box<Self>, name: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        let Self { mark, tail } = *self;
        if !contains(&tail, mark.as_bytes()) {
            return Err(SourceError::CutOff { name: name.to_owned(), mark });
        }
        detail.facts.set(fact::CHECKED, format!("ends with {mark:?}"));
        Ok(())
    }
}

/// When it begins like a dump that ends with a mark, it must end so.
#[derive(Debug)]
pub struct EndsAsItBegins {
    known: Vec<(&'static str, &'static str)>,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl EndsAsItBegins {
    /// Knows dumps by how they begin, each with the mark that it must end with.
    pub fn new(known: Vec<(&'static str, &'static str)>) -> Self {
        Self { known, head: Vec::new(), tail: Vec::new() }
    }
}

impl Check for EndsAsItBegins {
    fn feed(&mut self, bytes: &[u8]) {
        keep_head(&mut self.head, bytes);
        keep_tail(&mut self.tail, bytes);
    }

    fn finish(self: Box<Self>, name: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        let begun = self.known.iter().find(|(start, _)| contains(&self.head, start.as_bytes()));
        match begun {
            Some((_, mark)) => Box::new(EndsWith { mark, tail: self.tail }).finish(name, detail),
            None => Ok(()),
        }
    }
}

/// A stream that is looked at while it passes.
pub struct CheckedSource {
    inner: Box<dyn StreamSource>,
    name: String,
    checks: Vec<Box<dyn Check>>,
    head: Vec<u8>,
    facts: StreamFacts,
    /// Something that must live as long as the stream, such as a snapshot of the database.
    _kept: Option<Box<dyn Send>>,
}

impl CheckedSource {
    /// Looks at what passes from `inner`, which messages call `name`: all of `checks` must find it whole.
    pub fn new(inner: Box<dyn StreamSource>, name: String, checks: Vec<Box<dyn Check>>) -> Self {
        Self { inner, name, checks, head: Vec::new(), facts: StreamFacts::default(), _kept: None }
    }

    /// Adds these to what is kept about it.
    pub fn with_facts(self, facts: StreamFacts) -> Self {
        Self { facts, ..self }
    }

    /// Keeps something for as long as the stream is read.
    pub fn keeping(self, kept: Option<Box<dyn Send>>) -> Self {
        Self { _kept: kept, ..self }
    }
}

impl Read for CheckedSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        keep_head(&mut self.head, &buffer[..count]);
        self.checks.iter_mut().for_each(|check| check.feed(&buffer[..count]));
        Ok(count)
    }
}

impl StreamSource for CheckedSource {
    fn wait_readable(&self, cancel: &Cancel, timeout: Option<Duration>) -> io::Result<bool> {
        self.inner.wait_readable(cancel, timeout)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        // That the producer failed says more than what is missing because of it.
        let mut detail = self.inner.finish()?;
        for check in self.checks {
            check.finish(&self.name, &mut detail)?;
        }
        if let Some(compression) = compression(&self.head) {
            detail.facts.set(fact::COMPRESSED, compression.to_owned());
        }
        detail.facts.extend(self.facts);
        Ok(detail)
    }
}

/// Keeps the first bytes of what passes.
fn keep_head(head: &mut Vec<u8>, bytes: &[u8]) {
    let wanted = HEAD_BYTES.saturating_sub(head.len()).min(bytes.len());
    head.extend_from_slice(&bytes[..wanted]);
}

/// Keeps the last bytes of what passes.
fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let kept = TAIL_BYTES.saturating_sub(bytes.len()).min(tail.len());
    tail.drain(..tail.len() - kept);
    tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Tells how a stream that begins like this is compressed.
fn compression(head: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = COMPRESSIONS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(name);
    }
    // Archives of pg_dump: mark, version in three bytes, two sizes, the format, and the compression: since version 1.15
    // an algorithm in one byte, before it a level as a sign and bytes (src/bin/pg_dump/pg_backup_archiver.c, ReadHead).
    let header = head.strip_prefix(b"PGDMP").filter(|header| header.len() > 11)?;
    match (header[0], header[1], &header[6..11]) {
        (0, ..) => None,
        (1, ..=14, level) => level[1..].iter().any(|&byte| byte != 0).then_some("pg_dump's own compression"),
        (_, _, algorithm) => (algorithm[0] != 0).then_some("pg_dump's own compression"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;
    use crate::source::stdin::StdinSource;

    const MARK: &str = "-- Dump completed";
    const KNOWN: [(&str, &str); 2] = [("-- A dump\n", MARK), ("-- Another dump ", "-- the end of it")];

    fn checked(bytes: &[u8], checks: Vec<Box<dyn Check>>) -> Result<StreamDetail, SourceError> {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let writer = thread::spawn({
            let bytes = bytes.to_vec();
            move || std::fs::File::from(write).write_all(&bytes)
        });
        let inner = Box::new(StdinSource::from_fd(read));
        let mut source = Box::new(CheckedSource::new(inner, "it".into(), checks));
        let mut passed = Vec::new();
        source.read_to_end(&mut passed).expect("read");
        writer.join().expect("no panic").expect("written");
        assert_eq!(passed, bytes);
        source.finish()
    }

    fn recognised(bytes: &[u8]) -> Result<StreamDetail, SourceError> {
        checked(bytes, vec![Box::new(EndsAsItBegins::new(KNOWN.to_vec()))])
    }

    #[test]
    fn a_dump_that_is_recognised_must_be_complete() {
        let long = "INSERT INTO t VALUES (1);\n".repeat(100_000);
        for (start, mark) in KNOWN {
            let whole = format!("--\n{start}10.11\n{long}{mark} on 2026-11-25\n\n\\unrestrict x\n");
            let detail = recognised(whole.as_bytes()).expect("complete");
            assert!(detail.facts.text(fact::CHECKED).is_some_and(|found| found.contains(mark)));
            let cut = &whole.as_bytes()[..whole.len() - 60];
            assert!(matches!(recognised(cut), Err(SourceError::CutOff { .. })), "{start}");
            assert!(checked(cut, Vec::new()).is_ok());
        }
        assert_eq!(recognised(b"anything").expect("no dump").facts, StreamFacts::default());
        let marked = checked(b"anything", vec![Box::new(EndsWith::new(MARK))]);
        assert!(matches!(marked, Err(SourceError::CutOff { .. })));
    }

    #[test]
    fn what_is_compressed_already_is_told() {
        let compressed = |head: &[u8]| {
            let detail = recognised(&[head, &[0; 600]].concat()).expect("a stream");
            detail.facts.get(fact::COMPRESSED)
        };
        assert_eq!(compressed(b"\x1f\x8b\x08").as_deref(), Some("gzip"));
        assert_eq!(compressed(b"\x28\xb5\x2f\xfd").as_deref(), Some("zstd"));
        assert_eq!(compressed(b"CREATE TABLE"), None);
        // Version 1.14 with level -1 and 0, version 1.15 with zstd and none.
        assert!(compressed(b"PGDMP\x01\x0e\x00\x04\x08\x01\x01\x01\0\0\0").is_some());
        assert_eq!(compressed(b"PGDMP\x01\x0e\x00\x04\x08\x01\x00\x00\0\0\0"), None);
        assert!(compressed(b"PGDMP\x01\x0f\x00\x04\x08\x01\x03").is_some());
        assert_eq!(compressed(b"PGDMP\x01\x0f\x00\x04\x08\x01\x00\0\0"), None);
    }

    #[test]
    fn the_end_is_kept_whatever_the_reads_are() {
        let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        for piece in [1, 100, 4095, 4096, 4097, 30_000] {
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            for bytes in bytes.chunks(piece) {
                keep_head(&mut head, bytes);
                keep_tail(&mut tail, bytes);
            }
            assert_eq!(tail, bytes[bytes.len() - TAIL_BYTES..], "{piece}");
            assert_eq!(head, bytes[..HEAD_BYTES], "{piece}");
        }
    }
}
