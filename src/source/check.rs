//! Whether a stream is all of what its producer meant to write.
//!
//! An exit status of zero is not enough: a pipeline can hide that its first program failed, and standard input has no status
//! at all. Dump programs end their output with a mark, which is looked for; archives of `pg_dump` are shown to `pg_restore
//! --list` while they pass. What comes compressed already is told, because it can be neither deduplicated nor compressed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ChildStdin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::database::{fact, mysql};
use crate::model::entry::StreamDetail;
use crate::process::{CommandOptions, Ended, Piped, Process};
use crate::source::sql_dump::SqlDump;
use crate::source::{SourceError, StreamSource};

/// Bytes at the start by which a stream is recognised.
const HEAD_BYTES: usize = 512;
/// Bytes at the end in which the mark of completion is looked for.
const TAIL_BYTES: usize = 4096;

/// What ends the plain output of `pg_dump`.
pub const POSTGRES_MARK: &str = "-- PostgreSQL database dump complete";
/// What ends the output of `pg_dumpall`.
pub const POSTGRES_CLUSTER_MARK: &str = "-- PostgreSQL database cluster dump complete";
/// What ends the output of `mariadb-dump` and `mysqldump`.
pub const MYSQL_MARK: &str = "-- Dump completed";

/// How dumps begin that end with a mark.
const KNOWN_DUMPS: [(&str, &str); 4] = [
    ("-- PostgreSQL database dump\n", POSTGRES_MARK),
    ("-- PostgreSQL database cluster dump\n", POSTGRES_CLUSTER_MARK),
    ("-- MariaDB dump ", MYSQL_MARK),
    ("-- MySQL dump ", MYSQL_MARK),
];

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

/// What is asked of a stream besides that its producer ended well.
#[derive(Debug, Clone)]
pub enum Check {
    /// Nothing.
    Nothing,
    /// When it begins like a dump that ends with a mark, it must end so.
    Recognise,
    /// It must end with this mark; a few lines may follow.
    Mark(&'static str),
    /// It is a dump of `mariadb-dump` or `mysqldump` of a database, and must be complete.
    SqlDump,
    /// `pg_restore`, the program given, must be able to list it.
    Archive(OsString),
}

/// A stream that is looked at while it passes.
pub struct CheckedSource {
    inner: Box<dyn StreamSource>,
    name: String,
    check: Check,
    head: Vec<u8>,
    tail: Vec<u8>,
    lister: Option<Lister>,
    scan: Option<SqlDump>,
    facts: BTreeMap<String, String>,
    /// Something that must live as long as the stream, such as a snapshot of the database.
    _kept: Option<Box<dyn Send>>,
}

impl CheckedSource {
    /// Looks at what passes from `inner`, which messages call `name`, and adds `facts` to what is kept about it.
    ///
    /// # Errors
    /// [`SourceError::Spawn`] when `pg_restore` is needed and missing.
    pub fn new(
        inner: Box<dyn StreamSource>,
        name: String,
        check: Check,
        facts: BTreeMap<String, String>,
        kept: Option<Box<dyn Send>>,
    ) -> Result<Self, SourceError> {
        let lister = match &check {
            Check::Archive(pg_restore) => Some(Lister::start(pg_restore)?),
            _ => None,
        };
        let scan = matches!(check, Check::SqlDump).then(SqlDump::default);
        Ok(Self { inner, name, check, head: Vec::new(), tail: Vec::new(), lister, scan, facts, _kept: kept })
    }

    fn note(&mut self, bytes: &[u8]) {
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        let kept = TAIL_BYTES.saturating_sub(bytes.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - kept);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        if let Some(lister) = &mut self.lister {
            lister.feed(bytes);
        }
        if let Some(scan) = &mut self.scan {
            scan.feed(bytes);
        }
    }
}

impl Read for CheckedSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.note(&buffer[..count]);
        Ok(count)
    }
}

impl StreamSource for CheckedSource {
    fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        self.inner.wait_readable(timeout)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        let Self { inner, name, check, head, tail, lister, scan, mut facts, _kept } = *self;
        // That the producer failed says more than what is missing because of it.
        let mut detail = inner.finish()?;
        if facts.contains_key(fact::TABLE) {
            let said = detail.facts.remove(fact::SAID).map(|said| without_circles(&said));
            detail.facts.extend(said.filter(|said| !said.is_empty()).map(|said| (fact::SAID.to_owned(), said)));
        }
        let mark = match check {
            Check::Mark(mark) => Some(mark),
            Check::SqlDump => Some(MYSQL_MARK),
            Check::Recognise => expected_mark(&head),
            Check::Nothing | Check::Archive(_) => None,
        };
        if let Some(mark) = mark {
            if !contains(&tail, mark.as_bytes()) {
                return Err(SourceError::CutOff { name, mark });
            }
            facts.insert(fact::CHECKED.to_owned(), format!("ends with {mark:?}"));
        }
        if let Some(scan) = scan {
            let longest = scan.finish().map_err(|table| SourceError::RowsMissing { name: name.clone(), table })?;
            facts.insert(fact::LONGEST_LINE.to_owned(), longest.to_string());
        }
        if let Some(lister) = lister {
            let entries = lister.finish(&name)?;
            facts.insert(fact::ARCHIVE_ENTRIES.to_owned(), entries.to_string());
            facts.insert(fact::CHECKED.to_owned(), "listed by pg_restore".to_owned());
        }
        if let Some(compression) = compression(&head) {
            facts.insert(fact::COMPRESSED.to_owned(), compression.to_owned());
        }
        detail.facts.extend(facts);
        Ok(detail)
    }
}

/// Leaves out what `pg_dump` says about tables that refer to each other when it dumps the rows of one: they are restored
/// before there are constraints.
fn without_circles(said: &str) -> String {
    let mut in_circle = false;
    let kept = said.lines().filter(|line| {
        in_circle = match line.contains("circular foreign-key constraints") {
            true => true,
            false => in_circle && (line.contains("detail: ") || line.contains("hint: ")),
        };
        !in_circle
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// Returns the mark with which a stream that begins like this must end.
fn expected_mark(head: &[u8]) -> Option<&'static str> {
    KNOWN_DUMPS.iter().find(|(start, _)| contains(head, start.as_bytes())).map(|(_, mark)| *mark)
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

/// `pg_restore --list`, reading the start of an archive while it passes.
struct Lister {
    process: Process,
    input: Option<ChildStdin>,
    reading: JoinHandle<io::Result<String>>,
}

impl Lister {
    fn start(pg_restore: &OsString) -> Result<Self, SourceError> {
        let options = CommandOptions::new(pg_restore, ["--list"]).withholding(mysql::PASSWORD_VARIABLE);
        let failed = |source| SourceError::Spawn { command: options.name(), source };
        let (process, pipes) = Process::spawn(&options, Piped { input: true, output: true }).map_err(failed)?;
        let mut output = pipes.output.ok_or_else(|| failed(io::Error::other("it has no output")))?;
        let reading = thread::Builder::new().name("pg_restore --list".to_owned()).spawn(move || {
            let mut listing = Vec::new();
            output.read_to_end(&mut listing)?;
            Ok(String::from_utf8_lossy(&listing).into_owned())
        });
        Ok(Self { process, input: pipes.input, reading: reading.map_err(failed)? })
    }

    /// Gives it more; once it has seen the table of contents it ends, and needs nothing any more.
    fn feed(&mut self, bytes: &[u8]) {
        if self.input.as_mut().is_some_and(|input| input.write_all(bytes).is_err()) {
            self.input = None;
        }
    }

    /// Returns the number of entries in the table of contents.
    fn finish(mut self, name: &str) -> Result<u64, SourceError> {
        drop(self.input.take());
        let failed = |source| SourceError::Io { name: "pg_restore --list".to_owned(), source };
        let listing = self.reading.join().map_err(|_| failed(io::Error::other("its output could not be read")))?;
        let (ended, stderr) = self.process.wait().map_err(failed)?;
        let listing = listing.map_err(failed)?;
        let entries = listing.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty()).count();
        match ended {
            Ended::Status(0) => Ok(entries as u64),
            _ => Err(SourceError::NotListed { name: name.to_owned(), stderr }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::stdin::StdinSource;

    fn checked(bytes: &[u8], check: Check) -> Result<StreamDetail, SourceError> {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let writer = thread::spawn({
            let bytes = bytes.to_vec();
            move || std::fs::File::from(write).write_all(&bytes)
        });
        let inner = Box::new(StdinSource::from_fd(read));
        let mut source = Box::new(CheckedSource::new(inner, "it".into(), check, BTreeMap::new(), None)?);
        let mut passed = Vec::new();
        source.read_to_end(&mut passed).expect("read");
        writer.join().expect("no panic").expect("written");
        assert_eq!(passed, bytes);
        source.finish()
    }

    #[test]
    fn a_dump_that_is_recognised_must_be_complete() {
        let long = "INSERT INTO t VALUES (1);\n".repeat(100_000);
        for (start, mark) in KNOWN_DUMPS {
            let whole = format!("--\n{start}10.11\n{long}{mark} on 2026-11-25\n\n\\unrestrict x\n");
            let detail = checked(whole.as_bytes(), Check::Recognise).expect("complete");
            assert!(detail.facts[fact::CHECKED].contains(mark));
            let cut = &whole.as_bytes()[..whole.len() - 60];
            assert!(matches!(checked(cut, Check::Recognise), Err(SourceError::CutOff { .. })), "{start}");
            assert!(checked(cut, Check::Nothing).is_ok());
        }
        assert!(checked(b"anything", Check::Recognise).expect("no dump").facts.is_empty());
        assert!(matches!(checked(b"anything", Check::Mark(MYSQL_MARK)), Err(SourceError::CutOff { .. })));
    }

    #[test]
    fn only_the_warning_that_means_nothing_is_left_out() {
        let circle = "pg_dump: warning: there are circular foreign-key constraints on this table:\n\
            pg_dump: detail: people\npg_dump: hint: You might not be able to restore the dump\npg_dump: hint: Consider";
        assert_eq!(without_circles(circle), "");
        let more = "pg_dump: warning: subscriptions not dumped\npg_dump: hint: a";
        assert_eq!(without_circles(&format!("{circle}\n{more}")), more);
    }

    #[test]
    fn what_is_compressed_already_is_told() {
        let compressed = |head: &[u8]| {
            let detail = checked(&[head, &[0; 600]].concat(), Check::Recognise).expect("a stream");
            detail.facts.get(fact::COMPRESSED).cloned()
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
            let (read, _) = rustix::pipe::pipe().expect("a pipe");
            let inner = Box::new(StdinSource::from_fd(read));
            let source = CheckedSource::new(inner, String::new(), Check::Nothing, BTreeMap::new(), None);
            let mut source = source.expect("nothing to start");
            bytes.chunks(piece).for_each(|piece| source.note(piece));
            assert_eq!(source.tail, bytes[bytes.len() - TAIL_BYTES..], "{piece}");
            assert_eq!(source.head, bytes[..HEAD_BYTES], "{piece}");
        }
    }
}
