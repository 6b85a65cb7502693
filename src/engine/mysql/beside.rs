//! Parts of a database that go into one that is there, beside what it has and never in its place.
//!
//! Rows alone are one transaction. How tables are made is none with these servers, so what was made is dropped again when the rest
//! fails: tables that were not there before, and only those.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::feed::FeedError;
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
        let heard = match self.fill().await {
            Ok(heard) => heard,
            Err(error) => return Err(without_rows(error).left(self.step.clone(), self.undo(&found, &before).await)),
        };
        if self.restoring.wishes.analyze {
            self.restoring.phase("gathering statistics of");
            if let Err(error) = analyze(&self.server, self.name(), &found.chosen).await {
                self.restoring.problem(format!("ANALYZE: {error}"));
            }
        }
        let changes = heard.changes.into_iter().collect();
        Ok(RestoredDatabase { changes, left_out: self.left_out(found), ..self.begin() })
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
        if amiss.is_empty() {
            return Ok(());
        }
        let (name, tables) = (self.name(), some_names(&amiss));
        let why = match is_of_rows {
            true => {
                format!("{name} has no {tables} for the rows: restore how they are made as well, without --data-only")
            }
            false => format!(
                "{name} has {tables} already: rename or drop what is there, add rows alone by --data-only, or restore into \
                 another database by --database OLD=NEW"
            ),
        };
        Err(DatabaseError::Refused { server: self.server.url().server(), why })
    }

    /// Drops what was made before the rest failed, and tells in what state the database is then.
    async fn undo(&self, found: &FoundInDump, before: &[DatabaseTable]) -> String {
        let name = self.name();
        let rows_stay = before.iter().filter(|table| !table.is_transactional && found.has(table));
        let rows_stay: Vec<String> = rows_stay.map(|table| table.name.clone()).collect();
        if self.restoring.wishes.parts.aspect == DumpAspect::Rows {
            return match rows_stay.is_empty() {
                true => format!("{name} is as it was: no row was added"),
                false => format!(
                    "no row was added to tables with transactions; these have none and may have new rows: {}",
                    some_names(&rows_stay)
                ),
            };
        }
        let drop = async {
            let made = self.tables().await?;
            let is_new = |table: &&DatabaseTable| !before.contains(table) && found.has(table);
            let drops = made.iter().filter(is_new).map(|table| {
                format!("DROP {} IF EXISTS {}.{};\n", table.kind(), identifier(name), identifier(&table.name))
            });
            let statements: String = drops.collect();
            let server = self.server.clone();
            let statements = format!("SET SESSION foreign_key_checks = 0;\n{statements}");
            blocking(move || server.run("asked to drop what is half restored", &statements)).await
        };
        match drop.await {
            Ok(_) if self.restoring.wishes.parts.tables.is_empty() => {
                format!(
                    "the tables that were made in {name} are dropped again; routines and events that were made stay"
                )
            }
            Ok(_) => format!("{name} is as it was: the tables that were made are dropped again"),
            Err(error) => {
                format!("{name} may have tables that are half restored, and they could not be dropped: {error}")
            }
        }
    }
}

impl FoundInDump {
    /// Tells whether a table is one that was chosen.
    fn has(&self, table: &DatabaseTable) -> bool {
        self.chosen.iter().any(|name| table.is_called(name))
    }
}
