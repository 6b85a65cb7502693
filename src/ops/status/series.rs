//! Backups, job by job: when each was made last, whether that is long ago, what failed since, and what each adds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::outcome::Outcome;
use crate::model::run::{RunKind, RunRecord};
use crate::model::series::Series;
use crate::model::snapshot::{Anomaly, Snapshot, SnapshotCounts, SnapshotId};
use crate::model::time::{DAY_SECONDS, Timestamp};
use crate::ops::status::StatusOptions;
use crate::repository::runs::RunLog;
use crate::repository::state::Newest;

/// A job that there must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedJob {
    /// Its name.
    pub job: String,
    /// How old its last backup may be.
    pub max_age: Option<Duration>,
}

/// A backup that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastBackup {
    /// Its snapshot.
    pub id: SnapshotId,
    /// When it began.
    pub started: Timestamp,
    /// What it counted, and when it ended; a machine that reads nothing knows neither.
    pub ended: Option<(Timestamp, SnapshotCounts)>,
    /// What it is flagged for.
    pub anomalies: Vec<Anomaly>,
}

impl LastBackup {
    fn of(snapshot: &Snapshot) -> Self {
        let (ended, anomalies) = (Some((snapshot.finished, snapshot.counts)), snapshot.anomalies.clone());
        Self { id: snapshot.id, started: snapshot.started, ended, anomalies }
    }
}

/// A run that made no good snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRun {
    /// When it began.
    pub started: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

/// What a series added to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// In the last 7 days, in bytes.
    pub week_bytes: u64,
    /// In the last 30 days, in bytes.
    pub month_bytes: u64,
}

/// How one job or series stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesStatus {
    /// Host, job and sources; of a job of which there is no backup its name alone.
    pub series: Series,
    /// Snapshots that count and are not forgotten.
    pub snapshots: u64,
    /// The last good backup.
    pub last: Option<LastBackup>,
    /// When a run found nothing changed since, if one did.
    pub unchanged: Option<Timestamp>,
    /// The last run, if it came later and made no good backup.
    pub failed: Option<FailedRun>,
    /// What it added.
    pub growth: Growth,
    /// How long ago the last good backup began, or the last run that found nothing changed.
    pub age: Option<Duration>,
    /// How long ago that may be.
    pub max_age: Option<Duration>,
    /// What is amiss.
    pub amiss: Vec<SeriesAmiss>,
}

/// What is amiss with a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesAmiss {
    /// There is no good backup.
    Never,
    /// The last good backup is too old.
    TooOld,
    /// The last run failed.
    Failed,
    /// The last backup was flagged: it is odd beside earlier ones, and nobody has accepted it.
    Suspicious,
}

impl SeriesAmiss {
    /// Returns its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            SeriesAmiss::Never => "never",
            SeriesAmiss::TooOld => "too old",
            SeriesAmiss::Failed => "failed",
            SeriesAmiss::Suspicious => "suspicious",
        }
    }
}

/// What is known of a series so far.
#[derive(Debug, Clone, Default)]
struct Known {
    snapshots: u64,
    last: Option<LastBackup>,
    /// The newest one that is not complete: when, and what is missing.
    incomplete: Option<(Timestamp, String)>,
    growth: Growth,
}

impl Known {
    fn newest(&self) -> Option<Timestamp> {
        let incomplete = self.incomplete.as_ref().map(|(when, _)| *when);
        self.last.as_ref().map(|last| last.started).max(incomplete)
    }
}

/// All series, while snapshots are added in any order.
#[derive(Debug, Default)]
pub(super) struct AllSeries(BTreeMap<Series, Known>);

impl AllSeries {
    /// Adds a snapshot. One that does not count or is forgotten says nothing, nor does one that is dated ahead.
    pub(super) fn add(&mut self, snapshot: &Snapshot, now: Timestamp) {
        if snapshot.foreign.is_some() || snapshot.forgotten.is_some() || snapshot.started.is_ahead_of(now) {
            return;
        }
        let known = self.0.entry(Series::of(snapshot)).or_default();
        known.snapshots += 1;
        let age_days = now.seconds.saturating_sub(snapshot.started.seconds) / DAY_SECONDS;
        for (days, bytes) in [(7, &mut known.growth.week_bytes), (30, &mut known.growth.month_bytes)] {
            if age_days < days {
                *bytes = bytes.saturating_add(snapshot.counts.stored_bytes);
            }
        }
        if snapshot.is_complete() {
            if known.last.as_ref().is_none_or(|last| last.started < snapshot.started) {
                known.last = Some(LastBackup::of(snapshot));
            }
        } else if known.incomplete.as_ref().is_none_or(|(when, _)| *when < snapshot.started) {
            let missing: Vec<String> = snapshot.missing.iter().map(|it| format!("{}: {}", it.name, it.why)).collect();
            known.incomplete = Some((snapshot.started, missing.join("; ")));
        }
    }

    /// Adds what this machine remembers of a backup that it made.
    pub(super) fn remembered(&mut self, newest: &Newest) {
        let known = self.0.entry(newest.sequence.series.clone()).or_default();
        let started = newest.id.time();
        if newest.is_complete {
            let anomalies = newest.anomalies.clone();
            known.last = Some(LastBackup { id: newest.id, started, ended: None, anomalies });
        } else {
            known.incomplete = Some((started, String::new()));
        }
    }

    /// Returns how many snapshots were added that count.
    pub(super) fn snapshots(&self) -> u64 {
        self.0.values().map(|known| known.snapshots).sum()
    }

    /// Judges each series. Of a job that changed its sources, the newest of them counts for all.
    pub(super) fn judge(self, options: &StatusOptions, log: &RunLog) -> Vec<SeriesStatus> {
        let mut jobs: BTreeMap<(String, String), (Series, Known)> = BTreeMap::new();
        let mut judged = Vec::new();
        for (series, mut known) in self.0 {
            if series.job.is_empty() {
                judged.push((series, known));
                continue;
            }
            match jobs.entry((series.host.clone(), series.job.clone())) {
                std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert((series, known))),
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let (other, before) = entry.get_mut();
                    if before.newest() < known.newest() {
                        std::mem::swap(before, &mut known);
                        *other = series;
                    }
                    before.take_over(&known);
                }
            }
        }
        judged.extend(jobs.into_values());
        for expected in &options.jobs {
            let is_wanted = options.filter.jobs.is_empty() || options.filter.jobs.contains(&expected.job);
            if is_wanted && judged.iter().all(|(series, _)| series.job != expected.job) {
                let series = Series { host: String::new(), job: expected.job.clone(), sources: Vec::new() };
                judged.push((series, Known::default()));
            }
        }
        let mut judged: Vec<_> = judged.into_iter().map(|(series, known)| known.judge(series, options, log)).collect();
        judged.sort_by(|one, other| one.series.cmp(&other.series));
        judged
    }
}

impl Known {
    /// Takes over what an older series of the same job counted.
    fn take_over(&mut self, older: &Known) {
        self.snapshots += older.snapshots;
        self.growth.week_bytes = self.growth.week_bytes.saturating_add(older.growth.week_bytes);
        self.growth.month_bytes = self.growth.month_bytes.saturating_add(older.growth.month_bytes);
        if self.last.is_none() {
            self.last.clone_from(&older.last);
        }
    }

    fn judge(self, series: Series, options: &StatusOptions, log: &RunLog) -> SeriesStatus {
        let is_of = |run: &&RunRecord| {
            let is_host = series.host.is_empty() || run.host == series.host;
            run.kind == RunKind::Backup && is_host && run.job == series.job
        };
        let unchanged = |run: &&RunRecord| run.is_done() && run.snapshot == self.last.as_ref().map(|last| last.id);
        let unchanged = log.runs.iter().filter(is_of).find(unchanged).map(|run| run.started);
        let good = self.last.as_ref().map(|last| last.started).max(unchanged);
        let failed = log.runs.iter().filter(is_of).find(|run| !run.is_done()).map(|run| FailedRun {
            started: run.started,
            outcome: run.outcome(),
            why: run.why.clone(),
        });
        let incomplete = self.incomplete.map(|(started, why)| FailedRun { started, outcome: Outcome::FailedDump, why });
        let failed = failed.into_iter().chain(incomplete).max_by_key(|attempt| attempt.started);
        let failed = failed.filter(|failed| good.is_none_or(|good| failed.started > good));
        let expected = options.jobs.iter().find(|expected| !series.job.is_empty() && expected.job == series.job);
        let max_age = expected.and_then(|expected| expected.max_age).or(options.max_age);
        let age = good.map(|good| options.now.since(good));
        let mut amiss = Vec::new();
        if good.is_none() {
            amiss.push(SeriesAmiss::Never);
        }
        if age.zip(max_age).is_some_and(|(age, max_age)| age > max_age) {
            amiss.push(SeriesAmiss::TooOld);
        }
        if failed.is_some() {
            amiss.push(SeriesAmiss::Failed);
        }
        if self.last.as_ref().is_some_and(|last| !last.anomalies.is_empty()) {
            amiss.push(SeriesAmiss::Suspicious);
        }
        let Self { snapshots, last, growth, .. } = self;
        SeriesStatus { series, snapshots, last, unchanged, failed, growth, age, max_age, amiss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::anomaly::AnomalyKind;
    use crate::model::author::Author;
    use crate::model::id::{DomainEpoch, DomainId, SessionId};
    use crate::model::snapshot::MissingStream;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);
    const HOUR: i64 = 3600;

    fn hours_ago(hours: i64) -> Timestamp {
        Timestamp::from_seconds(NOW.seconds - hours * HOUR)
    }

    fn snapshot(host: &str, job: &str, source: &str, hours: i64) -> Snapshot {
        let (started, at) = (hours_ago(hours), DomainEpoch { domain: DomainId([3; 16]), epoch: 1 });
        let id = SnapshotId::new(started, [hours as u8; 8]);
        Snapshot {
            started,
            finished: started,
            host: host.into(),
            job: job.into(),
            sources: vec![source.into()],
            counts: SnapshotCounts { stored_bytes: 10, ..SnapshotCounts::default() },
            ..Snapshot::blank(id, SessionId([2; 16]), at, Author::Reader)
        }
    }

    fn run(job: &str, hours: i64, outcome: Outcome) -> RunRecord {
        let at = hours_ago(hours);
        RunRecord { job: job.into(), ..RunRecord::new(RunKind::Backup, (at, at), "db1".into(), outcome) }
    }

    fn judged(snapshots: &[Snapshot], runs: Vec<RunRecord>) -> Vec<SeriesStatus> {
        let mut all = AllSeries::default();
        snapshots.iter().for_each(|snapshot| all.add(snapshot, NOW));
        let expected = |job: &str, hours: u64| {
            let max_age = Some(Duration::from_secs(hours * 3600));
            ExpectedJob { job: job.into(), max_age }
        };
        let options = StatusOptions { now: NOW, jobs: vec![expected("nightly", 26)], ..StatusOptions::default() };
        all.judge(&options, &RunLog { runs, ..RunLog::default() })
    }

    #[test]
    fn a_job_is_judged_by_its_last_good_backup_and_by_what_came_after_it() {
        use SeriesAmiss::{Failed, Never, Suspicious, TooOld};
        let nightly = |hours| snapshot("db1", "nightly", "/srv", hours);
        let missing = MissingStream { name: "shop.sql".into(), why: "no server".into() };
        let incomplete = Snapshot { missing: vec![missing], ..nightly(1) };
        let odd = Anomaly { kind: AnomalyKind::Random, subject: "/srv".into(), why: "odd".into(), since: None };
        let flagged = |hours| Snapshot { anomalies: vec![odd.clone()], ..nightly(hours) };
        let cases: [(&[Snapshot], Vec<RunRecord>, &[SeriesAmiss]); 13] = [
            (&[], vec![], &[Never]),
            (&[], vec![run("nightly", 1, Outcome::Failed)], &[Never, Failed]),
            (&[nightly(1)], vec![], &[]),
            (&[nightly(27), nightly(51)], vec![], &[TooOld]),
            (&[nightly(2)], vec![run("nightly", 1, Outcome::FailedDump)], &[Failed]),
            (&[nightly(1)], vec![run("nightly", 2, Outcome::FailedDump)], &[]),
            (&[nightly(2)], vec![run("hourly", 1, Outcome::FailedDump)], &[]),
            (&[nightly(2), incomplete.clone()], vec![], &[Failed]),
            (std::slice::from_ref(&incomplete), vec![], &[Never, Failed]),
            (&[snapshot("db1", "nightly", "/srv", -1000)], vec![], &[Never]),
            (&[flagged(1), nightly(25)], vec![], &[Suspicious]),
            (&[flagged(25), nightly(1)], vec![], &[]),
            (&[flagged(27)], vec![run("nightly", 1, Outcome::Failed)], &[TooOld, Failed, Suspicious]),
        ];
        for (snapshots, runs, amiss) in cases {
            let [status] = &judged(snapshots, runs)[..] else { panic!("one job") };
            assert_eq!(status.amiss, amiss, "{status:?}");
        }
        let [status] = &judged(&[nightly(2), incomplete], vec![])[..] else { panic!("one job") };
        assert_eq!(status.failed.as_ref().map(|failed| &*failed.why), Some("shop.sql: no server"));
    }

    #[test]
    fn a_run_that_found_nothing_changed_is_as_good_as_a_backup() {
        let old = snapshot("db1", "nightly", "/srv", 60);
        let mut unchanged = run("nightly", 2, Outcome::Clean);
        unchanged.snapshot = Some(old.id);
        let [status] = &judged(std::slice::from_ref(&old), vec![unchanged.clone()])[..] else { panic!("one job") };
        assert_eq!((&*status.amiss, status.unchanged), (&[][..], Some(hours_ago(2))));
        // Since another snapshot than that.
        unchanged.snapshot = Some(SnapshotId::new(NOW, [9; 8]));
        let [status] = &judged(&[old], vec![unchanged])[..] else { panic!("one job") };
        assert_eq!(status.amiss, [SeriesAmiss::TooOld]);
    }

    #[test]
    fn a_job_that_changed_its_sources_is_one_and_what_has_no_job_is_many() {
        let snapshots = [
            snapshot("db1", "nightly", "/old", 500),
            snapshot("db1", "nightly", "/srv", 3),
            snapshot("db2", "nightly", "/srv", 60),
            snapshot("db1", "", "/etc", 700),
            snapshot("db1", "", "/home", 800),
        ];
        let all = judged(&snapshots, vec![]);
        let told: Vec<_> = all
            .iter()
            .map(|it| {
                (&*it.series.host, &*it.series.job, it.series.sources[0].as_slice(), it.snapshots, it.amiss.len())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("db1", "", &b"/etc"[..], 1, 0),
                ("db1", "", b"/home", 1, 0),
                ("db1", "nightly", b"/srv", 2, 0),
                ("db2", "nightly", b"/srv", 1, 1),
            ]
        );
        assert_eq!(all[2].growth, Growth { week_bytes: 10, month_bytes: 20 });
    }
}
