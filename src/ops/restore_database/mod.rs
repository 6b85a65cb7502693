//! Restoring databases: what a snapshot holds of them goes back into a running server, or into a SQLite file.
//!
//! First a [`Plan`] is made, which changes nothing and says what would be done and what stands against it; [`apply`] does it.
//! Nothing takes the name of a database before it is complete: PostgreSQL's are restored under another name and renamed at
//! the end, an existing one is renamed away and kept. MariaDB cannot rename databases; there a new one that could not be
//! completed is dropped again, and one that is replaced is first read through once, so that it is not dropped for nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::database::DatabaseError;
use crate::database::url::DatabaseUrl;
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::dump::DumpError;
use crate::ops::{Cancel, LookError};
use crate::process::said;
use crate::progress::{Monitor, Problem, Problems, Tally};
use crate::repository::reader::{ReadError, Reader};

mod feed;
mod lines;
mod mysql;
mod plan;
mod postgres;
mod rename;
mod sqlite;

pub use plan::{DatabasePlan, Plan, PlannedStream, plan};

/// Where databases are restored into.
#[derive(Debug, Clone)]
pub enum DatabaseTarget {
    /// A PostgreSQL server.
    Postgres(DatabaseUrl),
    /// A MariaDB or MySQL server.
    Mysql(DatabaseUrl),
    /// A SQLite file.
    Sqlite(PathBuf),
}

/// Which databases of a snapshot are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The only one there is.
    Only,
    /// All.
    All,
    /// These, each with the name it is to have, if another.
    Named(Vec<(String, Option<String>)>),
    /// None, but the roles of the server, or its users.
    Globals,
}

/// What to restore and how.
#[derive(Debug, Clone)]
pub struct RestoreDatabaseOptions {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Only streams at or below this path.
    pub within: Option<EntryPath>,
    /// Where to.
    pub target: DatabaseTarget,
    /// Which.
    pub choice: Choice,
    /// Replace databases that exist.
    pub in_place: bool,
    /// Give up at the first statement that fails; otherwise they are counted.
    pub exit_on_error: bool,
    /// Leave owners as they come, and grants away.
    pub no_owner: bool,
    /// Let the planner's statistics be gathered afterwards.
    pub analyze: bool,
    /// Connections that restore one database at the same time; more than one needs room in `spool`.
    pub jobs: usize,
    /// Directory for spool files.
    pub spool: PathBuf,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreDatabaseReport {
    /// The databases restored, by the names they have now.
    pub databases: Vec<RestoredDatabase>,
    /// Those that could not be restored, by the names that they were to have, and why.
    pub failed: Vec<(String, RestoreDatabaseError)>,
    /// Those that were not begun after another had failed or ending was asked for.
    pub not_begun: Vec<String>,
    /// What was amiss with those that were restored.
    pub problems: Problems,
    /// How long it took.
    pub duration: Duration,
}

impl Ended for RestoreDatabaseReport {
    /// What failed first decides; else whether something was amiss.
    fn outcome(&self) -> Outcome {
        match self.failed.first() {
            Some((_, error)) => error.outcome(),
            None => match self.problems.outcome() {
                Outcome::Clean => Outcome::Clean,
                _ => Outcome::Incomplete,
            },
        }
    }
}

/// A database that was restored.
#[derive(Debug, Clone, Default)]
pub struct RestoredDatabase {
    /// Its name, or the file; `globals` for roles and users.
    pub name: String,
    /// Bytes of dump that were restored.
    pub bytes: u64,
    /// Statements that failed.
    pub failed_statements: u64,
    /// The last lines that the client said about those.
    pub said: Vec<String>,
    /// Columns and tables that the server changed with a warning, and what it said.
    pub changes: Vec<String>,
    /// Columns that the dump did not carry as they were, and what became of them.
    pub not_carried: Vec<String>,
    /// What in the copy uses the database that it was dumped from.
    pub uses_original: Vec<String>,
    /// What the database that was there before is called now.
    pub replaced: Option<String>,
}

impl RestoredDatabase {
    /// Returns the statement that drops the database which was there before.
    pub fn drop_replaced(&self) -> Option<String> {
        self.replaced.as_deref().map(plan::drop)
    }
}

/// Why databases were not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreDatabaseError {
    /// The snapshot could not be looked into.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The server could not be asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nothing fits.
    #[error("snapshot {snapshot} has no {what}")]
    NothingFits {
        /// The snapshot.
        snapshot: String,
        /// What was looked for.
        what: String,
    },
    /// It has no roles or users.
    #[error("snapshot {snapshot} has no roles or users: they are stored with --all-databases only")]
    NoGlobals {
        /// The snapshot.
        snapshot: String,
        /// Statements that make the roles which its databases use.
        needed: Vec<String>,
    },
    /// It is not clear which is meant.
    #[error("snapshot {snapshot} has several databases: {}", names.join(", "))]
    Several {
        /// The snapshot.
        snapshot: String,
        /// Their names.
        names: Vec<String>,
    },
    /// What the snapshot has of databases is not known, since its tree is damaged or out of reach.
    #[error("{part} cannot be read")]
    Unreadable {
        /// What is lost of the tree.
        part: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Something stands against it.
    #[error("{}", reasons.join("; "))]
    Refused {
        /// What.
        reasons: Vec<String>,
    },
    /// A client program failed.
    #[error("{step} failed, {left}: {program} ended with status {status}{}", said(stderr))]
    Client {
        /// What was being done.
        step: String,
        /// The program.
        program: String,
        /// Its status; negative for a signal.
        status: i32,
        /// The last lines of its standard error.
        stderr: Vec<String>,
        /// In what state everything is now.
        left: String,
    },
    /// What is stored could not be had.
    #[error("{step} failed, {left}")]
    Stored {
        /// What was being done.
        step: String,
        /// In what state everything is now.
        left: String,
        /// Why.
        #[source]
        source: DumpError,
    },
    /// The server failed while something other than data was restored, or the file could not be written.
    #[error("{step} failed, {left}")]
    Server {
        /// What was being done.
        step: String,
        /// In what state everything is now.
        left: String,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// The system failed.
    #[error("{step} failed, {left}")]
    Io {
        /// What was being done.
        step: String,
        /// In what state everything is now.
        left: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Ending was asked for.
    #[error("interrupted; {left}")]
    Cancelled {
        /// In what state everything is now.
        left: String,
    },
}

impl Ended for RestoreDatabaseError {
    fn outcome(&self) -> Outcome {
        match self {
            RestoreDatabaseError::Look(error) => error.outcome(),
            RestoreDatabaseError::Database(error) => error.outcome(),
            RestoreDatabaseError::NothingFits { .. } | RestoreDatabaseError::NoGlobals { .. } => Outcome::Missing,
            RestoreDatabaseError::Several { .. } => Outcome::Usage,
            RestoreDatabaseError::Unreadable { source, .. } => source.outcome(),
            RestoreDatabaseError::Refused { .. } => Outcome::Refused,
            RestoreDatabaseError::Client { .. } | RestoreDatabaseError::Io { .. } => Outcome::Failed,
            RestoreDatabaseError::Stored { source, .. } => source.outcome(),
            RestoreDatabaseError::Server { source, .. } => source.outcome(),
            RestoreDatabaseError::Cancelled { .. } => Outcome::Interrupted,
        }
    }
}

/// Does what was planned, one database after the other.
///
/// A database that cannot be restored does not keep the others from it, unless `options.exit_on_error` says so: the report
/// has what became of each.
///
/// # Errors
/// [`RestoreDatabaseError::Refused`] when something stands against the plan.
pub async fn apply(
    reader: Arc<Reader>,
    options: &RestoreDatabaseOptions,
    plan: Plan,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<RestoreDatabaseReport, RestoreDatabaseError> {
    let begun = std::time::Instant::now();
    if !plan.obstacles.is_empty() {
        return Err(RestoreDatabaseError::Refused { reasons: plan.obstacles });
    }
    let tally = Tally::over(monitor);
    let feeder = feed::Feeder { reader, snapshot: options.snapshot.clone(), monitor: tally.clone(), cancel };
    let mut report = RestoreDatabaseReport::default();
    let mut left: Vec<&DatabasePlan> = plan.databases.iter().collect();
    loop {
        let begun = left.len();
        let mut failed = Vec::new();
        for &database in &left {
            let is_over = |(_, error): &(&DatabasePlan, RestoreDatabaseError)| {
                options.exit_on_error || matches!(error, RestoreDatabaseError::Cancelled { .. })
            };
            if failed.last().is_some_and(is_over) {
                report.not_begun.push(database.name.clone());
                continue;
            }
            match restore_one(&feeder, options, database).await {
                Ok(restored) => report.databases.push(restored),
                Err(error) => failed.push((database, error)),
            }
        }
        // A view of MariaDB can need a database that was restored after it.
        let may_help = matches!(options.target, DatabaseTarget::Mysql(_)) && failed.len() < begun;
        let is_client = |(_, error): &(_, _)| matches!(error, RestoreDatabaseError::Client { .. });
        if !may_help || failed.is_empty() || !failed.iter().all(is_client) || !report.not_begun.is_empty() {
            report.failed = failed.into_iter().map(|(database, error)| (database.name.clone(), error)).collect();
            break;
        }
        left = failed.into_iter().map(|(database, _)| database).collect();
    }
    report.problems = tally.take();
    report.duration = begun.elapsed();
    Ok(report)
}

async fn restore_one(
    feeder: &feed::Feeder,
    options: &RestoreDatabaseOptions,
    database: &DatabasePlan,
) -> Result<RestoredDatabase, RestoreDatabaseError> {
    feeder.monitor.phase(&format!("restoring {}", database.name));
    let restored = match &options.target {
        DatabaseTarget::Postgres(url) => postgres::restore(feeder, options, url, database).await?,
        DatabaseTarget::Mysql(url) => mysql::restore(feeder, options, url, database).await?,
        DatabaseTarget::Sqlite(file) => sqlite::restore(feeder, options, file, database).await?,
    };
    if restored.failed_statements > 0 {
        let what = if restored.failed_statements == 1 { "statement" } else { "statements" };
        let message = format!("{} {what} failed{}", restored.failed_statements, said(&restored.said));
        feeder.monitor.problem(Problem::missing(restored.name.clone(), message));
    }
    if !restored.changes.is_empty() {
        let message = format!("the server changed what it was given{}", said(&restored.changes));
        feeder.monitor.problem(Problem::suspicious(restored.name.clone(), message));
    }
    if !restored.not_carried.is_empty() {
        let message = format!("the dump did not carry these columns as they were: {}", restored.not_carried.join("; "));
        feeder.monitor.problem(Problem::suspicious(restored.name.clone(), message));
    }
    if !restored.uses_original.is_empty() {
        let (what, original) = (restored.uses_original.join(", "), &database.source);
        let message = format!("these use {original}, from which it was dumped, and not the copy: {what}");
        feeder.monitor.problem(Problem::suspicious(restored.name.clone(), message));
    }
    Ok(restored)
}
