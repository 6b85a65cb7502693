//! Whether a restored database of MariaDB or MySQL has the rows of its dump.
//!
//! How many rows a table has the server counts. What they are is dumped once more, read as the dump was read, and digested. Unlike
//! PostgreSQL's, the database is open to its users from the beginning: where somebody is connected to it, rows that came or became others
//! may be theirs. Rows that are missing are told.

use std::collections::{BTreeMap, BTreeSet};

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::engine::compare::{DumpedRows, FoundTable, RowsComparison};
use crate::engine::mysql::facts;
use crate::engine::mysql::inserted::{InsertedRows, SCHEME};
use crate::engine::mysql::restore::MysqlRun;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::{identifier, is_database};
use crate::engine::parts::DumpAspect;
use crate::engine::tally::CountedTable;
use crate::model::facts::fact;
use crate::process::run_heard;
use crate::progress::chain;
use crate::source::check::Check;

/// Options for rows and nothing else.
const ROWS_ALONE: [&str; 2] = ["--no-create-info", "--skip-triggers"];
/// Tables that are counted in one run of the client.
const BATCH: usize = 100;
/// What the server says that a table is which keeps rows of the past.
const VERSIONED: &str = "SYSTEM VERSIONED";
/// Kinds of tables that have rows of their own.
const TABLES: [&str; 2] = ["BASE TABLE", VERSIONED];

impl MysqlRun<'_> {
    /// Compares the rows of the database, which is restored, with those of the dump.
    pub(super) async fn compare(&self) -> Option<RowsComparison> {
        let (wishes, plan) = (self.restoring.wishes, self.restoring.database);
        if !wishes.compare || wishes.parts.aspect != DumpAspect::Whole || plan.is_added_to {
            return None;
        }
        let mut dumped = DumpedRows::of(plan, SCHEME)?;
        if !wishes.parts.tables.is_empty() {
            dumped.retain(|table| wishes.parts.tables.fit(table));
        }
        self.restoring.phase("comparing the rows of");
        let of_dump =
            [fact::SERVER_VERSION, fact::CLIENT_VERSION].map(|version| plan.fact(version).unwrap_or_default());
        let asked = RowsAsked {
            server: self.server.clone(),
            database: plan.name.clone(),
            has_history: plan.fact(facts::HISTORY).is_some(),
            cancel: self.restoring.cancel.clone(),
        };
        Some(blocking(move || asked.compare(dumped, &of_dump)).await)
    }
}

/// What is asked of a database.
struct RowsAsked {
    server: Mysql,
    database: String,
    /// Rows of the past are in the dump.
    has_history: bool,
    cancel: Cancel,
}

impl RowsAsked {
    /// `of_dump` are the versions of the server that was dumped, and of the program that did it.
    fn compare(&self, dumped: DumpedRows, of_dump: &[String; 2]) -> RowsComparison {
        let names: BTreeSet<String> = dumped.tables.iter().map(|table| table.name.clone()).collect();
        let found = if dumped.are_digested { self.digested() } else { self.counted(&names) };
        let (found, versions) = match found {
            Ok(found) => found,
            Err(_) if self.cancel.is_cancelled() => return RowsComparison::failed("ending was asked for"),
            Err(error) => return RowsComparison::failed(chain(&error)),
        };
        let found = by_lower_case(found);
        let mut compared = RowsComparison::of(dumped, |table| match found_as(&found, &names, table) {
            Some(table) => FoundTable::Rows(table.rows, table.digest),
            None => FoundTable::Missing,
        });
        if !compared.differing.is_empty() {
            let others = self.others();
            // Fewer rows may have been lost, whoever else is there.
            compared.excuse(|table| others.clone().filter(|_| !table.has_fewer_rows()));
        }
        let other = other_versions(of_dump, &versions);
        compared.excuse(|table| other.clone().filter(|_| table.has_other_rows()));
        compared
    }

    /// Has the server count what the dump has rows of: what is kept elsewhere, as some engines do, is not asked for. Versions are not
    /// needed for that.
    fn counted(&self, names: &BTreeSet<String>) -> Result<(Vec<CountedTable>, [String; 2]), DatabaseError> {
        let names: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let mut tables = self.server.tables(&self.database)?;
        tables.retain(|table| TABLES.contains(&table.type_name.as_str()) && names.contains(&table.name.to_lowercase()));
        let mut counted = Vec::new();
        for batch in tables.chunks(BATCH) {
            let questions = batch.iter().map(|table| {
                let of_all = self.has_history && table.type_name == VERSIONED;
                let all = if of_all { " FOR SYSTEM_TIME ALL" } else { "" };
                format!("SELECT COUNT(*) FROM {}.{}{all};\n", identifier(&self.database), identifier(&table.name))
            });
            let questions: String = questions.collect();
            let answers = self.server.run_unless("asked to count its rows", &questions, &self.cancel)?;
            let counts: Vec<u64> = answers.iter().filter_map(|line| line.parse().ok()).collect();
            if counts.len() != batch.len() {
                return Err(DatabaseError::answer(&self.server.url().server(), answers.join("\n").as_bytes()));
            }
            let table = |(name, rows): (String, u64)| CountedTable { name, rows, digest: None };
            counted.extend(batch.iter().map(|table| table.name.clone()).zip(counts).map(table));
        }
        Ok((counted, Default::default()))
    }

    /// Dumps all rows, and returns besides the versions of the server and of the program.
    fn digested(&self) -> Result<(Vec<CountedTable>, [String; 2]), DatabaseError> {
        let server = self.server.server()?;
        let program = self.server.dump_program(&server)?;
        self.server.check_session(&program)?;
        let options = program.options();
        let mut arguments: Vec<&str> = options.iter().map(String::as_str).chain(ROWS_ALONE).collect();
        arguments.extend(self.has_history.then_some("--dump-history"));
        arguments.extend(["--", self.database.as_str()]);
        let command = self.server.command(program.program.clone(), &arguments);
        let mut rows = InsertedRows::new(true);
        let read = run_heard(&command, b"", &self.cancel, |bytes| rows.feed(bytes));
        let at = self.server.url().server();
        read.map_err(|failure| DatabaseError::failed(&at, "asked for all rows", &command, failure))?;
        let tables = rows.into_tally().finish().map_err(|why| DatabaseError::answer(&at, why.as_bytes()))?;
        Ok((tables, [server.version, program.version]))
    }

    /// Tells who else may have changed rows since they were put, as far as that is known.
    fn others(&self) -> Option<String> {
        let events = format!(
            "SELECT COUNT(*) FROM information_schema.events WHERE status = 'ENABLED' AND @@event_scheduler = 'ON' AND {};",
            is_database("event_schema", &self.database)
        );
        let ask = |sql: &str| self.server.run_unless("asked who may change rows", sql, &self.cancel);
        match (ask("SHOW PROCESSLIST;"), ask(&events)) {
            (Ok(processes), _) if processes.iter().any(|line| is_in(line, &self.database)) => {
                Some("others are connected to the database, and may have changed it".to_owned())
            }
            (Ok(_), Ok(events)) if events.first().is_some_and(|count| count != "0") => {
                Some("events of the database run, and may have changed it".to_owned())
            }
            (Ok(_), Ok(_)) => None,
            (Err(error), _) | (_, Err(error)) => {
                Some(format!("whether others changed it is not known: {}", chain(&error)))
            }
        }
    }
}

/// Tells whether a session that `SHOW PROCESSLIST` tells of is in a database. Our own is in none.
fn is_in(line: &str, database: &str) -> bool {
    line.split('\t').nth(3).is_some_and(|name| name.to_lowercase() == database.to_lowercase())
}

/// Tables by their names in lower case.
type TablesFound = BTreeMap<String, Vec<CountedTable>>;

fn by_lower_case(tables: Vec<CountedTable>) -> TablesFound {
    let mut found = TablesFound::new();
    tables.into_iter().for_each(|table| found.entry(table.name.to_lowercase()).or_default().push(table));
    found
}

/// Finds a table by its name: some servers take upper and lower case for one, and keep the latter. `names` are those of all tables of the
/// dump: what another of them is called is not this one.
fn found_as<'a>(found: &'a TablesFound, names: &BTreeSet<String>, name: &str) -> Option<&'a CountedTable> {
    let alike = found.get(&name.to_lowercase())?;
    let only = || alike.first().filter(|table| alike.len() == 1 && !names.contains(&table.name));
    alike.iter().find(|table| table.name == name).or_else(only)
}

/// Says that a dump of other versions may write equal values otherwise. What only the last number of a version tells apart does not.
fn other_versions(of_dump: &[String; 2], of_this: &[String; 2]) -> Option<String> {
    let are_alike = of_dump.iter().zip(of_this).all(|(dump, this)| series(dump) == series(this));
    let ([dumped, by], [here, reader]) = (of_dump, of_this);
    (!are_alike).then(|| {
        format!("it was dumped from {dumped} by {by} and is read from {here} by {reader}, which may write equal values otherwise")
    })
}

/// Returns whose version it is, and its first two numbers.
fn series(version: &str) -> (bool, Vec<u32>) {
    let start = version.find(|c: char| c.is_ascii_digit()).unwrap_or(version.len());
    let numbers = version[start..].split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    (version.contains("MariaDB"), numbers.take(2).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_their_last_number_tells_apart_write_alike() {
        let other =
            |dump: [&str; 2], this: [&str; 2]| other_versions(&dump.map(str::to_owned), &this.map(str::to_owned));
        let dump = ["10.11.6-MariaDB-log", "10.11.6-MariaDB"];
        assert_eq!(other(dump, ["10.11.19-MariaDB-deb12", "10.11.19-MariaDB"]), None);
        for this in [
            ["11.8.3-MariaDB", "10.11.19-MariaDB"],
            ["10.11.6-MariaDB", "10.6.1-MariaDB"],
            ["10.11.6", "10.11.6-MariaDB"],
        ] {
            assert!(other(dump, this).is_some(), "{this:?}");
        }
        assert_eq!(series("what"), (false, Vec::new()));
    }

    #[test]
    fn tables_are_found_where_the_server_changed_their_case() {
        let names: BTreeSet<String> = ["Log", "log", "Orders", "LOG", "A", "a", "x"].map(str::to_owned).into();
        let found = ["Log", "log", "orders", "a"].map(|name| CountedTable { name: name.into(), rows: 0, digest: None });
        let found = by_lower_case(found.into());
        let name = |wanted: &str| found_as(&found, &names, wanted).map(|table| table.name.as_str());
        assert_eq!((name("Log"), name("Orders"), name("LOG"), name("x")), (Some("Log"), Some("orders"), None, None));
        // One that is lost is not the other, which is there.
        assert_eq!((name("A"), name("a")), (None, Some("a")));
    }

    #[test]
    fn sessions_in_the_database_are_told_from_others() {
        assert!(is_in("5\troot\tlocalhost\tShop\tSleep\t1\t\tNULL\t0.000", "shop"));
        for other in ["5\troot\tlocalhost\tNULL\tQuery\t0\tshop\tSHOW PROCESSLIST", "shop", ""] {
            assert!(!is_in(other, "shop"), "{other}");
        }
    }
}
