//! Rows of a SQLite file that nobody else uses, counted and digested.
//!
//! A copy has its bytes proven by the archive. What this adds is a statement about rows, which is the same wherever they lie in the file.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use crate::engine::compare::{DumpedRows, FoundTable, RowsComparison};
use crate::engine::sqlite::check::open_unshared;
use crate::engine::tally::RowTally;

/// How digests are made: of each row by the types and bytes of its values, without those that are generated.
pub(super) const SCHEME: &str = "sqlite 1";
/// As much of a row as is gathered before it is hashed.
const GATHERED_BYTES: usize = 64 << 10;

/// Counts the rows of all tables, and digests them where that is asked for. A table that needs what only its own program has may be one
/// without a name.
///
/// # Errors
/// What SQLite says.
pub(super) fn count(file: &Path, is_digested: bool) -> Result<RowTally> {
    let connection = open_unshared(file)?;
    let mut tally = RowTally::new(is_digested);
    // Tables of modules have no pages of their own, and are kept in others.
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let tables: Vec<String> = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    for table in tables {
        let Ok(rows) = rows_of(&connection, &table) else {
            tally.enter(None);
            continue;
        };
        let mut of_table = RowTally::new(is_digested);
        of_table.enter(Some(table.clone()));
        if is_digested && digest(&connection, &table, &mut of_table).is_ok() {
            tally.extend(of_table);
        } else {
            tally.enter(Some(table));
            tally.add_unseen(rows);
        }
    }
    Ok(tally)
}

/// Compares the rows of a file with those of a dump.
pub(super) fn compare(file: &Path, dumped: DumpedRows) -> RowsComparison {
    let counted = count(file, dumped.are_digested).map_err(|error| error.to_string()).and_then(RowTally::finish);
    match counted {
        Err(why) => RowsComparison::failed(why),
        Ok(found) => RowsComparison::of(dumped, |name| match found.iter().find(|table| table.name == name) {
            Some(table) => FoundTable::Rows(table.rows, table.digest),
            None => FoundTable::Missing,
        }),
    }
}

fn rows_of(connection: &Connection, table: &str) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM {}", identifier(table));
    connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Reads all rows, by no index: that one is in order was looked at before.
fn digest(connection: &Connection, table: &str, tally: &mut RowTally) -> Result<()> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
    let columns: Vec<String> = connection.prepare(sql)?.query_map([table], |row| row.get(0))?.collect::<Result<_>>()?;
    let list: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
    let mut statement =
        connection.prepare(&format!("SELECT {} FROM {} NOT INDEXED", list.join(", "), identifier(table)))?;
    tally.columns(&columns);
    let mut rows = statement.query([])?;
    let mut gathered = Vec::new();
    while let Some(row) = rows.next()? {
        for at in 0..columns.len() {
            let mut put = |kind: u8, bytes: &[u8]| {
                gathered.push(kind);
                gathered.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                if gathered.len() + bytes.len() > GATHERED_BYTES {
                    tally.more(&gathered);
                    tally.more(bytes);
                    gathered.clear();
                } else {
                    gathered.extend_from_slice(bytes);
                }
            };
            match row.get_ref(at)? {
                ValueRef::Null => put(b'n', &[]),
                ValueRef::Integer(value) => put(b'i', &value.to_le_bytes()),
                ValueRef::Real(value) => put(b'r', &value.to_bits().to_le_bytes()),
                ValueRef::Text(text) => put(b't', text),
                ValueRef::Blob(bytes) => put(b'b', bytes),
            }
        }
        tally.end_row(&gathered);
        gathered.clear();
    }
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tally::CountedTable;

    fn database(statements: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("db");
        Connection::open(&file).expect("opened").execute_batch(statements).expect("filled");
        (directory, file)
    }

    fn counted(statements: &str, is_digested: bool) -> Vec<CountedTable> {
        let (_directory, file) = database(statements);
        count(&file, is_digested).expect("read").finish().expect("no doubt")
    }

    const TABLE: &str = "CREATE TABLE \"my \"\"t\" (a, b TEXT, c GENERATED ALWAYS AS (a + 1) STORED);";

    #[test]
    fn rows_are_digested_by_their_values_wherever_they_lie() {
        let digest = |rows: &str| {
            let tables = counted(&format!("{TABLE} INSERT INTO \"my \"\"t\" (a, b) VALUES {rows};"), true);
            assert_eq!((tables.len(), tables[0].name.as_str()), (1, "my \"t"));
            (tables[0].rows, tables[0].digest.expect("asked for"))
        };
        let big = format!("zeroblob({})", 2 * GATHERED_BYTES);
        let whole = digest(&format!("(1, 'x'), (NULL, 2.5), ({big}, 'y')"));
        assert_eq!(digest(&format!("({big}, 'y'), (1, 'x'), (NULL, 2.5)")), whole);
        assert_eq!(whole.0, 3);
        for (one, other) in [
            ("(1, 'x')", "('1', 'x')"),
            ("(NULL, 'x')", "('', 'x')"),
            ("(1, 'x')", "(1.5, 'x')"),
            ("(x'61', 'x')", "('a', 'x')"),
        ] {
            assert_ne!(digest(one).1.sum, digest(other).1.sum, "{one} {other}");
        }
    }

    #[test]
    fn what_only_another_program_can_read_is_counted_as_far_as_can_be() {
        let schema = "CREATE TABLE plain (x); INSERT INTO plain VALUES (1), (2); CREATE TABLE own (x, y AS (lower(x)));
            INSERT INTO own (x) VALUES (1); CREATE TABLE sorted (x TEXT COLLATE nocase PRIMARY KEY) WITHOUT ROWID;
            INSERT INTO sorted VALUES ('a'); CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('b');
            PRAGMA writable_schema = 1;
            UPDATE sqlite_schema SET sql = replace(replace(replace(sql, 'lower(', 'slug('), 'nocase', 'icu'), 'fts5(', 'vec0(');";
        let tables = counted(schema, true);
        let rows = |name: &str| tables.iter().find(|table| table.name == name).map(|table| table.rows);
        assert_eq!((rows("plain"), rows("own"), rows("f")), (Some(2), Some(1), None));
        assert!(rows("f_content").is_some());
    }

    #[test]
    fn a_row_that_was_changed_is_found() {
        let dumped = |is_digested| {
            let counted = counted(&format!("{TABLE} INSERT INTO \"my \"\"t\" (a) VALUES (1), (2);"), is_digested);
            let mut dumped = DumpedRows::default();
            (dumped.tables, dumped.are_digested) = (counted, is_digested);
            dumped
        };
        let against = |rows: &str, is_digested| {
            let (_directory, file) = database(&format!("{TABLE} INSERT INTO \"my \"\"t\" (a) VALUES {rows};"));
            compare(&file, dumped(is_digested))
        };
        assert!(against("(2), (1)", false).is_same() && against("(2), (1)", true).digested_tables == 1);
        assert!(against("(2), (3)", false).is_same());
        assert!(against("(2), (3)", true).differing[0].has_other_rows());
        assert_eq!(against("(2)", true).differing[0].restored, Some(1));
    }
}
