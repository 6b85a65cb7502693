//! Work on a repository that readers do now and then: when it was done, whether it failed since, and when it is due again.

use crate::model::due::Every;
use crate::model::outcome::Outcome;
use crate::model::run::{RunKind, RunRecord};
use crate::model::time::Timestamp;
use crate::repository::runs::RunLog;

/// How one kind of work stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkStatus {
    /// The kind.
    pub kind: RunKind,
    /// The last run that was done.
    pub last: Option<RunRecord>,
    /// The last one, if it came later and was not done.
    pub failed: Option<RunRecord>,
    /// How often it is to be done, where that is said.
    pub every: Option<Every>,
    /// From when on it is due, where that is said; what was never done is due now.
    pub due: Option<Timestamp>,
    /// What is amiss.
    pub amiss: Option<WorkAmiss>,
}

/// What is amiss with work, the worst of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkAmiss {
    /// The last verification found damage.
    FoundDamage,
    /// The last run failed.
    Failed,
    /// It was never done.
    Never,
    /// It was done too long ago.
    Overdue,
}

impl WorkAmiss {
    /// Returns its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            WorkAmiss::FoundDamage => "found damage",
            WorkAmiss::Failed => "failed",
            WorkAmiss::Never => "never",
            WorkAmiss::Overdue => "overdue",
        }
    }
}

/// Judges what is expected or was done.
pub(super) fn judge(log: &RunLog, every: &[(RunKind, Every)], now: Timestamp) -> Vec<WorkStatus> {
    let mut work = Vec::new();
    for kind in RunKind::OF_READERS {
        let every = every.iter().find(|(it, _)| *it == kind).map(|(_, every)| *every);
        let newest = log.runs.iter().find(|run| run.kind == kind);
        if every.is_none() && newest.is_none() {
            continue;
        }
        let (last, failed) = (log.last_done(&kind).cloned(), newest.filter(|run| !run.is_done()).cloned());
        let begun = last.as_ref().map(|last| last.started);
        let is_overdue = every.is_some_and(|every| every.is_overdue(begun, now));
        let amiss = if last.as_ref().is_some_and(|last| last.outcome() == Outcome::Damaged) {
            Some(WorkAmiss::FoundDamage)
        } else if failed.as_ref().is_some_and(|failed| failed.outcome() != Outcome::Incomplete) {
            Some(WorkAmiss::Failed)
        } else {
            is_overdue.then_some(if last.is_none() { WorkAmiss::Never } else { WorkAmiss::Overdue })
        };
        let due = every.map(|every| begun.map_or(now, |begun| every.due_at(begun)));
        work.push(WorkStatus { kind, last, failed, every, due, amiss });
    }
    work
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: i64 = 3600;
    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

    fn run(hours_ago: i64, outcome: Outcome) -> RunRecord {
        let ended = Timestamp::from_seconds(NOW.seconds - hours_ago * HOUR);
        RunRecord::new(RunKind::Verify, (ended, ended), "keeper".into(), outcome)
    }

    #[test]
    fn work_is_judged_by_its_last_runs() {
        // Runs from the newest back, what is amiss, in how many hours it is due.
        type Case<'a> = (&'a [(i64, Outcome)], Option<WorkAmiss>, i64);
        let cases: [Case; 8] = [
            (&[], Some(WorkAmiss::Never), 0),
            (&[(1, Outcome::Clean)], None, 20),
            (&[(30, Outcome::Clean)], None, -9),
            (&[(40, Outcome::Clean)], Some(WorkAmiss::Overdue), -19),
            (&[(1, Outcome::Unreachable), (25, Outcome::Clean)], Some(WorkAmiss::Failed), -4),
            (&[(1, Outcome::Clean), (2, Outcome::Failed)], None, 20),
            (&[(1, Outcome::Failed)], Some(WorkAmiss::Failed), 0),
            (&[(1, Outcome::Damaged)], Some(WorkAmiss::FoundDamage), 20),
        ];
        for (runs, amiss, due) in cases {
            let runs = runs.iter().map(|(ago, outcome)| run(*ago, *outcome)).collect();
            let log = RunLog { runs, ..RunLog::default() };
            let daily = [(RunKind::Verify, Every(Duration::from_secs(24 * 3600)))];
            let [status] = &judge(&log, &daily, NOW)[..] else { panic!("one is expected") };
            let in_hours = status.due.map(|due| (due.seconds - NOW.seconds) / HOUR);
            assert_eq!((status.amiss, in_hours), (amiss, Some(due)), "{log:?}");
        }
        assert_eq!(judge(&RunLog::default(), &[], NOW), [], "what nobody expects and nobody did");
    }

    #[test]
    fn a_clean_up_that_waits_is_not_done_and_has_not_failed() {
        let waiting = RunRecord { kind: RunKind::Prune, ..run(1, Outcome::Incomplete) };
        let log = RunLog { runs: vec![waiting.clone()], ..RunLog::default() };
        let [status] = &judge(&log, &[], NOW)[..] else { panic!("it ran") };
        assert_eq!((status.amiss, &status.failed, &status.last), (None, &Some(waiting), &None));
    }
}
