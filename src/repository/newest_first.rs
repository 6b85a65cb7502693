//! Snapshots from the newest back, for whoever stops at the first that fits.
//!
//! They are opened side by side, in batches that double, so that looking far back is quick and `latest` opens one.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::repository::Repository;
use crate::repository::snapshots::{FETCHES, SnapshotError};

/// How far a backup looks back for earlier snapshots of its own series: with 40 jobs a night, 25 nights. Whoever finds
/// nothing there reads all files once more, which costs time and no space.
const LOOKED_BACK: usize = 1024;

/// Snapshots yet to come, the newest first by the second in their names.
#[derive(Debug)]
pub struct NewestFirst {
    repository: Arc<Repository>,
    /// Those not opened yet, the next one last.
    ids: Vec<SnapshotId>,
    opened: VecDeque<(SnapshotId, Result<Snapshot, SnapshotError>)>,
    batch: usize,
}

impl NewestFirst {
    /// Begins with the last of `ids`, which ascend.
    pub fn of(repository: &Arc<Repository>, ids: Vec<SnapshotId>) -> Self {
        Self { repository: repository.clone(), ids, opened: VecDeque::new(), batch: 1 }
    }

    /// Begins like [`NewestFirst::of`] and ends after a bounded number, so that a series without a past costs no more in a
    /// repository of many years.
    pub fn recent(repository: &Arc<Repository>, mut ids: Vec<SnapshotId>) -> Self {
        ids.drain(..ids.len().saturating_sub(LOOKED_BACK));
        Self::of(repository, ids)
    }

    /// Returns the id of the one that comes next, which may not be opened yet.
    pub fn next_id(&self) -> Option<SnapshotId> {
        self.opened.front().map(|(id, _)| id).or(self.ids.last()).copied()
    }

    /// Opens the next one.
    pub async fn next(&mut self) -> Option<(SnapshotId, Result<Snapshot, SnapshotError>)> {
        if self.opened.is_empty() {
            let rest = self.ids.len().saturating_sub(self.batch);
            let batch = self.ids.split_off(rest).into_iter().rev().collect();
            self.opened = self.repository.listed_snapshots(batch).collect().await;
            self.batch = (2 * self.batch).min(FETCHES);
        }
        self.opened.pop_front()
    }
}
