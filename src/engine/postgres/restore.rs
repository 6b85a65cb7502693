//! Restoring into PostgreSQL: under a name of our own first, renamed when everything is there.
//!
//! A database with an extension that works under one name only gets that name at once; one that is there is renamed away before,
//! and gets its name back when that fails.

use std::sync::OnceLock;

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::compare::RowsComparison;
use crate::engine::feed::{FeedError, Heard};
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::contents::ChosenEntries;
use crate::engine::postgres::extensions::{self, ExtensionsPlan};
use crate::engine::postgres::roles::without_role;
use crate::engine::postgres::said::judge_all;
use crate::engine::postgres::script::{identifier, without_own_key};
use crate::engine::postgres::server::Postgres;
use crate::engine::postgres::{drop_statement, locale, server_of};
use crate::engine::restore::{Cause, Replaced, RestoredDatabase, Restoring, Unrestored};

/// What failed, before it is known what state that left.
pub(super) enum RestoreFailure {
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
pub(super) enum ScratchDatabase {
    Missing,
    Half,
    /// It does not belong to the role that was named, or not all of it.
    NotGiven,
    Complete,
}

/// Restores one database, or what belongs to the server.
///
/// # Errors
/// [`Unrestored`].
pub async fn restore(restoring: &Restoring<'_>) -> Result<RestoredDatabase, Unrestored> {
    let plan = restoring.database;
    let asked = asked(restoring).await;
    let (server, server_version, extensions) = asked.map_err(|error| Unrestored {
        step: format!("restoring {}", plan.name),
        left: "nothing was changed".into(),
        cause: Cause::Server(error),
    })?;
    let (chosen, compared) = (None, OnceLock::new());
    let mut run = PostgresRun { restoring, server: &server, server_version, plan, extensions, chosen, compared };
    if restoring.wishes.are_globals {
        return run.globals().await.map_err(|failure| failure.left("roles that were made before it stay".to_owned()));
    }
    run.chosen = run.choose().await.map_err(|failure| failure.left("nothing was changed".to_owned()))?;
    run.tell_needed();
    run.extensions.missed.iter().for_each(|message| restoring.problem(message.clone()));
    let (heard, replaced) = match run.extensions.is_tied {
        _ if plan.is_added_to => (run.beside().await?, None),
        true => run.under_its_name().await?,
        false => {
            // Unique, and telling where it comes from, should it ever be left over.
            let scratch = format!("{}_coffre_{}", cut(&plan.name, 46), restoring.unique);
            match run.through_scratch(&scratch).await {
                Ok(done) => done,
                Err(Unfinished { failure, scratch: state }) => {
                    return Err(failure.left(run.state(&scratch, state).await));
                }
            }
        }
    };
    let (name, bytes) = (plan.name.clone(), plan.stream_bytes());
    let replaced = replaced.map(|name| Replaced { drop: drop_statement(&name), name });
    let (failed_statements, said) = (heard.failed_statements, heard.told_failures());
    let (left_out, compared) = (run.left_out(), run.compared.into_inner());
    Ok(RestoredDatabase {
        name,
        bytes,
        failed_statements,
        said,
        left_out,
        compared,
        replaced,
        ..RestoredDatabase::default()
    })
}

/// Returns the server, connected to in a database that is not the one to be made, its version, and what becomes of extensions.
async fn asked(restoring: &Restoring<'_>) -> Result<(Postgres, String, ExtensionsPlan), DatabaseError> {
    let (place, plan) = (restoring.place.clone(), restoring.database.clone());
    let (are_globals, skipped) = (restoring.wishes.are_globals, restoring.wishes.skip_extensions.clone());
    let has_none = are_globals || plan.is_added_to;
    blocking(move || {
        let server = server_of(&place, &[&plan.name])?;
        let (version, _) = server.version()?;
        let extensions = if has_none { ExtensionsPlan::default() } else { extensions::look(&server, &plan, &skipped)? };
        Ok((server, version, extensions))
    })
    .await
}

/// One restore into a server.
pub(super) struct PostgresRun<'a> {
    pub restoring: &'a Restoring<'a>,
    /// The server, connected to in another database than the one to be made.
    pub server: &'a Postgres,
    pub server_version: String,
    pub plan: &'a DatabasePlan,
    pub extensions: ExtensionsPlan,
    /// The entries of its archive that are restored, if not all.
    pub chosen: Option<ChosenEntries>,
    /// Whether its rows are those of the dump, once that is known.
    pub compared: OnceLock<RowsComparison>,
}

impl PostgresRun<'_> {
    /// Restores into the database `scratch`, which is made, and gives it its name. Returns what the clients said, and the
    /// name that an existing database has now.
    async fn through_scratch(&self, scratch: &str) -> Result<(Heard, Option<String>), Unfinished> {
        let unfinished = |scratch| move |error| Unfinished { failure: self.failure(error), scratch };
        self.create(scratch).await.map_err(unfinished(ScratchDatabase::Missing))?;
        self.close(scratch).await.map_err(unfinished(ScratchDatabase::Half))?;
        self.import_collations(scratch).await;
        let heard = match self.data(scratch).await {
            Err(failure) if self.may_be_careful(&failure) => self.carefully(scratch).await.map_err(|()| failure),
            Err(failure) => Err(failure),
            Ok(heard) => {
                self.gather_statistics(scratch).await;
                Ok(heard)
            }
        };
        let half = |failure| Unfinished { failure, scratch: ScratchDatabase::Half };
        let mut heard = heard.map_err(half)?;
        // As long as nobody else may come in.
        self.compare(scratch).await;
        // Hours may have gone into it by now.
        let not_given = |failure| Unfinished { failure, scratch: ScratchDatabase::NotGiven };
        heard.extend(self.give_to_owner(scratch).await.map_err(not_given)?);
        self.settings(scratch).await;
        Ok((heard, self.take_name(scratch).await.map_err(unfinished(ScratchDatabase::Complete))?))
    }

    /// Makes `scratch` anew and puts everything into it, more slowly. What that fails for is not what is to be told.
    async fn carefully(&self, scratch: &str) -> Result<Heard, ()> {
        let drop = vec![drop_statement(scratch)];
        self.sql("asked to drop what is half restored", self.elsewhere(), drop).await.map_err(|_| ())?;
        self.create(scratch).await.map_err(|_| ())?;
        self.close(scratch).await.map_err(|_| ())?;
        self.import_collations(scratch).await;
        self.careful_data(scratch).await.map_err(|_| ())
    }

    /// Restores into a database that has its name at once. Returns what the clients said, and the name that an existing database
    /// has now.
    async fn under_its_name(&self) -> Result<(Heard, Option<String>), Unrestored> {
        let name = &self.plan.name;
        let replaced = match self.plan.exists {
            false => None,
            true => Some(self.rename_away().await.map_err(|e| self.failure(e).left(format!("{name} is untouched")))?),
        };
        if let Err(error) = self.create(name).await {
            return Err(self.failure(error).left(self.give_back(replaced.as_deref()).await));
        }
        let mut heard = match self.closed_data(name).await {
            Ok(heard) => heard,
            Err(failure) => return Err(failure.left(self.give_up(replaced.as_deref()).await)),
        };
        self.compare(name).await;
        match self.give_to_owner(name).await {
            Ok(given) => heard.extend(given),
            Err(failure) => return Err(failure.left(self.kept_under_its_name(replaced.as_deref()))),
        }
        self.gather_statistics(name).await;
        self.settings(name).await;
        match replaced {
            Some(replaced) if self.drop_untouched(&replaced).await => Ok((heard, None)),
            replaced => Ok((heard, replaced)),
        }
    }

    /// Puts everything into a database that is there and empty, closed to others.
    async fn closed_data(&self, database: &str) -> Result<Heard, RestoreFailure> {
        self.close(database).await.map_err(|error| self.failure(error))?;
        self.import_collations(database).await;
        self.data(database).await
    }

    /// Makes an empty database like the one that was dumped, which allows no connections.
    async fn create(&self, database: &str) -> Result<(), DatabaseError> {
        let locale = self.restoring.wishes.adaptations.locale.as_deref();
        let clauses = locale::clauses(self.plan, locale, &self.server_version);
        let (name, tablespace) = (identifier(database), self.tablespace().await?);
        // What was dumped comes last, so that it cuts off none of ours; an option that is said twice is refused.
        let ours = format!("TEMPLATE template0 OWNER DEFAULT ALLOW_CONNECTIONS false{tablespace}");
        let create = format!("CREATE DATABASE {name} {ours} {clauses}");
        self.sql("asked to create a database", self.elsewhere(), vec![create]).await
    }

    /// Gathers statistics, where that is wanted.
    pub(super) async fn gather_statistics(&self, database: &str) {
        if self.restoring.wishes.analyze {
            self.restoring.phase("gathering statistics of");
            let analyzed = self.sql("asked for statistics", database, vec!["ANALYZE".to_owned()]).await;
            self.tell(analyzed, "ANALYZE");
        }
    }

    /// Tells what failed when it is no reason to give up: the data is there.
    pub(super) fn tell(&self, outcome: Result<(), DatabaseError>, what: &str) {
        if let Err(error) = outcome {
            self.restoring.problem(format!("{what}: {error}"));
        }
    }

    /// Makes roles and tablespaces; those that exist stay as they are, and are counted, but for the role that connects.
    async fn globals(&self) -> Result<RestoredDatabase, RestoreFailure> {
        let mut restored = RestoredDatabase { name: "globals".into(), ..RestoredDatabase::default() };
        let server = self.server.clone();
        let user = blocking(move || server.user()).await.map_err(|error| self.failure(error))?;
        for stream in &self.plan.streams {
            let mut command = self.psql_for_dump(self.elsewhere());
            if !self.restoring.wishes.exit_on_error {
                command.arguments.push("--set=ON_ERROR_STOP=0".into());
            }
            let adapt = |input| without_role(without_own_key(input), &user.name);
            let fed = self.restoring.feed_adapted(&stream.path, &command, judge_all, adapt).await;
            let said = self.heard(stream, &command, fed)?;
            restored.bytes += stream.bytes;
            restored.failed_statements += said.failed_statements;
            restored.said.extend(said.told_failures());
        }
        Ok(restored)
    }

    /// Runs statements one by one. `asked` says what is wanted, for the error.
    pub(super) async fn sql(&self, asked: &str, database: &str, statements: Vec<String>) -> Result<(), DatabaseError> {
        let (server, database, asked) = (self.server.clone(), database.to_owned(), asked.to_owned());
        blocking(move || server.run(&database, &asked, &statements)).await.map(|_| ())
    }

    /// Says what a question to the server failed for.
    pub(super) fn failure(&self, error: DatabaseError) -> RestoreFailure {
        RestoreFailure::Server(format!("restoring {}", self.plan.name), error)
    }
}

impl RestoreFailure {
    pub(super) fn left(self, left: String) -> Unrestored {
        match self {
            RestoreFailure::Server(step, source) => Unrestored { step, left, cause: Cause::Server(source) },
            RestoreFailure::Feed(step, error) => error.left(step, left),
        }
    }
}

/// Cuts a name so that it fits with what is added into the 63 bytes that PostgreSQL has for names.
pub(super) fn cut(name: &str, most: usize) -> &str {
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
    fn names_are_cut_between_characters() {
        assert_eq!((cut("shop", 46), cut("grüße", 3), cut("grüße", 4)), ("shop", "gr", "grü"));
    }
}
