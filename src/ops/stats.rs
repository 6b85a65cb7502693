//! How much a repository holds, and what deduplication and compression save.

use std::sync::Arc;

use futures::stream::StreamExt;

use crate::blocking::blocking;
use crate::model::key::ObjectKind;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{Snapshot, SnapshotCounts, SnapshotId};
use crate::ops::LookError;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshots::SnapshotError;

/// Objects of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindStats {
    /// The kind.
    pub kind: ObjectKind,
    /// How many there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a repository holds.
#[derive(Debug, Default)]
pub struct StatsReport {
    /// Objects by kind, those that are there.
    pub kinds: Vec<KindStats>,
    /// Snapshots.
    pub snapshots: u64,
    /// Snapshots that cannot be opened, with the reason.
    pub unreadable: Vec<(SnapshotId, SnapshotError)>,
    /// Bytes that restoring every snapshot would give.
    pub restored_bytes: u64,
    /// Entries in all snapshots.
    pub entries: u64,
    /// Distinct chunks, those that are stored as recipes among them.
    pub chunks: u64,
    /// Plaintext bytes of the distinct chunks that are stored plain; what recipes make consists of these.
    pub unique_bytes: u64,
    /// Bytes of everything in the store.
    pub stored_bytes: u64,
}

impl Ended for StatsReport {
    fn outcome(&self) -> Outcome {
        if self.unreadable.is_empty() { Outcome::Clean } else { Outcome::Damaged }
    }
}

/// Adds up what snapshots hold and what each added when it was made; nothing is asked of the store.
pub fn sum(snapshots: &[Snapshot]) -> SnapshotCounts {
    snapshots.iter().map(|snapshot| snapshot.counts).fold(SnapshotCounts::default(), |sum, counts| SnapshotCounts {
        files: sum.files.saturating_add(counts.files),
        directories: sum.directories.saturating_add(counts.directories),
        streams: sum.streams.saturating_add(counts.streams),
        others: sum.others.saturating_add(counts.others),
        bytes: sum.bytes.saturating_add(counts.bytes),
        new_bytes: sum.new_bytes.saturating_add(counts.new_bytes),
        stored_bytes: sum.stored_bytes.saturating_add(counts.stored_bytes),
        unreadable: sum.unreadable.saturating_add(counts.unreadable),
    })
}

/// Counts what is there: names are listed, the index and the manifests read, no data.
///
/// # Errors
/// [`LookError`] when the store cannot be listed or the index not be had.
pub async fn stats(repository: &Arc<Repository>, monitor: &dyn Monitor) -> Result<StatsReport, LookError> {
    repository.reading()?;
    let mut report = StatsReport::default();
    monitor.phase("listing objects");
    for kind in ObjectKind::ALL {
        let census = repository.census(kind).await?;
        let stats = KindStats { kind, objects: census.objects, bytes: census.bytes };
        report.stored_bytes = report.stored_bytes.saturating_add(stats.bytes);
        if stats.objects > 0 {
            report.kinds.push(stats);
        }
    }
    monitor.phase("reading snapshots");
    let mut snapshots = repository.listed_snapshots(repository.snapshot_ids().await?);
    while let Some((id, snapshot)) = snapshots.next().await {
        match snapshot {
            Ok(snapshot) if snapshot.forgotten.is_some() => {}
            Ok(snapshot) => {
                report.snapshots += 1;
                // Whoever wrote it may have written any numbers.
                report.restored_bytes = report.restored_bytes.saturating_add(snapshot.counts.bytes);
                report.entries = report.entries.saturating_add(snapshot.counts.entries());
            }
            Err(error) if error.is_damage() => report.unreadable.push((id, error)),
            Err(error) => return Err(error.into()),
        }
    }
    let index = Arc::new(Index::load(repository, monitor).await?);
    // What a clean-up deletes segments name until they are merged.
    let deleted = repository.known_cleanups().await.map_err(SnapshotError::List)?.deleting();
    monitor.phase("counting chunks");
    (report.chunks, report.unique_bytes) = blocking(move || index.content(&deleted)).await;
    Ok(report)
}
