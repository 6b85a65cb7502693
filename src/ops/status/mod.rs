//! Status: whether backups and the work on a repository are as new as they should be.
//!
//! What is stored tells it, whoever looks: snapshots when what was backed up, records of runs what failed and when the rest was
//! done, records of verifications which packs were read when. It is gathered here, and judged by functions from values to values
//! ([`series`], [`work`]), so that a page, an object and metrics are made of the same [`Status`].

use std::sync::Arc;

use futures::stream::StreamExt;

use crate::model::due::Every;
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::{RunKind, RunRecord};
use crate::model::time::{DAY_SECONDS, Timestamp};
use crate::ops::LookError;
use crate::progress::{Monitor, Problem, Problems, chain};
use crate::repository::Repository;
use crate::repository::access::Reading;
use crate::repository::choose::SnapshotFilter;
use crate::repository::runs::RunLog;
use crate::repository::sequences::Sequences;

mod series;
mod work;

pub use series::{ExpectedJob, FailedRun, Growth, LastBackup, SeriesAmiss, SeriesStatus};
pub use work::{WorkAmiss, WorkStatus};

use series::AllSeries;

/// How far back records of runs are read at least: what failed longer ago and was never tried again is overdue anyway.
const LOOKED_BACK_DAYS: i64 = 35;

/// What is expected of a repository.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct StatusOptions {
    /// The present.
    pub now: Timestamp,
    /// Which series are looked at.
    pub filter: SnapshotFilter,
    /// Jobs that there must be, and how old the last backup of each may be.
    pub jobs: Vec<ExpectedJob>,
    /// How old the last backup of any other series may be.
    pub max_age: Option<std::time::Duration>,
    /// How often what is to be done.
    pub every: Vec<(RunKind, Every)>,
    /// Of how many days is told how much of the data was read.
    pub verified_days: u32,
}

impl Default for StatusOptions {
    /// Nothing is expected; what was read in 30 days is told.
    fn default() -> Self {
        let (filter, jobs, every) = (SnapshotFilter::default(), Vec::new(), Vec::new());
        Self { now: Timestamp::from_seconds(0), filter, jobs, max_age: None, every, verified_days: 30 }
    }
}

/// How much of the data was read whole, by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedShare {
    /// Within so many days.
    pub days: u32,
    /// Bytes of packs that were read within them.
    pub verified_bytes: u64,
    /// Bytes of all packs.
    pub bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Packs that were never read.
    pub never_read: u64,
    /// When the pack was read whose reading lies back longest, among those that were read.
    pub oldest: Option<Timestamp>,
}

/// How a repository is.
#[derive(Debug, Clone)]
pub struct Status {
    /// When that was.
    pub now: Timestamp,
    /// Whether the key at hand reads nothing: then there is what this machine remembers of its own backups, and nothing else.
    pub reads_nothing: bool,
    /// Each job, and each series that has none, in order of hosts and jobs.
    pub series: Vec<SeriesStatus>,
    /// What readers do now and then, as far as it is expected or was done.
    pub work: Vec<WorkStatus>,
    /// How much was read; none where the key reads nothing.
    pub verified: Option<VerifiedShare>,
    /// Snapshots that count and are not forgotten.
    pub snapshots: u64,
    /// What is wrong with snapshots, and with records of runs.
    pub problems: Problems,
}

impl Status {
    /// Tells whether nothing is amiss with backups and work.
    pub fn is_well(&self) -> bool {
        self.series.iter().all(|it| it.amiss.is_empty()) && self.work.iter().all(|it| it.amiss.is_none())
    }
}

impl Ended for Status {
    fn outcome(&self) -> Outcome {
        let well = if self.is_well() { Outcome::Clean } else { Outcome::Incomplete };
        well.or_worse(self.problems.outcome())
    }
}

/// Looks how a repository is. A machine whose key reads nothing tells what it remembers.
///
/// # Errors
/// [`LookError`] when the store cannot be listed or something is out of reach.
pub async fn status(
    repository: &Arc<Repository>,
    options: &StatusOptions,
    monitor: &dyn Monitor,
) -> Result<Status, LookError> {
    let mut all = AllSeries::default();
    let Ok(reading) = repository.reading() else {
        repository.state().all_newest().iter().for_each(|newest| all.remembered(newest));
        return Ok(Status {
            now: options.now,
            reads_nothing: true,
            snapshots: 0,
            series: all.judge(options, &RunLog::default()),
            work: Vec::new(),
            verified: None,
            problems: Problems::default(),
        });
    };
    let mut problems = ToldProblems { problems: Problems::default(), monitor };
    add_snapshots(repository, options, &mut all, &mut problems).await?;
    monitor.phase("reading records of runs");
    let log = recent_runs(&reading, options.now).await?;
    for (key, why) in &log.odd {
        problems.add(Problem::suspicious(key.to_string(), why.clone()));
    }
    if log.is_cut_off {
        problems.add(Problem::advice("evidence/", "there are more records of runs than anybody looks at"));
    }
    let work = work::judge(&log, &options.every, options.now);
    monitor.phase("looking for earlier verifications");
    let verified = verified(repository, options).await?;
    Ok(Status {
        now: options.now,
        reads_nothing: false,
        snapshots: all.snapshots(),
        series: all.judge(options, &log),
        work,
        verified: Some(verified),
        problems: problems.problems,
    })
}

/// Returns the last run of each kind of work that was done, for whoever asks what is due.
///
/// # Errors
/// When records cannot be listed, or one is out of reach.
pub async fn last_done(reading: &Reading, now: Timestamp) -> Result<Vec<(RunKind, Option<RunRecord>)>, LookError> {
    let log = reading.runs(now, now).await?;
    Ok(RunKind::OF_READERS.into_iter().map(|kind| (kind.clone(), log.last_done(&kind).cloned())).collect())
}

async fn recent_runs(reading: &Reading, now: Timestamp) -> Result<RunLog, LookError> {
    let since = Timestamp::from_seconds(now.seconds - LOOKED_BACK_DAYS * DAY_SECONDS);
    Ok(reading.runs(now, since).await?)
}

/// Problems that are told as they are found.
struct ToldProblems<'a> {
    problems: Problems,
    monitor: &'a dyn Monitor,
}

impl ToldProblems<'_> {
    fn add(&mut self, problem: Problem) {
        self.problems.add(problem.clone());
        self.monitor.problem(problem);
    }
}

/// Goes through all snapshots, which come from the cache where it has them; few are in memory at the same time.
async fn add_snapshots(
    repository: &Arc<Repository>,
    options: &StatusOptions,
    all: &mut AllSeries,
    problems: &mut ToldProblems<'_>,
) -> Result<(), LookError> {
    problems.monitor.phase("reading snapshots");
    let (listing, mut sequences) = (repository.list_snapshots().await?, Sequences::default());
    let mut opening = repository.listed_snapshots(listing.counting.clone());
    while let Some((id, snapshot)) = opening.next().await {
        sequences.add(id, &snapshot);
        match snapshot {
            Ok(snapshot) if options.filter.accepts(&snapshot) => all.add(&snapshot, options.now),
            Ok(_) => {}
            Err(error) if error.is_damage() => problems.add(Problem::damaged(id.to_string(), chain(&error))),
            Err(error) => return Err(error.into()),
        }
    }
    listing.retention.problems().for_each(|problem| problems.add(problem));
    for missing in repository.judge_sequences(&sequences, &listing).await?.missing {
        problems.add(Problem::damaged(missing.subject(), missing.to_string()));
    }
    Ok(())
}

/// Adds up which packs were read within some days.
async fn verified(repository: &Arc<Repository>, options: &StatusOptions) -> Result<VerifiedShare, LookError> {
    let alone = repository.alone(repository.first_replica()).expect("the first replica has its own name");
    let (ledger, sizes) = (alone.ledger().await?, repository.pack_sizes().await?);
    let since = options.now.seconds - i64::from(options.verified_days) * DAY_SECONDS;
    let packs = sizes.len() as u64;
    let mut share =
        VerifiedShare { days: options.verified_days, verified_bytes: 0, bytes: 0, packs, never_read: 0, oldest: None };
    for (pack, size) in sizes {
        share.bytes = share.bytes.saturating_add(size);
        match ledger.last_read(pack) {
            Some(when) => {
                share.oldest = Some(share.oldest.map_or(when, |oldest| oldest.min(when)));
                if when.seconds >= since {
                    share.verified_bytes = share.verified_bytes.saturating_add(size);
                }
            }
            None => share.never_read += 1,
        }
    }
    Ok(share)
}
