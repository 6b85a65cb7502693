//! Restoring into PostgreSQL: under a name of our own first, renamed when everything is there.
//!
//! An archive goes into `pg_restore` as it is read; with several jobs, into a spool file first, because `pg_restore --jobs`
//! must seek. A split dump needs no spool: the main archive makes the tables, the archives of single tables fill them, several
//! at once, and the main archive is read once more for indexes and constraints.

use std::time::{Duration, Instant};

use futures::stream::{StreamExt, TryStreamExt};

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::database::spool::SpoolFile;
use crate::engine::feed::{FeedError, Heard, Said};
use crate::engine::plan::{DatabasePlan, StreamToRestore};
use crate::engine::postgres::facts::{self, PostgresFormat, Statements};
use crate::engine::postgres::roles::{SET_OWNER, without_role};
use crate::engine::postgres::server::{MAINTENANCE, Postgres, TEMPLATE, identifier, literal};
use crate::engine::postgres::{drop_statement, server_of};
use crate::engine::restore::{Cause, Replaced, RestoredDatabase, Restoring, Unrestored};
use crate::model::facts::fact;
use crate::process::CommandOptions;

/// How long connections are ended to rename a database away from them.
const RENAME_LIMIT: Duration = Duration::from_secs(10);

/// What failed, before it is known what state that left.
enum RestoreFailure {
    Feed(String, FeedError),
    Server(String, DatabaseError),
}

/// What failed, and what the database of another name was by then.
struct Unfinished {
    failure: RestoreFailure,
    scratch: ScratchDatabase,
}

/// The database that is restored into, before it has its name.
#[derive(Clone, Copy)]
enum ScratchDatabase {
    Missing,
    Half,
    Complete,
}

/// Restores one database, or what belongs to the server.
///
/// # Errors
/// [`Unrestored`].
pub async fn restore(restoring: &Restoring<'_>) -> Result<RestoredDatabase, Unrestored> {
    let plan = restoring.database;
    let server = server_of(restoring.place).map_err(|error| Unrestored {
        step: format!("restoring {}", plan.name),
        left: "nothing was changed".into(),
        cause: Cause::Server(error),
    })?;
    let run = Run { restoring, server: &server, plan };
    if restoring.wishes.are_globals {
        return run.globals().await.map_err(|failure| failure.left("roles that were made before it stay".to_owned()));
    }
    // Unique, and telling where it comes from, should it ever be left over.
    let scratch = format!("{}_coffre_{}", cut(&plan.name, 46), restoring.unique);
    let outcome = run.through_scratch(&scratch).await;
    let (heard, replaced) = match outcome {
        Ok(done) => done,
        Err(Unfinished { failure, scratch: state }) => return Err(failure.left(run.state(&scratch, state).await)),
    };
    let failed_statements = heard.failed_statements;
    let said = if failed_statements > 0 { heard.last } else { Vec::new() };
    let (name, bytes) = (plan.name.clone(), plan.stream_bytes());
    let replaced = replaced.map(|name| Replaced { drop: drop_statement(&name), name });
    Ok(RestoredDatabase { name, bytes, failed_statements, said, replaced, ..RestoredDatabase::default() })
}

struct Run<'a> {
    restoring: &'a Restoring<'a>,
    server: &'a Postgres,
    plan: &'a DatabasePlan,
}

impl Run<'_> {
    /// Returns a database to connect to that is not the one to be made or replaced.
    fn elsewhere(&self) -> &'static str {
        if self.plan.name == MAINTENANCE { TEMPLATE } else { MAINTENANCE }
    }

    /// Tells in what state everything is after a restore that failed; drops what is half restored.
    async fn state(&self, scratch: &str, state: ScratchDatabase) -> String {
        let plan = self.plan;
        let unchanged = if plan.exists { format!("{} is untouched", plan.name) } else { "nothing was changed".into() };
        match state {
            ScratchDatabase::Missing => unchanged,
            ScratchDatabase::Complete => {
                format!("{unchanged}, and all that was restored is in {scratch}, which can be renamed or dropped")
            }
            ScratchDatabase::Half => {
                let statement = format!("DROP DATABASE IF EXISTS {};\n", identifier(scratch));
                match self.sql("asked to drop what is half restored", self.elsewhere(), statement).await {
                    Ok(()) if plan.exists => unchanged,
                    Ok(()) => format!("there is no database {}, nothing was left behind", plan.name),
                    Err(error) => {
                        format!("database {scratch} is half restored and may be dropped, which failed: {error}")
                    }
                }
            }
        }
    }

    /// Restores into the database `scratch`, which is made, and gives it its name. Returns what the clients said, and the
    /// name that an existing database has now.
    async fn through_scratch(&self, scratch: &str) -> Result<(Heard, Option<String>), Unfinished> {
        let clauses = self.plan.fact(facts::CREATE).unwrap_or_default();
        let unfinished = |scratch| move |error| Unfinished { failure: self.failure(error), scratch };
        let tablespace = self.tablespace().await.map_err(unfinished(ScratchDatabase::Missing))?;
        let create = format!("CREATE DATABASE {} TEMPLATE template0 {clauses}{tablespace};\n", identifier(scratch));
        let made = self.sql("asked to create a database", self.elsewhere(), create).await;
        made.map_err(unfinished(ScratchDatabase::Missing))?;
        let heard =
            self.data(scratch).await.map_err(|failure| Unfinished { failure, scratch: ScratchDatabase::Half })?;
        if self.restoring.wishes.analyze {
            self.restoring.phase("gathering statistics of");
            let analyzed = self.sql("asked for statistics", scratch, "ANALYZE;\n".to_owned()).await;
            self.tell(analyzed, "ANALYZE");
        }
        // Some would keep us out.
        self.settings(scratch).await;
        // Hours may have gone into it by now.
        Ok((heard, self.take_name(scratch).await.map_err(unfinished(ScratchDatabase::Complete))?))
    }

    /// Returns the clause for the tablespace that the database was in, if there is one of this name.
    async fn tablespace(&self) -> Result<String, DatabaseError> {
        let Some(name) = self.plan.fact(facts::TABLESPACE) else { return Ok(String::new()) };
        let (server, asked) = (self.server.clone(), name.clone());
        if blocking(move || server.has_tablespace(&asked)).await? {
            return Ok(format!(" TABLESPACE {}", identifier(&name)));
        }
        self.restoring.problem(format!("there is no tablespace {name}, in which it was; it is in the usual one"));
        Ok(String::new())
    }

    /// Tells what failed when it is no reason to give up: the data is there.
    fn tell(&self, outcome: Result<(), DatabaseError>, what: &str) {
        if let Err(error) = outcome {
            self.restoring.problem(format!("{what}: {error}"));
        }
    }

    async fn data(&self, scratch: &str) -> Result<Heard, RestoreFailure> {
        let (main, tables) = self.plan.streams.split_first().expect("a plan has a main stream");
        match main.facts.get(facts::FORMAT) {
            Some(PostgresFormat::Plain) => {
                // It always ends at the first failure: after a `COPY` that failed, rows would be run as statements.
                self.feed(main, &self.server.psql(scratch)).await
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
                let mut command =
                    self.pg_restore(scratch, main, &[&format!("--jobs={}", self.restoring.wishes.jobs)])?;
                command.arguments.push(spool.path().into());
                let ran = self.restoring.run(&command, judge).await;
                ran.or_else(|error| self.tolerate(error)).map_err(|error| self.at(main, error))
            }
            _ if tables.is_empty() => self.feed(main, &self.pg_restore(scratch, main, &[])?).await,
            _ => self.split_data(scratch, main, tables).await,
        }
    }

    /// Tables are made by the main archive, filled from their own, and indexed by the main archive.
    async fn split_data(
        &self,
        scratch: &str,
        main: &StreamToRestore,
        tables: &[StreamToRestore],
    ) -> Result<Heard, RestoreFailure> {
        let mut said = Heard::default();
        for section in ["--section=pre-data", "--section=data"] {
            said.extend(self.feed(main, &self.pg_restore(scratch, main, &[section])?).await?);
        }
        let commands: Vec<_> = tables
            .iter()
            .map(|table| Ok((table, self.pg_restore(scratch, table, &["--section=data"])?)))
            .collect::<Result<_, RestoreFailure>>()?;
        let feeding: Vec<_> = commands.iter().map(|(table, command)| self.feed(table, command)).collect();
        let fed: Vec<Heard> =
            futures::stream::iter(feeding).buffered(self.restoring.wishes.jobs.max(1)).try_collect().await?;
        fed.into_iter().for_each(|heard| said.extend(heard));
        said.extend(self.feed(main, &self.pg_restore(scratch, main, &["--section=post-data"])?).await?);
        Ok(said)
    }

    /// Feeds a stream; statements that failed are an error only when that is wanted.
    async fn feed(&self, stream: &StreamToRestore, command: &CommandOptions) -> Result<Heard, RestoreFailure> {
        self.heard(stream, command, self.restoring.feed(&stream.path, command, judge).await)
    }

    /// Judges what a client said that was fed.
    fn heard(
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
        fed.map_err(|error| self.at(stream, error))
    }

    /// `pg_restore` ends with status 1 both when it gave up and when it went on after statements that failed; then it says
    /// how many there were. Rows that could not be put are never among those that are only counted.
    fn tolerate(&self, error: FeedError) -> Result<Heard, FeedError> {
        match error {
            FeedError::Client { status: 1, heard, .. }
                if !self.restoring.wishes.exit_on_error && heard.failed_statements > 0 && !heard.has_lost_rows =>
            {
                Ok(heard)
            }
            other => Err(other),
        }
    }

    fn at(&self, stream: &StreamToRestore, error: FeedError) -> RestoreFailure {
        RestoreFailure::Feed(format!("restoring /{} into {}", stream.path, self.plan.name), error)
    }

    /// Describes `pg_restore`, of a version that understands the archive.
    fn pg_restore(
        &self,
        database: &str,
        stream: &StreamToRestore,
        more: &[&str],
    ) -> Result<CommandOptions, RestoreFailure> {
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
        let mut arguments = more.to_vec();
        if self.restoring.wishes.exit_on_error {
            arguments.push("--exit-on-error");
        }
        if self.restoring.wishes.no_owner {
            arguments.extend(["--no-owner", "--no-privileges"]);
        }
        Ok(self.server.command(program, database, &arguments))
    }

    /// Sets owner, settings and rights of the database itself. What fails is a problem, not the end: the data is there.
    async fn settings(&self, scratch: &str) {
        let Statements(statements) = self.plan.fact(facts::SETTINGS).unwrap_or_default();
        for statement in statements {
            let is_rights = ["GRANT ", "REVOKE "].iter().any(|start| statement.starts_with(start));
            let is_owner = statement.starts_with(SET_OWNER);
            let is_of_role = statement.starts_with("ALTER ROLE ");
            if self.restoring.wishes.no_owner && (is_rights || is_owner || is_of_role) {
                continue;
            }
            let sql = format!("SELECT format({}, {}) \\gexec\n", literal(&statement), literal(scratch));
            // Texts and names that all databases share are kept in the encoding of the one that sets them. Otherwise
            // statements do not depend on each other where the database is not connected to.
            let is_text =
                statement.starts_with("COMMENT ") || self.plan.fact(facts::ENCODING).as_deref() != Some("UTF8");
            let from = if is_text { scratch } else { self.elsewhere() };
            let shown = statement.replace("%I", &identifier(&self.plan.name)).replace("%%", "%");
            self.tell(self.sql("asked to set a property", from, sql).await, &shown);
        }
    }

    /// Renames `scratch`; a database that has the name is renamed away in the same transaction, after its connections were
    /// ended, and stays.
    async fn take_name(&self, scratch: &str) -> Result<Option<String>, DatabaseError> {
        let name = identifier(&self.plan.name);
        let rename = format!("ALTER DATABASE {} RENAME TO {name};\n", identifier(scratch));
        if !self.plan.exists {
            self.sql("asked to rename a database", self.elsewhere(), rename).await?;
            return Ok(None);
        }
        let suffix = scratch.rsplit('_').next().unwrap_or_default();
        let replaced = format!("{}_replaced_{suffix}", cut(&self.plan.name, 44));
        let mut swap = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false;\n");
        swap += &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {};\nSELECT pg_sleep(0.1);\n",
            literal(&self.plan.name)
        );
        swap += &format!("BEGIN;\nALTER DATABASE {name} RENAME TO {};\n{rename}COMMIT;\n", identifier(&replaced));
        // Until then nobody can use the database.
        let deadline = Instant::now() + RENAME_LIMIT;
        loop {
            match self.sql("asked to exchange databases", self.elsewhere(), swap.clone()).await {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => {}
                Err(failure) => {
                    let allow = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true;\n");
                    // The first failure is the one to tell.
                    let _ = self.sql("asked to allow connections", self.elsewhere(), allow).await;
                    return Err(failure);
                }
            }
        }
        let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;\n", identifier(&replaced));
        self.tell(self.sql("asked to allow connections", self.elsewhere(), allow.clone()).await, allow.trim_end());
        Ok(if self.drop_untouched(&replaced).await { None } else { Some(replaced) })
    }

    /// Drops what was replaced if it is as every server has it, and still is: somebody may have put something into it meanwhile.
    /// Returns whether it is gone; where it cannot be dropped it stays and is told.
    async fn drop_untouched(&self, replaced: &str) -> bool {
        if !self.plan.is_untouched {
            return false;
        }
        let (server, name) = (self.server.clone(), replaced.to_owned());
        let is_untouched = blocking(move || server.is_untouched(&name)).await;
        let drop = format!("{}\n", drop_statement(replaced));
        is_untouched.unwrap_or(false) && self.sql("asked to drop a database", self.elsewhere(), drop).await.is_ok()
    }

    /// Makes roles and tablespaces; those that exist stay as they are, and are counted, but for the role that connects.
    async fn globals(&self) -> Result<RestoredDatabase, RestoreFailure> {
        let mut restored = RestoredDatabase { name: "globals".into(), ..RestoredDatabase::default() };
        let server = self.server.clone();
        let user = blocking(move || server.user()).await.map_err(|error| self.failure(error))?;
        for stream in &self.plan.streams {
            let mut command = self.server.psql(MAINTENANCE);
            if !self.restoring.wishes.exit_on_error {
                command.arguments.push("--set=ON_ERROR_STOP=0".into());
            }
            let adapt = |input| without_role(input, &user.name);
            let fed = self.restoring.feed_adapted(&stream.path, &command, judge, adapt).await;
            let said = self.heard(stream, &command, fed)?;
            restored.bytes += stream.bytes;
            restored.failed_statements += said.failed_statements;
            restored.said.extend(said.last);
        }
        Ok(restored)
    }

    async fn sql(&self, asked: &str, database: &str, statements: String) -> Result<(), DatabaseError> {
        let (server, database, asked) = (self.server.clone(), database.to_owned(), asked.to_owned());
        blocking(move || server.run(&database, &asked, &statements)).await.map(|_| ())
    }

    /// Says what a question to the server failed for.
    fn failure(&self, error: DatabaseError) -> RestoreFailure {
        RestoreFailure::Server(format!("restoring {}", self.plan.name), error)
    }
}

impl RestoreFailure {
    fn left(self, left: String) -> Unrestored {
        match self {
            RestoreFailure::Server(step, source) => Unrestored { step, left, cause: Cause::Server(source) },
            RestoreFailure::Feed(step, error) => error.left(step, left),
        }
    }
}

/// Judges a line of a client: `pg_restore` counts at its end what failed, `psql` reports each. When rows were among them or
/// the disk is full, the database is not what was dumped.
fn judge(line: &[u8]) -> Said {
    const SIGNS: [&str; 5] = [
        "COPY failed",
        "CONTEXT:  COPY",
        // There is no table for the rows.
        "Command was: COPY ",
        "No space left on device",
        "could not extend file",
    ];
    let line = String::from_utf8_lossy(line);
    if SIGNS.iter().any(|sign| line.contains(sign)) {
        return Said::Over;
    }
    if let Some((_, count)) = line.split_once("errors ignored on restore: ") {
        return Said::Failed(count.trim().parse().unwrap_or(1));
    }
    // `psql:<stdin>:3: ERROR:  …`, in the language of the server.
    let said = line.strip_prefix("psql:").and_then(|rest| rest.splitn(3, ':').nth(2)).map_or("", str::trim_start);
    let is_harmless = said.is_empty() || ["NOTICE:", "WARNING:", "INFO:"].iter().any(|word| said.starts_with(word));
    if is_harmless { Said::Other } else { Said::Failed(1) }
}

/// Cuts a name so that it fits with what is added into the 63 bytes that PostgreSQL has for names.
fn cut(name: &str, most: usize) -> &str {
    let mut end = most.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_is_judged() {
        let cases: [(&str, Said); 10] = [
            ("pg_restore: warning: errors ignored on restore: 3", Said::Failed(3)),
            ("psql:<stdin>:3: ERROR:  role \"a\" already exists", Said::Failed(1)),
            ("psql: note", Said::Other),
            ("psql:<stdin>:3: FEHLER:  Rolle \"a\" existiert bereits", Said::Failed(1)),
            ("psql:<stdin>:3: NOTICE:  not there, skipping", Said::Other),
            ("pg_restore: error: could not read", Said::Other),
            ("pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input", Said::Over),
            ("Command was: COPY public.t (x) FROM stdin;", Said::Over),
            ("ERROR:  could not write: No space left on device", Said::Over),
            ("ERROR:  role \"a\" does not exist", Said::Other),
        ];
        for (line, said) in cases {
            assert_eq!(judge(line.as_bytes()), said, "{line}");
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!((cut("shop", 46), cut("grüße", 3), cut("grüße", 4)), ("shop", "gr", "grü"));
    }
}
