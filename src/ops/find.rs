//! Finding entries by name in many snapshots.

use std::sync::Arc;

use crate::model::entry::Entry;
use crate::model::snapshot::Snapshot;
use crate::ops::LookError;
use crate::ops::reading::lost_part;
use crate::ops::restore::Selection;
use crate::progress::{Monitor, Problem, chain};
use crate::repository::reader::Reader;

/// Calls `visit` with every entry of the snapshots that `wanted` names itself, snapshot by snapshot.
///
/// Returns the number of parts of trees that cannot be read; each is a problem.
///
/// # Errors
/// [`LookError::Tree`] when a part of a tree is out of reach; what is damaged is a problem.
pub async fn find(
    reader: &Arc<Reader>,
    snapshots: &[Snapshot],
    wanted: &Selection,
    monitor: &dyn Monitor,
    mut visit: impl FnMut(&Snapshot, &Entry),
) -> Result<u64, LookError> {
    let mut lost = 0;
    for snapshot in snapshots {
        let mut walk = reader.walk(snapshot.root, None);
        while let Some(next) = walk.next().await {
            match next {
                Ok(entry) if wanted.names(&entry.path, entry.is_directory()) => visit(snapshot, &entry),
                Ok(_) => {}
                Err(damaged) if !damaged.error.is_damage() => return Err(damaged.error.into()),
                Err(damaged) => {
                    lost += 1;
                    let subject = format!("{}: {}", snapshot.id.short(), lost_part(&damaged));
                    monitor.problem(Problem { subject, message: chain(&damaged.error) });
                }
            }
        }
    }
    Ok(lost)
}
