//! A SQLite database as a source: copied into a spool file, checked there, and read from it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::database::spool::SpoolFile;
use crate::engine::sqlite::check::check;
use crate::engine::sqlite::copy::{copy, library_version};
use crate::engine::sqlite::{NAME, facts, rows};
use crate::engine::tally::{ROWS_NOT_COUNTED, not_counted};
use crate::model::entry::StreamDetail;
use crate::model::facts::{StreamFacts, fact};
use crate::model::path::display_bytes;
use crate::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};

/// Which database to take, and where to copy it to.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    /// The file.
    pub file: PathBuf,
    /// A directory with room for the copy.
    pub spool: PathBuf,
    /// Digest the rows of each table.
    pub digests: bool,
}

impl SqliteSource {
    /// Returns the file with its whole path.
    fn absolute_file(&self) -> PathBuf {
        std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone())
    }
}

impl Source for SqliteSource {
    fn name(&self) -> Vec<u8> {
        [b"sqlite:".as_slice(), self.absolute_file().as_os_str().as_bytes()].concat()
    }

    /// Returns the member that a database is; its stream is named after the file's whole path, below `sqlite/`.
    fn plan(&self, _: &Planning) -> Result<Vec<Member>, SourceError> {
        let file = self.absolute_file();
        let name = [b"sqlite".as_slice(), file.as_os_str().as_bytes()].concat();
        let label = display_bytes(file.as_os_str().as_bytes()).to_string();
        let opener = Arc::new(Copy { file, spool: self.spool.clone(), digests: self.digests });
        Ok(vec![Member { label, streams: Ok(vec![PlannedStream { name, opener }]), notes: Vec::new() }])
    }

    fn asking(&self) -> Option<&'static str> {
        Some("asking the databases")
    }
}

struct Copy {
    file: PathBuf,
    spool: PathBuf,
    digests: bool,
}

impl OpenStream for Copy {
    fn open(&self, cancel: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
        let unreadable = |source| SourceError::Io { name: self.file.display().to_string(), source };
        let metadata = std::fs::metadata(&self.file).map_err(unreadable)?;
        let spool = SpoolFile::create(&self.spool, metadata.len())?;
        let known = copy(&self.file, spool.path(), cancel)?;
        let unchecked = check(spool.path()).map_err(|error| name_source(error, &self.file))?;
        let file = File::open(spool.path())
            .map_err(|source| DatabaseError::Spool { path: spool.path().to_owned(), source })?;
        let mut facts = StreamFacts::default();
        facts.set(fact::ENGINE, NAME.to_owned());
        facts.set(fact::FORMAT, facts::FILE_FORMAT.to_owned());
        facts.set(fact::CLIENT_VERSION, library_version().to_owned());
        facts.set(fact::FILE, self.file.display().to_string());
        facts.set(facts::FILE_MODE, format!("{:o}", metadata.mode() & 0o777));
        facts.set(facts::FILE_OWNER, owner(&metadata));
        facts.set(fact::DATABASE_BYTES, known.bytes);
        facts.set(fact::CHECKED, "integrity check of SQLite".to_owned());
        facts.set_some(facts::UNCHECKED, Some(unchecked.join("; ")).filter(|_| !unchecked.is_empty()));
        facts.set(facts::JOURNAL_MODE, known.journal_mode);
        facts.set(facts::USER_VERSION, known.user_version);
        facts.set(fact::TABLES, known.tables);
        match rows::count(spool.path(), self.digests) {
            Ok(tally) => tally.keep(rows::SCHEME, &mut facts),
            Err(error) => facts.set(ROWS_NOT_COUNTED, error.to_string()),
        }
        Ok(Box::new(SpooledSource { file, facts, at_end: false, _spool: spool }))
    }

    fn advise(&self, facts: &StreamFacts) -> Vec<String> {
        let not_counted = not_counted(facts).filter(|_| self.digests);
        facts.text(facts::UNCHECKED).map(unchecked_note).into_iter().chain(not_counted).collect()
    }
}

/// Tells what could not be checked.
pub(super) fn unchecked_note(unchecked: &str) -> String {
    format!(
        "whole page by page; that rows and indexes fit together could not be checked where they need what only their own \
         program has: {unchecked}"
    )
}

/// Returns user and group that own a file, by name where they have one.
fn owner(metadata: &std::fs::Metadata) -> String {
    let user = uzers::get_user_by_uid(metadata.uid()).map(|user| user.name().to_string_lossy().into_owned());
    let group = uzers::get_group_by_gid(metadata.gid()).map(|group| group.name().to_string_lossy().into_owned());
    let or_number = |name: Option<String>, number: u32| name.unwrap_or_else(|| number.to_string());
    format!("{}:{}", or_number(user, metadata.uid()), or_number(group, metadata.gid()))
}

/// The damage is the source's: the copy is equal to it.
fn name_source(error: DatabaseError, file: &std::path::Path) -> DatabaseError {
    match error {
        DatabaseError::SqliteDamaged { findings, .. } => {
            DatabaseError::SqliteDamaged { file: file.to_owned(), findings }
        }
        DatabaseError::Sqlite { what, source, .. } => DatabaseError::Sqlite { file: file.to_owned(), what, source },
        other => other,
    }
}

/// A complete file, read from a spool.
struct SpooledSource {
    file: File,
    facts: StreamFacts,
    at_end: bool,
    _spool: SpoolFile,
}

impl Read for SpooledSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.at_end |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl StreamSource for SpooledSource {
    fn wait_readable(&self, _: &Cancel, _: Option<Duration>) -> io::Result<bool> {
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        if !self.at_end {
            let name = self.facts.get(fact::FILE).unwrap_or_default();
            return Err(SourceError::Unfinished { name, stderr: Vec::new() });
        }
        Ok(StreamDetail { facts: self.facts, ..StreamDetail::default() })
    }
}
