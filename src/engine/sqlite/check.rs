//! Whether a copy of a SQLite database is sound, as far as that can be told without the program that made it.
//!
//! A database may need what only its own program has: collations, functions in indexes, modules and tokenizers of virtual
//! tables. SQLite then checks nothing at all of it. So the tables are checked one by one, and what is left over is walked
//! through page by page: the file is whole, and that the order in an index is its program's is all that is not known.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Result};

use crate::database::DatabaseError;

/// Findings of an integrity check that are shown.
const FINDINGS: usize = 10;
/// How a finding begins that is about a module that is not here.
const NOT_VALIDATED: &str = "unable to validate";
/// `PRAGMA integrity_check` of one table, and the check that does not compare its indexes with it.
const CHECKS: [&str; 2] = ["integrity_check", "quick_check"];

/// Checks a database that nobody else uses; it is not written to. Returns the tables of which pages alone could be checked,
/// each with the reason.
///
/// # Errors
/// [`DatabaseError::SqliteDamaged`] with what the check found, or [`DatabaseError::Sqlite`].
pub fn check(file: &Path) -> std::result::Result<Vec<String>, DatabaseError> {
    let damaged = |findings| DatabaseError::SqliteDamaged { file: file.to_owned(), findings };
    let failed = |source: Error| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(vec![source.to_string()]),
        _ => DatabaseError::Sqlite { file: file.to_owned(), what: "checked", source },
    };
    let connection = open_unshared(file).map_err(failed)?;
    match findings(&connection, "PRAGMA integrity_check") {
        Ok((found, unchecked)) if found.is_empty() => Ok(unchecked),
        Ok((found, _)) => Err(damaged(found)),
        Err(error) if is_of_its_program(&error) => {
            let (found, unchecked) = by_table(&connection).map_err(failed)?;
            if found.is_empty() { Ok(unchecked) } else { Err(damaged(found)) }
        }
        Err(error) => Err(failed(error)),
    }
}

/// Opens a database that nobody else uses, to be read.
pub(super) fn open_unshared(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    // Immutable: without locks, and without the files that WAL mode would make beside it.
    Connection::open_with_flags(format!("file:{}?immutable=1", encoded(file)), flags)
}

/// Checks table by table, as much of each as can be. Returns what was found, and what could not be checked.
fn by_table(connection: &Connection) -> Result<(Vec<String>, Vec<String>)> {
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    let (mut found, mut unchecked) = (Vec::new(), Vec::new());
    for table in tables {
        let literal = table.replace('\'', "''");
        for check in CHECKS {
            match findings(connection, &format!("PRAGMA {check}('{literal}')")) {
                Ok((damage, not_validated)) => {
                    found.extend(damage);
                    unchecked.extend(not_validated);
                    break;
                }
                Err(error) if is_of_its_program(&error) => {
                    // The first says what is missing; it misses it in the second, too, or that looks at less.
                    if check == CHECKS[0] {
                        unchecked.push(format!("{table} ({})", why(&error)));
                        found.extend(walk(connection, &table)?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    found.truncate(FINDINGS);
    Ok((found, unchecked))
}

/// Reads every page of a table and of its indexes, and returns those that are none.
fn walk(connection: &Connection, table: &str) -> Result<Vec<String>> {
    const PAGES: &str = "SELECT d.name, d.pageno FROM sqlite_schema s JOIN dbstat d ON d.name = s.name
        WHERE s.tbl_name = ?1 AND d.pagetype NOT IN ('internal', 'leaf', 'overflow')";
    let mut statement = connection.prepare(PAGES)?;
    let page = |row: &rusqlite::Row<'_>| {
        let (name, number) = (row.get::<_, String>(0)?, row.get::<_, i64>(1)?);
        Ok(format!("page {number} of {name} is not as it was written"))
    };
    statement.query_map([table], page)?.take(FINDINGS).collect()
}

/// Runs a check. Returns what it found, and what it says that it could not look at.
fn findings(connection: &Connection, check: &str) -> Result<(Vec<String>, Vec<String>)> {
    let mut statement = connection.prepare(check)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let found: Vec<String> = rows.take(FINDINGS).collect::<Result<_>>()?;
    let (not_validated, mut found): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|line| line.starts_with(NOT_VALIDATED));
    found.retain(|line| line != "ok");
    Ok((found, not_validated))
}

/// Tells whether SQL failed for want of what only the program of the database has, and not for what is in the file.
fn is_of_its_program(error: &Error) -> bool {
    match error {
        Error::SqlInputError { error, .. } => error.extended_code & 0xff == rusqlite::ffi::SQLITE_ERROR,
        Error::SqliteFailure(error, _) => error.extended_code & 0xff == rusqlite::ffi::SQLITE_ERROR,
        _ => false,
    }
}

/// Says what SQLite misses: `no such collation sequence: unicase`.
fn why(error: &Error) -> String {
    match error {
        Error::SqlInputError { msg, .. } => msg.clone(),
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

fn encoded(file: &Path) -> String {
    percent_encoding::percent_encode(file.as_os_str().as_bytes(), ENCODED).to_string()
}

/// What must not stand in the path of an SQLite URI as it is.
const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a database whose schema then says what only another program understands.
    fn database(path: &Path, schema: &str, said: &str, instead: &str) {
        let connection = Connection::open(path).expect("opened");
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                    INSERT INTO t SELECT i, printf('row %d', i * 7919) FROM n;";
        connection.execute_batch(&format!("{schema}; {rows}")).expect("filled");
        connection
            .execute_batch(&format!(
                "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = replace(sql, '{said}', '{instead}');"
            ))
            .expect("changed");
    }

    /// Schemas, what is written in place of what in them, and what is missing then.
    const OF_PROGRAMS: [(&str, &str, &str, &str); 4] = [
        (
            "CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT); CREATE INDEX i ON t (y COLLATE nocase)",
            "nocase",
            "unicase",
            "unicase",
        ),
        ("CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT); CREATE INDEX i ON t (lower(y))", "lower", "slug", "slug"),
        ("CREATE TABLE t (x INT, y TEXT COLLATE nocase PRIMARY KEY) WITHOUT ROWID", "nocase", "icu", "icu"),
        (
            "CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT); CREATE VIRTUAL TABLE f USING fts5(a)",
            "fts5(a)",
            "vec0(a)",
            "vec0",
        ),
    ];

    #[test]
    fn what_only_its_own_program_understands_is_sound_and_named() {
        for (schema, said, instead, missing) in OF_PROGRAMS {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("db ?#%");
            database(&file, schema, said, instead);
            let unchecked = check(&file).unwrap_or_else(|error| panic!("{schema}: {error}"));
            // SQLite passes over a module that is not there by itself.
            assert!(unchecked.iter().all(|it| it.contains(missing)), "{unchecked:?}");
            assert_eq!(unchecked.is_empty(), missing == "vec0", "{unchecked:?}");
        }
    }

    #[test]
    fn damage_is_found_whatever_the_schema_needs() {
        for (schema, said, instead, _) in
            OF_PROGRAMS.into_iter().chain([("CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT)", "-", "-", "-")])
        {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("db");
            database(&file, schema, said, instead);
            let mut bytes = std::fs::read(&file).expect("read");
            let middle = bytes.len() / 2 / 4096 * 4096;
            bytes[middle..middle + 4096].fill(0xa5);
            std::fs::write(&file, bytes).expect("written");
            let error = check(&file).expect_err("damaged");
            assert!(matches!(error, DatabaseError::SqliteDamaged { .. }), "{schema}: {error}");
        }
    }
}
