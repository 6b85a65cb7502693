//! Records of runs: what ran, where, when and how it ended, as far as nothing else that is stored tells it.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::outcome::Outcome;
use crate::model::record::record_id;
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;

record_id!(
    /// Names a record of a run, by the second of the run's end.
    RunId
);

impl RunId {
    /// Reads what [`RunId::to_bytes`] made.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(SnapshotId::from_bytes(bytes))
    }
}

/// How many days a record stays at least. What has no newer one by then is as if it had never been done.
pub const RUN_STAYS_DAYS: i64 = 400;
/// The longest reason that a record has, in bytes.
const WHY_MAX: usize = 2000;

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunKind {
    /// A backup.
    Backup,
    /// Retention.
    Forget,
    /// Cleaning up.
    Prune,
    /// A verification.
    Verify,
    /// What a newer program does.
    Other(String),
}

impl RunKind {
    /// Those that readers alone do, and that a repository needs now and then.
    pub const OF_READERS: [RunKind; 3] = [RunKind::Forget, RunKind::Prune, RunKind::Verify];

    /// Returns its name in records, which is that of the command.
    pub fn name(&self) -> &str {
        match self {
            RunKind::Backup => "backup",
            RunKind::Forget => "forget",
            RunKind::Prune => "prune",
            RunKind::Verify => "verify",
            RunKind::Other(name) => name,
        }
    }

    /// Returns what is called `name`.
    pub fn of_name(name: &str) -> Self {
        let known = [RunKind::Backup, RunKind::Forget, RunKind::Prune, RunKind::Verify];
        known.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| RunKind::Other(name.to_owned()))
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts of runs that have a name in records.
pub mod count {
    /// Bytes that were read of what is stored.
    pub const BYTES_READ: &str = "bytes-read";
    /// Bytes of packs that were deleted.
    pub const BYTES_FREED: &str = "bytes-freed";
    /// Findings of damage.
    pub const FINDINGS: &str = "findings";
    /// Packs that were read whole, or deleted.
    pub const PACKS: &str = "packs";
    /// Snapshots that were forgotten, removed, or looked at.
    pub const SNAPSHOTS: &str = "snapshots";
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// What ran.
    pub kind: RunKind,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Host that it ran on; of a backup the one whose data it was.
    pub host: String,
    /// The job of a backup, empty when none was named.
    pub job: String,
    /// Version of the program.
    pub program: String,
    /// Exit code.
    pub exit_code: u8,
    /// How it ended, by the name of an [`Outcome`].
    pub outcome: String,
    /// Why it failed, if it did.
    pub why: String,
    /// Of a backup that made no snapshot because nothing changed, the one that stands for it.
    pub snapshot: Option<SnapshotId>,
    /// What it counted, by [names](count).
    pub counts: BTreeMap<String, u64>,
    /// The record that the same machine put before, with the SHA-256 of its object.
    pub before: Option<(RunId, [u8; 32])>,
}

impl RunRecord {
    /// Takes what there is to say of any run.
    pub fn new(kind: RunKind, (started, finished): (Timestamp, Timestamp), host: String, outcome: Outcome) -> Self {
        Self {
            kind,
            started,
            finished,
            host,
            job: String::new(),
            program: String::new(),
            exit_code: 0,
            outcome: outcome.name().to_owned(),
            why: String::new(),
            snapshot: None,
            counts: BTreeMap::new(),
            before: None,
        }
    }

    /// Says why it failed, in as many bytes as a record has for that.
    pub fn failed_by(&mut self, why: &str) {
        let end = (0..=why.len().min(WHY_MAX)).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
        self.why = why[..end].to_owned();
    }

    /// Returns how it ended; what a newer program calls so is a failure.
    pub fn outcome(&self) -> Outcome {
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == self.outcome).unwrap_or(Outcome::Failed)
    }

    /// Tells whether what was to be done was done, whatever came out of it: a verification that finds damage is done.
    pub fn is_done(&self) -> bool {
        match (&self.kind, self.outcome()) {
            (_, Outcome::Clean) | (RunKind::Verify, Outcome::Damaged) => true,
            // A clean-up that still waits for backups has not deleted.
            (kind, Outcome::Incomplete) => *kind != RunKind::Prune,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_and_what_is_not_known_keeps_its_own() {
        for name in ["backup", "forget", "prune", "verify", "drill"] {
            assert_eq!(RunKind::of_name(name).name(), name);
        }
        assert_eq!(RunKind::of_name("drill"), RunKind::Other("drill".into()));
    }

    #[test]
    fn what_counts_as_done_depends_on_what_ran() {
        let done = |kind, outcome| RunRecord::new(kind, <_>::default(), String::new(), outcome).is_done();
        for kind in [RunKind::Backup, RunKind::Forget, RunKind::Prune, RunKind::Verify] {
            assert!(done(kind.clone(), Outcome::Clean) && !done(kind.clone(), Outcome::Failed), "{kind}");
            assert_eq!(done(kind.clone(), Outcome::Incomplete), kind != RunKind::Prune, "{kind}");
            assert_eq!(done(kind.clone(), Outcome::Damaged), kind == RunKind::Verify, "{kind}");
        }
        let mut newer = RunRecord::new(RunKind::Verify, <_>::default(), String::new(), Outcome::Clean);
        newer.outcome = "postponed".into();
        assert!(!newer.is_done());
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let mut record = RunRecord::new(RunKind::Backup, <_>::default(), String::new(), Outcome::Failed);
        record.failed_by(&"é".repeat(WHY_MAX));
        assert_eq!(record.why, "é".repeat(WHY_MAX / 2));
        record.failed_by(&format!("x{}", "é".repeat(WHY_MAX)));
        assert_eq!(record.why.len(), WHY_MAX - 1);
    }
}
