//! Parts of a database that go into one that is there, beside what it has and never in its place.
//!
//! Rows alone are one transaction. How tables are made is none with these servers, so what was made is dropped again when the rest
//! fails: tables that are certain to be made by this, and only those.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::feed::FeedError;
use crate::engine::mysql::marks::MarkedLines;
use crate::engine::mysql::parts::{FoundInDump, PartsOfDump};
use crate::engine::mysql::restore::{MysqlRun, analyze, without_rows};
use crate::engine::mysql::server::DatabaseTable;
use crate::engine::mysql::sql::identifier;
use crate::engine::parts::{DumpAspect, some_names};
use crate::engine::restore::{RestoredDatabase, Unrestored};

impl MysqlRun<'_> {
    /// Reads the dump through where parts are wanted, and finds out what it has of them.
    pub(super) async fn find_parts(&self) -> Result<FoundInDump, Unrestored> {
        let parts = &self.restoring.wishes.parts;
        if parts.tables.is_empty() && !parts.into_existing {
            return Ok(FoundInDump::default());
        }
        self.restoring.phase("looking for tables in");
        let found: Arc<Mutex<FoundInDump>> = Arc::default();
        let output = Box::new(PartsOfDump::new(io::sink(), parts.clone(), found.clone()));
        let read = self.restoring.stored.write(&self.restoring.database.main().path, output).await;
        read.map_err(|error| FeedError::from(error).left(self.step.clone(), "nothing was changed"))?;
        let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let names = found.names.iter().map(String::as_str);
        let checked = parts.check(&self.restoring.database.source, names, &found.names);
        checked.map_err(|error| self.failed(error, "nothing was changed"))?;
        self.restoring.phase("restoring");
        Ok(found)
    }

    /// Puts what was chosen into the database.
    pub(super) async fn beside(&self, found: FoundInDump) -> Result<RestoredDatabase, Unrestored> {
        let unchanged = || format!("{} is as it was: nothing of it was changed", self.name());
        let before = self.tables().await.map_err(|error| self.failed(error, unchanged()))?;
        self.check_tables(&found, &before).map_err(|error| self.failed(error, unchanged()))?;
        self.check_columns(&found).await.map_err(|error| self.failed(error, unchanged()))?;
        // Where they are not known, none is told of.
        let defining = self.definers().await.ok();
        let marked = MarkedLines::default();
        let heard = match self.fill(marked.clone()).await {
            Ok(heard) => heard,
            Err(error) => {
                let error = without_rows(error);
                let marked = marked.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let made = failed_line(&error).map_or_else(Vec::new, |line| made_before(line, &marked));
                return Err(error.left(self.step.clone(), self.undo(&found, &before, &made).await));
            }
        };
        if found.is_of_other_charset {
            self.restoring.problem(format!(
                "some triggers, routines or events were made under another character set of the database, and have that of {} \
                 now",
                self.name()
            ));
        }
        if let Some(defining) = defining {
            self.tell_other_definers(&defining).await;
        }
        if self.restoring.wishes.analyze {
            self.restoring.phase("gathering statistics of");
            if let Err(error) = analyze(&self.server, self.name(), &found.chosen).await {
                self.restoring.problem(format!("ANALYZE: {error}"));
            }
        }
        Ok(RestoredDatabase {
            changes: heard.changes.into_iter().collect(),
            not_carried: self.not_carried(),
            uses_original: self.uses_original().await,
            left_out: self.left_out(found),
            ..self.begin()
        })
    }

    /// Returns what of the dump was not asked for.
    pub(super) fn left_out(&self, found: FoundInDump) -> Vec<String> {
        let aspect = match self.restoring.wishes.parts.aspect {
            DumpAspect::Whole => None,
            DumpAspect::Schema => Some("all rows".to_owned()),
            DumpAspect::Rows => Some("how tables are made".to_owned()),
        };
        aspect.into_iter().chain(found.left_out).collect()
    }

    async fn tables(&self) -> Result<Vec<DatabaseTable>, DatabaseError> {
        let (server, name) = (self.server.clone(), self.name().to_owned());
        blocking(move || server.tables(&name)).await
    }

    /// Makes sure that tables which are to be made are not there, and those that are to get rows are.
    fn check_tables(&self, found: &FoundInDump, there: &[DatabaseTable]) -> Result<(), DatabaseError> {
        let is_of_rows = self.restoring.wishes.parts.aspect == DumpAspect::Rows;
        let is_view = |name: &&String| is_of_rows && found.views.contains(*name);
        let is_amiss = |name: &&String| there.iter().any(|table| table.is_called(name)) != is_of_rows;
        let amiss: Vec<String> = found.chosen.iter().filter(|it| !is_view(it) && is_amiss(it)).cloned().collect();
        self.restoring.wishes.parts.refuse(self.server.url().server(), self.name(), &amiss)
    }

    /// Makes sure that tables which are to get rows alone have the columns that the values are of, in the same order.
    async fn check_columns(&self, found: &FoundInDump) -> Result<(), DatabaseError> {
        if self.restoring.wishes.parts.aspect != DumpAspect::Rows {
            return Ok(());
        }
        let (server, name) = (self.server.clone(), self.name().to_owned());
        let there = blocking(move || server.columns(&name)).await?;
        let Some((table, dumped, there)) = other_columns(&found.columns, &there) else { return Ok(()) };
        let why = format!(
            "the rows of {table} would get into other columns: they are of {}, and in {} it has {}",
            some_names(&dumped),
            self.name(),
            some_names(&there)
        );
        Err(DatabaseError::Refused { server: self.server.url().server(), why })
    }

    /// Drops the tables that were made before the rest failed, and tells in what state the database is then.
    async fn undo(&self, found: &FoundInDump, before: &[DatabaseTable], made: &[String]) -> String {
        let name = self.name();
        if self.restoring.wishes.parts.aspect == DumpAspect::Rows {
            let rows_stay = before.iter().filter(|table| !table.is_transactional && found.has(table));
            let rows_stay: Vec<String> = rows_stay.map(|table| table.name.clone()).collect();
            return match rows_stay.is_empty() {
                true => format!("{name} is as it was: no row was added"),
                false => format!(
                    "no row was added to tables with transactions; these have none and may have new rows: {}",
                    some_names(&rows_stay)
                ),
            };
        }
        let half = |error| format!("{name} may have tables that are half restored, and they were not dropped: {error}");
        let new = match self.tables().await {
            Ok(there) => there.into_iter().filter(|table| !before.contains(table) && found.has(table)),
            Err(error) => return half(error),
        };
        let (ours, others): (Vec<_>, Vec<_>) = new.partition(|table| made.contains(&table.name));
        let drops = ours.iter().map(|table| {
            format!("DROP {} IF EXISTS {}.{};\n", table.kind(), identifier(name), identifier(&table.name))
        });
        let statements = format!("SET SESSION foreign_key_checks = 0;\n{}", drops.collect::<String>());
        let server = self.server.clone();
        let drop = blocking(move || server.run("asked to drop what is half restored", &statements)).await;
        if let Err(error) = drop {
            return half(error);
        }
        let others: Vec<String> = others.into_iter().map(|table| table.name).collect();
        match (others.is_empty(), self.restoring.wishes.parts.tables.is_empty()) {
            (false, _) => format!(
                "the tables that were certainly made in {name} are dropped again; these are new there, and stay because somebody \
                 else may have made them: {}",
                some_names(&others)
            ),
            (true, true) => format!(
                "the tables that were made in {name} are dropped again; routines and events that were made stay"
            ),
            (true, false) => format!("{name} is as it was: the tables that were made are dropped again"),
        }
    }
}

/// Returns the first table whose columns are others than those of its values, with both.
fn other_columns(
    dumped: &BTreeMap<String, Vec<String>>,
    there: &BTreeMap<String, Vec<String>>,
) -> Option<(String, Vec<String>, Vec<String>)> {
    let lower = |name: &String| name.to_lowercase();
    dumped.iter().find_map(|(table, columns)| {
        let alike = || there.iter().find(|(name, _)| lower(name) == lower(table)).map(|(_, columns)| columns);
        let there = there.get(table).or_else(alike).cloned().unwrap_or_default();
        let is_same = columns.iter().map(lower).eq(there.iter().map(lower));
        (!is_same).then(|| (table.clone(), columns.clone(), there))
    })
}

/// Returns the line of what a client read at which it failed, if it said so.
fn failed_line(error: &FeedError) -> Option<u64> {
    let FeedError::Client { heard, .. } = error else { return None };
    let failed = heard.last.iter().find(|line| line.starts_with("ERROR "))?;
    failed.split_once(" at line ")?.1.split(':').next()?.parse().ok()
}

/// Returns the tables that were certainly made when a client failed at a line: what is marked next had been reached.
fn made_before(line: u64, marked: &[(u64, String)]) -> Vec<String> {
    marked
        .iter()
        .zip(marked.iter().skip(1))
        .filter(|(_, (next, _))| *next < line)
        .map(|((_, it), _)| it.clone())
        .collect()
}

impl FoundInDump {
    /// Tells whether a table is one that was chosen.
    fn has(&self, table: &DatabaseTable) -> bool {
        self.chosen.iter().any(|name| table.is_called(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::feed::Heard;

    #[test]
    fn tables_are_ours_once_the_client_got_past_them() {
        let marked = [(5, "a"), (9, "a"), (20, "b"), (30, "c")].map(|(line, name)| (line, name.to_owned()));
        assert_eq!(made_before(31, &marked), ["a", "a", "b"]);
        assert_eq!(made_before(22, &marked), ["a", "a"]);
        assert!(made_before(7, &marked).is_empty());
        let failed = |line: &str| {
            let mut heard = Heard::default();
            heard.last.extend(["more".to_owned(), line.to_owned()]);
            failed_line(&FeedError::Client { program: "mariadb".to_owned(), status: 1, heard })
        };
        assert_eq!(failed("ERROR 1050 (42S01) at line 22: Table 'b' already exists at line 3: x"), Some(22));
        assert_eq!((failed("ERROR 2002 (HY000): no"), failed_line(&FeedError::cancelled())), (None, None));
    }

    #[test]
    fn values_go_into_the_columns_that_they_are_of() {
        let tables = |name: &str, columns: &[&str]| {
            BTreeMap::from([(name.to_owned(), columns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())])
        };
        let dumped = tables("a", &["x", "y"]);
        assert!(other_columns(&dumped, &tables("a", &["X", "y"])).is_none());
        assert!(other_columns(&dumped, &tables("A", &["x", "y"])).is_none());
        for there in [tables("a", &["y", "x"]), tables("a", &["x"]), tables("b", &["x", "y"])] {
            assert_eq!(other_columns(&dumped, &there).expect("others").1, ["x", "y"]);
        }
    }
}
