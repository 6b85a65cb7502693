//! Whether a restored database of PostgreSQL has the rows of its dump.
//!
//! It is asked while nobody else may connect to it. How many rows a table has the server counts; what they are is read as the dump was
//! read, by `COPY` and under the same settings, and digested here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::database::{DatabaseError, major};
use crate::engine::compare::{DifferingTable, DumpedRows, FoundTable, RowsComparison};
use crate::engine::json_list::JsonList;
use crate::engine::parts::DumpAspect;
use crate::engine::postgres::archived::LARGE_OBJECTS;
use crate::engine::postgres::contents::unquoted;
use crate::engine::postgres::copied::{CopiedRows, END, SCHEME, table_name};
use crate::engine::postgres::facts::{self, Extension};
use crate::engine::postgres::restore::PostgresRun;
use crate::engine::postgres::script::{SAFE_SESSION, identifier, literal, script, sent_back};
use crate::engine::postgres::server::Postgres;
use crate::engine::tally::{CountedTable, RowTally};
use crate::model::facts::fact;
use crate::process::{CommandFailed, CommandOptions, run_heard, run_unless};
use crate::progress::chain;

/// Tables, and those of them that could not be read, each with the reason.
type ReadAndUnread = (Vec<CountedTable>, Vec<(String, String)>);

/// Types of PostgreSQL whose values every version writes in the same way.
const STEADY_TYPES: [&str; 25] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "name",
    "bytea",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "inet",
    "cidr",
    "macaddr",
    "bit",
    "varbit",
    "oid",
];
/// Those that are written with fewer digits from version 12 on.
const FLOATING_TYPES: [&str; 9] = ["float4", "float8", "point", "box", "lseg", "path", "polygon", "circle", "line"];
const FLOATING_CHANGED: u32 = 12;
/// The type that is written as a setting says which no dump sets.
const MONEY: &str = "money";
/// Tables of which the types are asked for at once.
const BATCH: usize = 200;

/// A type that a table uses.
#[derive(Debug, Clone, Deserialize)]
struct UsedType {
    /// The table, quoted as it was asked for.
    table: String,
    name: String,
    /// It is made of others, which are told as well.
    is_made: bool,
    /// PostgreSQL has it.
    is_own: bool,
    /// Name and version of the extension that it belongs to.
    extension: Option<(String, String)>,
}

impl PostgresRun<'_> {
    /// Compares the rows of a database, which is restored and closed to others, with those of the dump.
    pub(super) async fn compare(&self, database: &str) {
        let wishes = &self.restoring.wishes;
        if !wishes.compare || wishes.parts.aspect != DumpAspect::Whole || self.plan.is_added_to {
            return;
        }
        let Some(mut dumped) = DumpedRows::of(self.plan, SCHEME) else { return };
        if let Some(chosen) = self.chosen.as_ref().filter(|_| !wishes.parts.tables.is_empty()) {
            let name = |(schema, table): &(String, String)| table_name(schema.as_bytes(), table.as_bytes(), true);
            let chosen: BTreeSet<String> = chosen.tables.iter().filter_map(name).collect();
            dumped.retain(|table| chosen.contains(table));
        }
        self.restoring.phase("comparing the rows of");
        let JsonList(extensions) = self.plan.fact(facts::EXTENSIONS).unwrap_or_default();
        let asked = RowsAsked {
            server: self.server.clone(),
            database: database.to_owned(),
            bytea_output: self.plan.fact(facts::BYTEA_OUTPUT),
            encoding: self.plan.fact(facts::ENCODING),
            versions: (major(self.plan.text(fact::SERVER_VERSION).unwrap_or_default()), major(&self.server_version)),
            extensions,
            cancel: self.restoring.cancel.clone(),
        };
        let compared = blocking(move || asked.compare(dumped)).await;
        // It is asked once.
        let _ = self.compared.set(compared);
    }
}

impl Postgres {
    /// Tells how a dump of a database writes bytes, which is as the server, the database or the user has it.
    pub(super) fn bytea_output(&self, database: &str) -> Result<String, DatabaseError> {
        self.ask(database, "asked how it writes bytes", "SELECT to_json(current_setting('bytea_output'))")
    }
}

/// What is asked of a database.
struct RowsAsked {
    server: Postgres,
    database: String,
    bytea_output: Option<String>,
    /// The encoding of the database that was dumped, and of its dump.
    encoding: Option<String>,
    /// Of the server that was dumped, and of this one.
    versions: (u32, u32),
    /// Extensions of the database that was dumped.
    extensions: Vec<Extension>,
    cancel: Cancel,
}

impl RowsAsked {
    fn compare(&self, dumped: DumpedRows) -> RowsComparison {
        let found = if dumped.are_digested { self.digested() } else { self.counted() };
        let found = match found {
            Ok(found) => found,
            Err(_) if self.cancel.is_cancelled() => return RowsComparison::failed("ending was asked for"),
            Err(error) => return RowsComparison::failed(chain(&error)),
        };
        let of_extensions = self.extensions.iter().flat_map(|extension| {
            let name = |(schema, table): &(String, String)| table_name(schema.as_bytes(), table.as_bytes(), true);
            extension.tables.iter().filter_map(name).map(|table| (table, extension.name.as_str())).collect::<Vec<_>>()
        });
        let of_extensions: BTreeMap<String, &str> = of_extensions.collect();
        let mut compared = RowsComparison::of(dumped, |table| match of_extensions.get(table) {
            // It may fill its tables by itself.
            Some(extension) => FoundTable::Unknown(format!("it belongs to the extension {extension}")),
            None => found.get(table).cloned().unwrap_or(FoundTable::Missing),
        });
        let doubtful: Vec<String> =
            compared.differing.iter().filter(|it| it.has_other_rows()).map(|it| it.name.clone()).collect();
        for batch in doubtful.chunks(BATCH) {
            let types = self.types(batch);
            compared.excuse(|table| self.excuse(table, &types).filter(|_| batch.contains(&table.name)));
        }
        compared
    }

    /// Tells why a table whose digest is another may have the rows of the dump nevertheless.
    fn excuse(&self, table: &DifferingTable, types: &Result<Vec<UsedType>, String>) -> Option<String> {
        if !table.has_other_rows() {
            return None;
        }
        match types {
            Err(why) => Some(format!("its types are not known: {why}")),
            Ok(types) => types
                .iter()
                .filter(|it| it.table == table.name)
                .find_map(|it| it.doubt(self.versions, &self.extensions)),
        }
    }

    /// Has the server count.
    fn counted(&self) -> Result<BTreeMap<String, FoundTable>, DatabaseError> {
        let statements = format!("{SAFE_SESSION}{}\\gexec\n", of_each(COUNT));
        let command = self.server.psql(&self.database);
        let answer = run_unless(&command, statements.as_bytes(), &self.cancel);
        let answer = answer.map_err(|failure| self.failed("asked to count its rows", &command, failure))?;
        let mut found = BTreeMap::new();
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // A name in no known encoding is not among those of the dump.
            if std::str::from_utf8(line).is_err() {
                continue;
            }
            let Ok(CountedThere(schema, name, rows, why)) = serde_json::from_slice(line) else {
                return Err(DatabaseError::answer(&self.server.url().server(), line));
            };
            let there = match (rows, why) {
                (Some(rows), None) => FoundTable::Rows(rows, None),
                (_, why) => FoundTable::Unknown(why.unwrap_or_else(|| "it was not counted".to_owned())),
            };
            found.extend(table_name(schema.as_bytes(), name.as_bytes(), true).map(|name| (name, there)));
        }
        found.insert(LARGE_OBJECTS.to_owned(), self.large_objects()?);
        Ok(found)
    }

    /// Reads all rows.
    fn digested(&self) -> Result<BTreeMap<String, FoundTable>, DatabaseError> {
        let command = self.server.psql(&self.database);
        let mut rows = MarkedRows::default();
        let statements =
            reading(self.bytea_output.as_deref().unwrap_or("hex"), self.encoding.as_deref().unwrap_or("UTF8"));
        let read = run_heard(&command, statements.as_bytes(), &self.cancel, |bytes| rows.feed(bytes));
        read.map_err(|failure| self.failed("asked for all rows", &command, failure))?;
        let (tables, unread) =
            rows.finish().map_err(|answer| DatabaseError::answer(&self.server.url().server(), answer.as_bytes()))?;
        let found = |table: CountedTable| (table.name, FoundTable::Rows(table.rows, table.digest));
        let mut found: BTreeMap<String, FoundTable> = tables.into_iter().map(found).collect();
        found.extend(unread.into_iter().map(|(name, why)| (name, FoundTable::Unknown(why))));
        found.insert(LARGE_OBJECTS.to_owned(), self.large_objects()?);
        Ok(found)
    }

    fn large_objects(&self) -> Result<FoundTable, DatabaseError> {
        self.ask("asked to count large objects", LARGE_OBJECT_COUNT).map(|count| FoundTable::Rows(count, None))
    }

    /// Asks for the types that tables use.
    fn types(&self, tables: &[String]) -> Result<Vec<UsedType>, String> {
        let names: Vec<String> = tables.iter().map(|table| literal(&quoted(table))).collect();
        let plain: Vec<String> = tables.iter().map(|table| literal(table)).collect();
        let sql = TYPES.replace("{names}", &names.join(", ")).replace("{tables}", &plain.join(", "));
        self.ask("asked for types of columns", &sql).map_err(|error| chain(&error))
    }

    /// Runs a statement that gives one JSON value, unless ending is asked for.
    fn ask<T: serde::de::DeserializeOwned>(&self, asked: &str, sql: &str) -> Result<T, DatabaseError> {
        let command = self.server.psql(&self.database);
        let answer = run_unless(&command, script(&[sql.to_owned()]).as_bytes(), &self.cancel);
        let answer = answer.map_err(|failure| self.failed(asked, &command, failure))?;
        serde_json::from_slice(&answer).map_err(|_| DatabaseError::answer(&self.server.url().server(), &answer))
    }

    fn failed(&self, asked: &str, command: &CommandOptions, failure: CommandFailed) -> DatabaseError {
        DatabaseError::failed(&self.server.url().server(), asked, command, failure)
    }
}

impl UsedType {
    /// Tells why equal values of it may be written otherwise. `versions` are those of the server that was dumped and of the other one.
    fn doubt(&self, versions: (u32, u32), dumped: &[Extension]) -> Option<String> {
        let Self { name, is_made, is_own, extension, .. } = self;
        let other = |what: &str| Some(format!("it uses {name}, which {what} may write otherwise"));
        let is_newer = |version: u32| version >= FLOATING_CHANGED;
        match (is_made, is_own, extension) {
            (true, ..) => None,
            (false, true, _) if name == MONEY => other("another locale"),
            (false, true, _) if versions.0 == versions.1 || STEADY_TYPES.contains(&name.as_str()) => None,
            (false, true, _)
                if FLOATING_TYPES.contains(&name.as_str()) && is_newer(versions.0) == is_newer(versions.1) =>
            {
                None
            }
            (false, true, _) => other("another version of PostgreSQL"),
            (false, false, Some((extension, version)))
                if dumped.iter().any(|it| it.name == *extension && it.version == *version) =>
            {
                None
            }
            (false, false, _) => other("another version of what makes it"),
        }
    }
}

/// Quotes the name of a table, as it is kept, so that no word of SQL is taken for another.
fn quoted(table: &str) -> String {
    unquoted(table).iter().map(|name| identifier(name)).collect::<Vec<_>>().join(".")
}

/// A line by which a server says how many rows a table has: schema, name, rows, and why they are not known.
#[derive(Debug, Deserialize)]
struct CountedThere(String, String, Option<u64>, Option<String>);

/// Tables whose rows come behind lines that are no rows: a mark, and schema, name and columns as JSON.
struct MarkedRows {
    tally: RowTally,
    /// Tables that cannot be read, and why.
    unread: Vec<(String, String)>,
    rows: CopiedRows,
    /// The mark that is passing.
    mark: Option<Vec<u8>>,
    /// The beginning of a line that may be a mark.
    held: Vec<u8>,
    is_line_begun: bool,
}

/// Behind a mark come schema, name and columns, and why no rows come.
type MarkedTable = (String, String, Vec<String>, Option<String>);

impl Default for MarkedRows {
    fn default() -> Self {
        let (tally, rows) = (RowTally::new(true), CopiedRows::default());
        Self { tally, unread: Vec::new(), rows, mark: None, held: Vec::new(), is_line_begun: false }
    }
}

impl MarkedRows {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
            rest = behind;
            if let Some(mark) = &mut self.mark {
                mark.extend_from_slice(line);
            } else if self.is_line_begun
                || self.held.is_empty() && (end.is_some() || line.len() >= END.len()) && !line.starts_with(END)
            {
                self.rows.pass(line, &mut self.tally);
            } else {
                self.held.extend_from_slice(line);
                if self.held.len() < END.len() && end.is_none() {
                    continue;
                }
                let held = std::mem::take(&mut self.held);
                match held.strip_prefix(END) {
                    Some(mark) => self.mark = Some(mark.to_vec()),
                    None => {
                        self.rows.pass(&held, &mut self.tally);
                    }
                }
            }
            self.is_line_begun = end.is_none();
            if end.is_some()
                && let Some(mark) = self.mark.take()
            {
                self.enter(&mark);
            }
        }
    }

    fn enter(&mut self, mark: &[u8]) {
        // As the dump was read: columns may be in any encoding, and a name that is in none that is known is not kept.
        match serde_json::from_str::<MarkedTable>(&String::from_utf8_lossy(mark)) {
            Ok((schema, name, columns, unread)) => {
                let name = table_name(schema.as_bytes(), name.as_bytes(), std::str::from_utf8(mark).is_ok());
                if let (Some(name), Some(why)) = (&name, unread) {
                    self.unread.push((name.clone(), why));
                }
                self.tally.enter(name);
                self.tally.columns(&columns);
            }
            Err(_) => self.tally.doubt(String::from_utf8_lossy(mark)),
        }
    }

    /// Returns the tables that were read, and those that were not, which are among them.
    fn finish(mut self) -> Result<ReadAndUnread, String> {
        if self.is_line_begun || !self.held.is_empty() {
            self.tally.doubt("the last line is not whole");
        }
        Ok((self.tally.finish()?, self.unread))
    }
}

/// Writes what `psql` reads to print all rows, those of each table behind a mark.
///
/// The server writes the statements, so that `psql` reads ASCII of ours alone. They are run under the settings of `pg_dump`, and with what
/// it does not set as it was where the dump was made.
fn reading(bytea_output: &str, encoding: &str) -> String {
    let settings = [("bytea_output", bytea_output), ("client_encoding", encoding)];
    let as_dumped = settings.map(|(name, value)| sent_back(&format!("SET {name} = {}", literal(value)))).concat();
    format!("{SAFE_SESSION}{SETTINGS}{as_dumped}{}\\gexec\n", of_each(ROWS))
}

/// Writes a question whose answer has one line for each table, with the statements that are to be run for it.
fn of_each(statements: &str) -> String {
    format!("SELECT unnest(ARRAY[{statements}]){TABLES}")
}

/// What `pg_dump` sets, and the time zone in which rows are digested.
const SETTINGS: &str = "SET row_security = off;
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 3;
SET TimeZone = 'UTC';
";

/// Of a table, prints its mark, and then its rows: the columns that a dump has. (`psql` runs no statement that is null.)
const ROWS: &str = "
  format('SELECT %L', chr(92) || '.' || cast(json_build_array(nspname, relname, columns, why) AS text)),
  CASE WHEN why IS NULL THEN format('COPY (SELECT %s FROM ONLY %I.%I) TO STDOUT', list, nspname, relname) END";

/// Prints how many rows a table has, without those of tables that inherit from it. Each is asked by itself: no lock is held for all.
const COUNT: &str = "
  CASE WHEN why IS NULL THEN format('SELECT json_build_array(CAST(%L AS text), CAST(%L AS text), count(*), null) FROM ONLY %I.%I',
         nspname, relname, nspname, relname)
       ELSE format('SELECT %L', json_build_array(nspname, relname, null, why)) END";

/// The tables, and why one cannot be read: policies would hide rows, or the user may not.
const TABLES: &str = " FROM (
  SELECT nspname, relname, coalesce(string_agg(quote_ident(attname), ', ' ORDER BY attnum), '') AS list,
    coalesce(json_agg(attname ORDER BY attnum) FILTER (WHERE attname IS NOT NULL), '[]') AS columns,
    CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT') THEN 'this user may not read it'
         WHEN row_security_active(c.oid) THEN 'policies hide rows of it from this user' END AS why
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  LEFT JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    AND coalesce(to_json(a)->>'attgenerated', '') = ''
  WHERE relkind = 'r' AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = c.oid AND d.deptype = 'e')
  GROUP BY c.oid, n.oid, nspname, relname
) tables
";

const LARGE_OBJECT_COUNT: &str = "SELECT to_json(count(*)) FROM pg_largeobject_metadata";

/// Types of the columns of tables, and those that these are made of.
const TYPES: &str = r"
WITH RECURSIVE wanted AS (
  SELECT plain, to_regclass(quoted)::oid AS oid FROM unnest(ARRAY[{names}]::text[], ARRAY[{tables}]::text[]) w(quoted, plain)
), used(plain, type) AS (
  SELECT plain, atttypid FROM wanted w JOIN pg_attribute ON attrelid = w.oid WHERE attnum > 0 AND NOT attisdropped
  UNION
  SELECT plain, part FROM used JOIN pg_type t ON t.oid = type, LATERAL (
    SELECT typbasetype UNION ALL SELECT typelem WHERE typcategory = 'A'
    UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
    UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped) p(part)
  WHERE part <> 0
)
SELECT coalesce(json_agg(json_build_object('table', plain, 'name', typname,
  'is_made', typtype IN ('c', 'd', 'e', 'r', 'm') OR typcategory = 'A', 'is_own', typnamespace = 'pg_catalog'::regnamespace,
  'extension', (SELECT json_build_array(extname, extversion) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
                  AND d.refclassid = 'pg_extension'::regclass))), '[]')
FROM used JOIN pg_type t ON t.oid = type";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tally::RowsDigest;

    #[test]
    fn psql_reads_nothing_but_what_is_written_here() {
        let written = reading("hex'; \\! id", "UTF8'; \\! id");
        assert!(written.is_ascii() && !written.contains("! id") && !written.contains(':'), "{written}");
        assert_eq!((written.matches('\\').count(), written.matches("\\gexec\n").count()), (3, 3));
        let counting = of_each(COUNT);
        assert!(counting.is_ascii() && !counting.contains([':', '\\']), "{counting}");
        assert!(written.contains("SET TimeZone = 'UTC'") && written.ends_with(") tables\n\\gexec\n"));
    }

    #[test]
    fn rows_are_told_from_the_marks_before_them() {
        let printed = "\\.[\"app\", \"a\", [\"x\"], null]\n1\\\\.\n\n\\N\n\\.[\"My app\", \"b\", [], \"why\"]\n\
            \\.[\"app\", \"c\", [\"x\", \"y\"], null]\n\\\\.\t1\n";
        let all = [1, 2, 7, 100].map(|piece| {
            let mut rows = MarkedRows::default();
            printed.as_bytes().chunks(piece).for_each(|bytes| rows.feed(bytes));
            rows.finish().expect("understood")
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        let (tables, unread) = &all[0];
        assert_eq!(*unread, [("\"My app\".b".to_owned(), "why".to_owned())]);
        let found: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
        assert_eq!(found, [("\"My app\".b", 0), ("app.a", 3), ("app.c", 1)]);
        let sum = |table: &CountedTable| table.digest.map(|RowsDigest { sum, .. }| sum);
        assert_eq!((sum(&tables[0]), sum(&tables[1]).is_some_and(|sum| sum > 0)), (Some(0), true));
        // Nobody knows what is called so; the rows of others count.
        let mut rows = MarkedRows::default();
        rows.feed(b"\\.[\"app\", \"gr\xfcn\", [\"x\"], null]\n1\n\\.[\"app\", \"a\", [\"\xfc\"], null]\n1\n2\n");
        let (tables, _) = rows.finish().expect("understood");
        assert!(tables.len() == 1 && tables[0].name == "app.a" && tables[0].rows == 2, "{tables:?}");
        for wrong in ["\\.[1]\n", "\\.[\"a\", \"b\", [], null]\n1"] {
            let mut rows = MarkedRows::default();
            rows.feed(wrong.as_bytes());
            assert!(rows.finish().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_other_versions_may_write_otherwise_is_no_certain_difference() {
        let used = |name: &str, is_made: bool, is_own: bool, extension: Option<(&str, &str)>| UsedType {
            table: "app.a".into(),
            name: name.into(),
            is_made,
            is_own,
            extension: extension.map(|(name, version)| (name.into(), version.into())),
        };
        let extensions = [Extension { name: "ip4r".into(), version: "2.4".into(), tables: Vec::new() }];
        let cases = [
            (used("int4", false, true, None), (11, 18), false),
            (used("float8", false, true, None), (12, 18), false),
            (used("float8", false, true, None), (11, 15), true),
            (used("xml", false, true, None), (15, 15), false),
            (used("xml", false, true, None), (15, 18), true),
            (used("money", false, true, None), (15, 15), true),
            (used("mood", true, false, None), (9, 18), false),
            (used("ip4", false, false, Some(("ip4r", "2.4"))), (15, 18), false),
            (used("ip4", false, false, Some(("ip4r", "2.5"))), (15, 15), true),
            (used("own", false, false, None), (15, 15), true),
        ];
        for (used, versions, is_doubtful) in cases {
            assert_eq!(used.doubt(versions, &extensions).is_some(), is_doubtful, "{used:?} {versions:?}");
        }
    }
}
