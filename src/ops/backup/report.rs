//! What a backup did, as its caller gets it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::{Anomaly, MissingStream, Snapshot, SnapshotCounts, SnapshotId};
use crate::progress::{Problem, Problems, chain};
use crate::source::SourceError;

/// A stream that failed, and why.
#[derive(Debug, Clone)]
pub struct FailedStream {
    /// The path it would have had, or the database when that was not known.
    pub name: String,
    /// Why it failed.
    pub source: Arc<SourceError>,
}

impl FailedStream {
    /// Says why it failed, with all causes, in one line.
    pub fn why(&self) -> String {
        chain(&*self.source)
    }
}

/// What the snapshot tells of it.
impl From<&FailedStream> for MissingStream {
    fn from(failed: &FailedStream) -> Self {
        Self { name: failed.name.clone(), why: failed.why() }
    }
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot; `None` in a dry run and when nothing changed.
    pub snapshot: Option<Snapshot>,
    /// The parent, which is the snapshot to use when no other was made because nothing changed.
    pub parent: Option<SnapshotId>,
    /// The snapshot before this one in its sequence and its number, as far as this machine remembers.
    pub previous: Option<(SnapshotId, u64)>,
    /// Whether no snapshot was made because nothing changed.
    pub is_skipped: bool,
    /// Of what was stored, directory trees and index.
    pub tree_bytes: u64,
    /// What the run counted.
    pub counts: SnapshotCounts,
    /// Regular files that were taken over unread.
    pub unchanged_files: u64,
    /// Regular files that changed while they were read; what was read is kept, and the next run reads them again.
    pub changed_while_read: u64,
    /// What is to be looked at: anomalies, streams that do not carry all values as they are, roots of which only the symbolic link was
    /// stored, and a clock that is wrong.
    pub suspicious: Vec<Problem>,
    /// What the snapshot is flagged for.
    pub anomalies: Vec<Anomaly>,
    /// What was left out because of [`WalkOptions::left_out`](crate::source::files::WalkOptions::left_out).
    pub left_out: Vec<EntryPath>,
    /// Streams that failed while the others were kept.
    pub missing: Vec<FailedStream>,
    /// What was told of: all of the above, and advice.
    pub problems: Problems,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Ended for BackupReport {
    fn outcome(&self) -> Outcome {
        let is_whole = self.counts.unreadable == 0 && self.changed_while_read == 0 && self.suspicious.is_empty();
        match (self.missing.is_empty(), is_whole) {
            (false, _) => Outcome::FailedDump,
            (true, false) => Outcome::Incomplete,
            (true, true) => Outcome::Clean,
        }
    }
}
