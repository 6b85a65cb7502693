//! Filling a database from the streams of a dump.
//!
//! An archive goes into `pg_restore` as it is read; with several jobs, into a spool file first, because `pg_restore --jobs`
//! must seek. A split dump needs no spool: the main archive makes the tables, the archives of single tables fill them, several
//! at once, and the main archive is read once more for indexes and constraints.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{StreamExt, TryStreamExt};

use crate::database::DatabaseError;
use crate::database::major;
use crate::database::spool::SpoolFile;
use crate::engine::feed::{FeedError, Heard, Said};
use crate::engine::parts::DumpAspect;
use crate::engine::plan::StreamToRestore;
use crate::engine::postgres::archive::ArchiveListing;
use crate::engine::postgres::contents::{self, ChosenEntries, unquoted};
use crate::engine::postgres::extensions::without;
use crate::engine::postgres::facts::{self, PostgresFormat};
use crate::engine::postgres::restore::{PostgresRun, RestoreFailure};
use crate::engine::postgres::roles::roles;
use crate::engine::postgres::said::{judge_all, judge_first, without_newer_settings};
use crate::engine::postgres::script::without_own_key;
use crate::engine::restore::StoredError;
use crate::model::facts::fact;
use crate::process::CommandOptions;
use crate::progress::Problem;
use crate::source::check::Check;

impl PostgresRun<'_> {
    /// Puts everything into `database`, which is there and empty.
    pub(super) async fn data(&self, database: &str) -> Result<Heard, RestoreFailure> {
        let (main, tables) = self.plan.streams.split_first().expect("a plan has a main stream");
        match main.facts.get(facts::FORMAT) {
            Some(PostgresFormat::Plain) => {
                // It always ends at the first failure: after a `COPY` that failed, rows would be run as statements.
                let command = self.psql_for_dump(database);
                let version = major(&self.server_version);
                let adapt = |input| without_newer_settings(without_own_key(input), version);
                self.heard(main, &command, self.restoring.feed_adapted(&main.path, &command, judge_all, adapt).await)
            }
            _ if tables.is_empty() && self.restoring.wishes.jobs > 1 => {
                let spool = SpoolFile::create(&self.restoring.wishes.spool, main.bytes)
                    .map_err(|error| RestoreFailure::Server("spooling".into(), error))?;
                self.restoring.phase("spooling");
                self.restoring
                    .spool(&main.path, spool.path())
                    .await
                    .map_err(|e| RestoreFailure::Feed("spooling".into(), e))?;
                self.restoring.phase("restoring");
                let list = self.list()?;
                let jobs = format!("--jobs={}", self.restoring.wishes.jobs);
                let mut command = self.pg_restore(database, main, &[&jobs], list.as_ref())?;
                command.arguments.push(spool.path().into());
                self.heard(main, &command, self.restoring.run(&command, self.judge()).await)
            }
            _ if tables.is_empty() => {
                let list = self.list()?;
                self.feed(main, &self.pg_restore(database, main, &[], list.as_ref())?).await
            }
            _ => {
                let mut said = self.sections(database, &["pre-data"]).await?;
                said.extend(self.rows(database).await?);
                said.extend(self.sections(database, &["post-data"]).await?);
                Ok(said)
            }
        }
    }

    /// Describes `psql` for a dump of SQL, and tells where it would take commands from it.
    pub(super) fn psql_for_dump(&self, database: &str) -> CommandOptions {
        let (command, is_restricted) = self.server.psql_for_dump(database);
        if !is_restricted {
            let note = "psql is older than August 2025: it runs commands that stand in a dump of SQL on this machine, so whoever \
                backed this up must be trusted";
            self.restoring.monitor.note(Problem::advice(self.plan.name.clone(), note.to_owned()));
        }
        command
    }

    /// Restores these sections of the main archive.
    pub(super) async fn sections(&self, database: &str, sections: &[&str]) -> Result<Heard, RestoreFailure> {
        let main = self.plan.main();
        let list = self.list()?;
        let mut said = Heard::default();
        for section in sections {
            let command = self.pg_restore(database, main, &[&format!("--section={section}")], list.as_ref())?;
            said.extend(self.feed(main, &command).await?);
        }
        Ok(said)
    }

    /// Puts the rows of all archives into tables that are there, where rows are wanted.
    pub(super) async fn rows(&self, database: &str) -> Result<Heard, RestoreFailure> {
        if self.restoring.wishes.parts.aspect == DumpAspect::Schema {
            return Ok(Heard::default());
        }
        let mut said = self.sections(database, &["data"]).await?;
        let commands: Vec<_> = self.plan.streams[1..]
            .iter()
            .filter(|table| self.is_chosen(table))
            .map(|table| Ok((table, self.pg_restore(database, table, &["--section=data"], None)?)))
            .collect::<Result<_, RestoreFailure>>()?;
        let feeding: Vec<_> = commands.iter().map(|(table, command)| self.feed(table, command)).collect();
        let fed: Vec<Heard> =
            futures::stream::iter(feeding).buffered(self.restoring.wishes.jobs.max(1)).try_collect().await?;
        fed.into_iter().for_each(|heard| said.extend(heard));
        Ok(said)
    }

    /// Tells whether the rows of a table which has a stream of its own are wanted.
    fn is_chosen(&self, stream: &StreamToRestore) -> bool {
        let Some(chosen) = self.chosen.as_ref().filter(|_| !self.restoring.wishes.parts.tables.is_empty()) else {
            return true;
        };
        let name = unquoted(stream.facts.text(fact::TABLE).unwrap_or_default());
        chosen.tables.iter().any(|(schema, table)| name == [schema.as_str(), table.as_str()])
    }

    /// Feeds a stream; statements that failed are an error only when that is wanted.
    pub(super) async fn feed(
        &self,
        stream: &StreamToRestore,
        command: &CommandOptions,
    ) -> Result<Heard, RestoreFailure> {
        self.heard(stream, command, self.restoring.feed(&stream.path, command, self.judge()).await)
    }

    /// Judges what a client said that was fed.
    pub(super) fn heard(
        &self,
        stream: &StreamToRestore,
        command: &CommandOptions,
        fed: Result<Heard, FeedError>,
    ) -> Result<Heard, RestoreFailure> {
        let fed = match fed {
            // `psql` ends with status 0 whatever failed.
            Ok(heard) if heard.has_lost_rows => Err(FeedError::Client { program: command.name(), status: 0, heard }),
            fed => fed.or_else(|error| self.tolerate(error)),
        };
        fed.map_err(|error| RestoreFailure::Feed(format!("restoring /{} into {}", stream.path, self.plan.name), error))
    }

    /// `pg_restore` ends with status 1 both when it gave up and when it went on after statements that failed; then it says
    /// how many there were. Rows that could not be put are never among those that are only counted.
    fn tolerate(&self, error: FeedError) -> Result<Heard, FeedError> {
        match error {
            FeedError::Client { status: 1, heard, .. }
                if heard.has_counted
                    && !heard.has_lost_rows
                    && (heard.failed_statements == 0 || !self.restoring.wishes.exit_on_error) =>
            {
                Ok(heard)
            }
            other => Err(other),
        }
    }

    /// Returns who judges `pg_restore`: one that ends it at the first failure, where that is wanted.
    ///
    /// (Its own `--exit-on-error` would end it at a setting that only newer servers know.)
    fn judge(&self) -> fn(&[u8]) -> Said {
        if self.restoring.wishes.exit_on_error { judge_first } else { judge_all }
    }

    /// Describes `pg_restore`, of a version that understands the archive.
    pub(super) fn pg_restore(
        &self,
        database: &str,
        stream: &StreamToRestore,
        more: &[&str],
        list: Option<&SpoolFile>,
    ) -> Result<CommandOptions, RestoreFailure> {
        let program = self.pg_restore_program(stream)?;
        let mut arguments = more.to_vec();
        let adaptations = &self.restoring.wishes.adaptations;
        if !adaptations.owners.are_kept() {
            arguments.extend(["--no-owner", "--no-privileges"]);
        }
        let role = adaptations.owners.role().filter(|_| self.plan.is_added_to).map(|role| format!("--role={role}"));
        arguments.extend(role.as_deref());
        if adaptations.no_tablespaces {
            arguments.push("--no-tablespaces");
        }
        match self.restoring.wishes.parts.aspect {
            DumpAspect::Whole => {}
            DumpAspect::Schema => arguments.push("--schema-only"),
            DumpAspect::Rows => arguments.push("--data-only"),
        }
        let list = list.map(|list| format!("--use-list={}", list.path().display()));
        arguments.extend(list.as_deref());
        Ok(self.server.command(program, database, &arguments))
    }

    fn pg_restore_program(&self, stream: &StreamToRestore) -> Result<std::ffi::OsString, RestoreFailure> {
        let archived = stream.facts.text(fact::CLIENT_VERSION).unwrap_or("0");
        let (program, _) = self.server.program("pg_restore", archived).map_err(|error| match error {
            DatabaseError::ClientOlder { program, client, server_version, .. } => {
                let server = format!("the pg_dump that wrote /{}", stream.path);
                RestoreFailure::Server(
                    "restoring".into(),
                    DatabaseError::ClientOlder { program, client, server, server_version },
                )
            }
            other => RestoreFailure::Server("looking for pg_restore".into(), other),
        })?;
        Ok(program)
    }

    /// Writes a file with the entries of the main archive that are wanted; none where all are.
    pub(super) fn list(&self) -> Result<Option<SpoolFile>, RestoreFailure> {
        let Some(text) = self.chosen.as_ref().map(|chosen| &chosen.list) else { return Ok(None) };
        let failed = |error| RestoreFailure::Server("choosing among the entries of an archive".into(), error);
        let list = SpoolFile::create(&self.restoring.wishes.spool, text.len() as u64).map_err(failed)?;
        let written = std::fs::write(list.path(), text);
        written.map_err(|source| failed(DatabaseError::Spool { path: list.path().to_owned(), source }))?;
        Ok(Some(list))
    }

    /// Chooses among the entries of the main archive, by its table of contents; none where all are wanted.
    pub(super) async fn choose(&self) -> Result<Option<ChosenEntries>, RestoreFailure> {
        let (left_out, parts) = (&self.extensions.left_out, &self.restoring.wishes.parts);
        if left_out.is_empty() && parts.tables.is_empty() {
            return Ok(None);
        }
        let stream = self.plan.main();
        let failed = |error| RestoreFailure::Server(format!("listing /{}", stream.path), error);
        let program = self.pg_restore_program(stream)?;
        let listing = ArchiveListing::start_in_detail(&program).map_err(|error| {
            let source = io::Error::other(error);
            failed(DatabaseError::Spawn { program: program.to_string_lossy().into_owned(), source })
        })?;
        let listing = Arc::new(Mutex::new(listing));
        match self.restoring.stored.write(&stream.path, Box::new(ListedOnTheWay(listing.clone()))).await {
            // It has seen what it wants.
            Ok(()) => {}
            Err(StoredError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(RestoreFailure::Feed("listing".into(), error.into())),
        }
        let listing = Arc::into_inner(listing).expect("the stream is done with it");
        let listing = listing.into_inner().unwrap_or_else(PoisonError::into_inner);
        let listing = without(&listing.text(&stream.path.to_string()).map_err(failed)?, left_out);
        if parts.tables.is_empty() {
            return Ok(Some(ChosenEntries { list: listing, ..ChosenEntries::default() }));
        }
        let owners: Vec<String> = roles(self.plan).keys().flat_map(|role| unquoted(role)).collect();
        let chosen = contents::choose(&listing, &self.plan.source, parts, &owners);
        chosen.map(Some).map_err(|error| RestoreFailure::Server(format!("restoring {}", self.plan.name), error))
    }
}

/// Passes a stream to what lists it.
struct ListedOnTheWay(Arc<Mutex<ArchiveListing>>);

impl Write for ListedOnTheWay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut listing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listing.feed(bytes);
        if listing.has_enough() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
