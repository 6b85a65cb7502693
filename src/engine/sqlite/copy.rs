//! SQLite files: copied by the online backup API while others use them.
//!
//! The copy goes page by page into another file; what is read is consistent, whatever is written meanwhile
//! (<https://sqlite.org/backup.html>). A database in WAL mode is copied in one go, which stops nobody. One with a rollback
//! journal is copied in steps, each of which holds a lock for a few milliseconds; when a writer comes between, SQLite begins
//! anew, and after three times the rest is copied in one go, because otherwise it might never end.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::cancel::Cancel;
use crate::database::DatabaseError;

/// Pages copied in one step: 4 MiB of the usual 4 KiB pages.
const STEP_PAGES: i32 = 1024;
/// Times that a copy may begin anew because somebody wrote.
const RESTARTS: u32 = 3;
/// How long a lock of somebody else is waited for.
const BUSY: Duration = Duration::from_secs(60);
/// How often a lock is tried.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// What is kept about a SQLite database.
#[derive(Debug, Clone, Default)]
pub struct SqliteFacts {
    /// Bytes of all pages.
    pub bytes: u64,
    /// Its journal mode: `wal`, `delete`, …
    pub journal_mode: String,
    /// `PRAGMA user_version`, which applications number their schema by.
    pub user_version: i64,
    /// Tables.
    pub tables: u64,
}

/// Copies the database in `from` into the file `to`, which must not exist or be a database, and returns what it is.
///
/// `cancel` is listened to between steps. Nothing in the source is changed; it is opened for writing where that is allowed,
/// because only then SQLite can roll back what a crashed program left, and removes its own files when it was the last user.
///
/// # Errors
/// [`DatabaseError::Sqlite`]; `to` is then of no use.
pub fn copy(from: &Path, to: &Path, cancel: &Cancel) -> Result<SqliteFacts, DatabaseError> {
    let failed = |what| move |source| DatabaseError::Sqlite { file: from.to_owned(), what, source };
    let source =
        open(from, OpenFlags::SQLITE_OPEN_READ_WRITE).or_else(|_| open(from, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    let pragma = |name: &str| source.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let journal_mode: String =
        source.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(failed("read"))?;
    let facts = SqliteFacts {
        bytes: (pragma("page_count").map_err(failed("read"))? * pragma("page_size").map_err(failed("read"))?)
            .cast_unsigned(),
        user_version: pragma("user_version").map_err(failed("read"))?,
        tables: source
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get::<_, i64>(0))
            .map_err(failed("read"))?
            .cast_unsigned(),
        journal_mode,
    };
    copy_pages(&source, to, facts.journal_mode == "wal", cancel).map_err(failed("copied"))?;
    Ok(facts)
}

fn copy_pages(source: &Connection, to: &Path, at_once: bool, cancel: &Cancel) -> rusqlite::Result<()> {
    let mut target = Connection::open(to)?;
    // Nobody reads the copy before it is complete; a live target keeps its journal, so that a crash undoes the change.
    if std::fs::metadata(to).is_ok_and(|metadata| metadata.len() == 0) {
        target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    }
    target.busy_timeout(BUSY)?;
    let backup = Backup::new(source, &mut target)?;
    let (mut restarts, mut waited, mut left) = (0, Duration::ZERO, i32::MAX);
    loop {
        let pages = if at_once || restarts >= RESTARTS { -1 } else { STEP_PAGES };
        match backup.step(pages)? {
            StepResult::Done => return Ok(()),
            StepResult::More => waited = Duration::ZERO,
            // Busy or locked: somebody writes.
            _ if waited >= BUSY => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(code, Some("others kept it locked for a minute".into())));
            }
            _ => {
                std::thread::sleep(BUSY_STEP);
                waited += BUSY_STEP;
            }
        }
        let now_left = backup.progress().remaining;
        if now_left > left {
            restarts += 1;
        }
        left = now_left;
        if cancel.is_cancelled() {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
            return Err(rusqlite::Error::SqliteFailure(code, Some("ending was asked for".into())));
        }
    }
}

/// Returns the version of the SQLite library in use.
pub fn library_version() -> &'static str {
    rusqlite::version()
}

fn open(file: &Path, access: OpenFlags) -> Result<Connection, DatabaseError> {
    let failed = |source| DatabaseError::Sqlite { file: file.to_owned(), what: "opened", source };
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sqlite::check::check;

    fn database(path: &Path, journal: &str) -> Connection {
        let connection = Connection::open(path).expect("opened");
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = {journal}; PRAGMA user_version = 7;
                 CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                 INSERT INTO t SELECT i, printf('row %d', i * 7919) FROM n;"
            ))
            .expect("filled");
        connection
    }

    #[test]
    fn a_copy_is_equal_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        for journal in ["wal", "delete"] {
            let (from, to) = (directory.path().join(journal), directory.path().join(format!("{journal} copy?#%")));
            let live = database(&from, journal);
            let facts = copy(&from, &to, &Cancel::default()).expect("copied");
            assert_eq!((facts.journal_mode.as_str(), facts.user_version, facts.tables), (journal, 7, 1));
            assert_eq!(check(&to).expect("sound"), [""; 0]);
            drop(live);
            let sum = |file: &Path| -> i64 {
                let connection = Connection::open(file).expect("opened");
                connection.query_row("SELECT sum(length(y) * x) FROM t", [], |row| row.get(0)).expect("summed")
            };
            assert_eq!(sum(&from), sum(&to));
        }
    }
}
