//! Restoring databases: what a snapshot holds of them goes back into a running server, or into a SQLite file.
//!
//! First a [`Plan`] is made, which changes nothing and says what would be done and what stands against it; [`apply`] does it.
//! Nothing takes the name of a database before it is complete: PostgreSQL's are restored under another name and renamed at
//! the end, an existing one is renamed away and kept. MariaDB cannot rename databases; there a new one that could not be
//! completed is dropped again, and one that is replaced is first read through once, so that it is not dropped for nothing.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::database::spool::SPOOL_DIRECTORY;
use crate::engine::Engine;
use crate::engine::adaptations::Adaptations;
use crate::engine::parts::{DumpParts, some_names};
use crate::engine::place::Place;
use crate::engine::restore::{Restoring, Stored, StoredError, Wishes};
use crate::model::id::hex;
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::Cancel;
use crate::ops::dump::{DumpError, write_out};
use crate::process::said;
use crate::progress::{Monitor, Problem, Problems, Tally};
use crate::repository::reader::Reader;

mod error;
pub(crate) mod plan;

pub use crate::engine::plan::{DatabasePlan, StreamToRestore};
pub use crate::engine::restore::{Replaced, RestoredDatabase};
pub use error::RestoreDatabaseError;
pub use plan::{Plan, plan};

/// Where databases are restored into.
#[derive(Debug, Clone)]
pub struct DatabaseTarget {
    /// Whose databases.
    pub engine: Arc<dyn Engine>,
    /// The server, or the file.
    pub place: Place,
}

impl DatabaseTarget {
    /// Returns the name that the place gives to the only database which is restored there.
    pub fn new_name(&self) -> Option<String> {
        self.engine.new_name(&self.place)
    }
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
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
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
    /// What is otherwise than it was: to whom it belongs, and where it is kept.
    pub adaptations: Adaptations,
    /// Only these parts of them, perhaps into databases that are there.
    pub parts: DumpParts,
    /// Leave these extensions of PostgreSQL out, and the rows of their tables.
    pub skip_extensions: Vec<String>,
    /// Let the planner's statistics be gathered afterwards.
    pub analyze: bool,
    /// Compare the rows with those of the dump afterwards, which reads them.
    pub compare: bool,
    /// Connections that restore one database at the same time; with PostgreSQL more than one needs room in `spool`.
    pub jobs: usize,
    /// Directory for spool files; `/var/tmp` unless another is given.
    pub spool: PathBuf,
}

impl RestoreDatabaseOptions {
    /// Restores all databases in `snapshot` to `target`, one connection each, without replacing any that is there.
    pub fn new(snapshot: Snapshot, target: DatabaseTarget) -> Self {
        Self {
            snapshot,
            within: None,
            target,
            choice: Choice::All,
            in_place: false,
            exit_on_error: false,
            adaptations: Adaptations::default(),
            parts: DumpParts::default(),
            skip_extensions: Vec::new(),
            analyze: true,
            compare: true,
            jobs: 1,
            spool: SPOOL_DIRECTORY.into(),
        }
    }
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
    let restorer = Restorer { options, wishes: options.wishes(), reader, monitor: tally.clone(), cancel };
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
            match restorer.restore(database).await {
                Ok(restored) => report.databases.push(restored),
                Err(error) => failed.push((database, error)),
            }
        }
        let may_help = options.target.engine.may_need_others() && failed.len() < begun;
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

impl RestoreDatabaseOptions {
    /// Returns what an engine needs to know of them.
    fn wishes(&self) -> Wishes {
        Wishes {
            are_globals: self.choice == Choice::Globals,
            exit_on_error: self.exit_on_error,
            adaptations: self.adaptations.clone(),
            parts: self.parts.clone(),
            skip_extensions: self.skip_extensions.clone(),
            analyze: self.analyze,
            compare: self.compare,
            jobs: self.jobs,
            spool: self.spool.clone(),
        }
    }
}

/// What all databases of a restore share.
struct Restorer<'a> {
    options: &'a RestoreDatabaseOptions,
    wishes: Wishes,
    reader: Arc<Reader>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
}

impl Restorer<'_> {
    async fn restore(&self, database: &DatabasePlan) -> Result<RestoredDatabase, RestoreDatabaseError> {
        let stored = StoredInSnapshot {
            reader: self.reader.clone(),
            snapshot: self.options.snapshot.clone(),
            monitor: self.monitor.clone(),
            cancel: self.cancel.clone(),
        };
        let restoring = Restoring {
            place: &self.options.target.place,
            database,
            wishes: &self.wishes,
            unique: hex(&RandomState::new().hash_one(&database.name).to_be_bytes()[..4]),
            stored: Arc::new(stored),
            monitor: self.monitor.clone(),
            cancel: self.cancel.clone(),
        };
        restoring.phase("restoring");
        let restored = self.options.target.engine.restore(&restoring).await?;
        amiss(&restored, &database.source).into_iter().for_each(|problem| self.monitor.problem(problem));
        not_compared(&restored).into_iter().for_each(|note| self.monitor.note(note));
        Ok(restored)
    }
}

/// Tells what is not as it was in a database that was restored.
fn amiss(restored: &RestoredDatabase, original: &str) -> Vec<Problem> {
    let mut told = Vec::new();
    let name = || restored.name.clone();
    if restored.failed_statements > 0 {
        let what = if restored.failed_statements == 1 { "statement" } else { "statements" };
        // Each is told: the last lines would be what followed from the first.
        let each: String = restored.said.iter().map(|line| format!("\n    {line}")).collect();
        let message = format!("{} {what} failed:{each}", restored.failed_statements);
        told.push(Problem::missing(name(), message));
    }
    if !restored.changes.is_empty() {
        let message = format!("the server changed what it was given{}", said(&restored.changes));
        told.push(Problem::suspicious(name(), message));
    }
    if !restored.not_carried.is_empty() {
        let message = format!("the dump did not carry these columns as they were: {}", restored.not_carried.join("; "));
        told.push(Problem::suspicious(name(), message));
    }
    if let Some(compared) = restored.compared.as_ref().filter(|compared| !compared.differing.is_empty()) {
        let tables: Vec<String> = compared.differing.iter().map(ToString::to_string).collect();
        let message = format!("these rows are not those of the dump: {}", some_names(&tables));
        told.push(Problem::suspicious(name(), message));
    }
    if !restored.uses_original.is_empty() {
        let what = restored.uses_original.join(", ");
        let message = format!("these use {original}, from which it was dumped, and not the copy: {what}");
        told.push(Problem::suspicious(name(), message));
    }
    told
}

/// Tells what was not compared with the dump, and why.
fn not_compared(restored: &RestoredDatabase) -> Option<Problem> {
    let compared = restored.compared.as_ref().filter(|compared| !compared.not_compared.is_empty())?;
    let message = format!("not compared with the dump: {}", some_names(&compared.not_compared));
    Some(Problem::advice(restored.name.clone(), message))
}

/// The streams of a snapshot, as an engine gets them.
struct StoredInSnapshot {
    reader: Arc<Reader>,
    snapshot: Snapshot,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
}

impl Stored for StoredInSnapshot {
    fn write<'a>(
        &'a self,
        path: &'a EntryPath,
        output: Box<dyn Write + Send>,
    ) -> BoxFuture<'a, Result<(), StoredError>> {
        let (monitor, cancel) = (self.monitor.clone(), self.cancel.clone());
        let (reader, path) = (self.reader.clone(), Some(path.clone()));
        let dumped = write_out(reader, &self.snapshot, path, output, monitor, cancel, false);
        Box::pin(async {
            match dumped.await {
                Ok(_) => Ok(()),
                Err(DumpError::Output(error)) => Err(StoredError::Output(error)),
                Err(DumpError::Cancelled) => Err(StoredError::Cancelled),
                Err(other) => Err(StoredError::Unread(Box::new(other))),
            }
        })
    }
}
