//! Snapshots: which there are, or those that somebody names.

use std::sync::Arc;

use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::Snapshot;
use crate::progress::{Monitor, Problem, Problems, chain};
use crate::repository::Repository;
use crate::repository::choose::SnapshotFilter;
use crate::repository::sequences::{MissingSnapshot, Sequences};
use crate::repository::snapshots::SnapshotError;

/// Snapshots, and what is wrong with others.
#[derive(Debug, Clone, Default)]
pub struct SnapshotsReport {
    /// Those that were asked for, the oldest first, or in the order in which they were named.
    pub snapshots: Vec<Snapshot>,
    /// Those that would be among them if they were not forgotten, the oldest first.
    pub forgotten: Vec<Snapshot>,
    /// Those that cannot be opened, or are missing, and records of retention of which that is so.
    pub problems: Problems,
}

impl Ended for SnapshotsReport {
    fn outcome(&self) -> Outcome {
        self.problems.outcome()
    }
}

/// Returns the snapshots that `filter` accepts. One that is damaged or missing is told, and the others are returned.
///
/// # Errors
/// [`SnapshotError`] when they cannot be listed or fetched.
pub async fn snapshots(
    repository: &Arc<Repository>,
    filter: &SnapshotFilter,
    monitor: &dyn Monitor,
) -> Result<SnapshotsReport, SnapshotError> {
    monitor.phase("reading snapshots");
    let (mut report, mut sequences) = (SnapshotsReport::default(), Sequences::default());
    let (listing, opened) = repository.open_snapshots().await?;
    for (id, snapshot) in opened {
        sequences.add(id, &snapshot);
        match snapshot {
            Ok(snapshot) if filter.accepts(&snapshot) => match snapshot.forgotten {
                Some(_) => report.forgotten.push(snapshot),
                None => report.snapshots.push(snapshot),
            },
            Ok(_) => {}
            Err(error) => {
                let problem = Problem::damaged(id.to_string(), chain(&error));
                report.problems.add(problem.clone());
                monitor.problem(problem);
            }
        }
    }
    for problem in listing.retention.problems() {
        report.problems.add(problem.clone());
        monitor.problem(problem);
    }
    let judged = repository.judge_sequences(&sequences, &listing).await?;
    for (subject, message) in judged.notes {
        monitor.note(Problem::advice(subject, message));
    }
    // One of which nothing is known but its name may be any.
    let is_meant = |missing: &MissingSnapshot| {
        missing.place.as_ref().is_none_or(|(sequence, _)| filter.accepts_series(&sequence.series))
    };
    for missing in judged.missing.iter().filter(|missing| is_meant(missing)) {
        let problem = Problem::damaged(missing.subject(), missing.to_string());
        report.problems.add(problem.clone());
        monitor.problem(problem);
    }
    Ok(report)
}

/// Returns the snapshots that `texts` mean, each once, or all where there are none; of them those that `filter` accepts. What a text
/// means `find` says: [`Repository::find_snapshot`], or somebody who tells more on the way.
///
/// # Errors
/// As [`snapshots`], and what `find` says.
pub async fn named_or_all(
    repository: &Arc<Repository>,
    texts: &[String],
    filter: &SnapshotFilter,
    monitor: &dyn Monitor,
    find: impl AsyncFn(&str) -> Result<Snapshot, SnapshotError>,
) -> Result<SnapshotsReport, SnapshotError> {
    if texts.is_empty() {
        return snapshots(repository, filter, monitor).await;
    }
    let mut report = SnapshotsReport::default();
    for text in texts {
        let snapshot = find(text).await?;
        if filter.accepts(&snapshot) && report.snapshots.iter().all(|other| other.id != snapshot.id) {
            report.snapshots.push(snapshot);
        }
    }
    Ok(report)
}
