//! What the snapshot before was flagged for, and what this one is: a flag stays until what it is for is over, or somebody accepts it.

use crate::model::snapshot::{Anomaly, SnapshotId};
use crate::ops::backup::anomalies::standing;
use crate::ops::backup::remembered::Subjects;
use crate::progress::{Monitor, Problem};
use crate::repository::state::Newest;

/// What the snapshot before was flagged for.
#[derive(Debug, Default)]
pub(super) struct Flagged {
    by: Option<SnapshotId>,
    anomalies: Vec<Anomaly>,
}

impl Flagged {
    /// Returns what the newest snapshot of the sequence was flagged for.
    pub(super) fn by(newest: Option<Newest>) -> Self {
        newest.map_or_else(Self::default, |newest| Self { by: Some(newest.id), anomalies: newest.anomalies })
    }

    /// Tells whether it was flagged.
    pub(super) fn is_any(&self) -> bool {
        !self.anomalies.is_empty()
    }
}

/// What is odd about a run.
#[derive(Debug)]
pub(super) struct Odd {
    /// What its snapshot is flagged for.
    pub(super) anomalies: Vec<Anomaly>,
    /// What it would be flagged for, were it not accepted.
    accepted: Vec<Anomaly>,
}

impl Odd {
    /// Puts together what a run noticed and what was noticed before; all of it is accepted if `accepts`.
    pub(super) fn of(
        noticed: Vec<Anomaly>,
        flagged: &Flagged,
        has_measure: impl Fn(&str) -> bool,
        accepts: bool,
    ) -> Self {
        let all = standing(noticed, flagged.by, &flagged.anomalies, has_measure);
        match accepts {
            true => Self { anomalies: Vec::new(), accepted: all },
            false => Self { anomalies: all, accepted: Vec::new() },
        }
    }

    /// Returns what is flagged, by its name.
    pub(super) fn flagged(&self) -> Subjects {
        self.anomalies.iter().map(|it| it.subject.clone()).collect()
    }

    /// Returns what is accepted, by its name.
    pub(super) fn accepted(&self) -> Subjects {
        self.accepted.iter().map(|it| it.subject.clone()).collect()
    }

    /// Says what is accepted.
    pub(super) fn tell_accepted(&self, monitor: &dyn Monitor) {
        for it in &self.accepted {
            monitor.problem(Problem::advice(it.subject.clone(), format!("accepted: {}", it.told())));
        }
    }
}
