//! Finding entries by name in many snapshots.

use std::sync::Arc;

use crate::model::entry::Entry;
use crate::model::snapshot::Snapshot;
use crate::ops::LookError;
use crate::ops::restore::Selection;
use crate::progress::{Counter, Monitor, Problem, Problems, Totals, chain};
use crate::repository::reader::Reader;

/// Calls `visit` with every entry of the snapshots that `wanted` names itself, snapshot by snapshot.
///
/// Returns what cannot be read of the trees.
///
/// # Errors
/// [`LookError::Tree`] when a part of a tree is out of reach; what is damaged is a problem.
pub async fn find(
    reader: &Arc<Reader>,
    snapshots: &[Snapshot],
    wanted: &Selection,
    monitor: &dyn Monitor,
    mut visit: impl FnMut(&Snapshot, &Entry),
) -> Result<Problems, LookError> {
    monitor.phase("searching");
    let entries = snapshots.iter().map(|it| it.counts.entries()).fold(0, u64::saturating_add);
    monitor.totals(Totals { entries: Some(entries), ..Totals::default() });
    let mut lost = Problems::default();
    for snapshot in snapshots {
        let mut walk = reader.walk(snapshot.root, None);
        while let Some(next) = walk.next().await {
            match next {
                Ok(entry) => {
                    monitor.add(Counter::Entries, 1);
                    if wanted.names(&entry.path, entry.is_directory()) {
                        visit(snapshot, &entry);
                    }
                }
                Err(damaged) if !damaged.error.is_damage() => return Err(damaged.error.into()),
                Err(damaged) => {
                    let subject = format!("{}: {}", snapshot.id.short(), damaged.part);
                    let problem = Problem::damaged(subject, chain(&damaged.error));
                    lost.add(problem.clone());
                    monitor.problem(problem);
                }
            }
        }
    }
    Ok(lost)
}
