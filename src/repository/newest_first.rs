//! Snapshots from the newest back, for whoever stops at the first that fits.
//!
//! They are opened side by side, in batches that double, so that looking far back is quick and `latest` opens one. Names tell
//! the second only: those of one second are opened together, and their manifests tell the order.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::repository::Repository;
use crate::repository::snapshots::{FETCHES, SnapshotError};

/// How far a backup looks back for earlier snapshots of its own series: with 40 jobs a night, 25 nights. Whoever finds
/// nothing there reads all files once more, which costs time and no space.
const LOOKED_BACK: usize = 1024;
/// When a snapshot began that cannot be opened: after all others of its second.
const UNKNOWN: Timestamp = Timestamp { seconds: i64::MAX, nanos: 0 };

/// Snapshots yet to come, the newest first.
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

    /// Opens the next one that counts; foreign and forgotten ones are passed over. Of those of the same second, one that cannot be
    /// opened comes first: it may be the newest.
    pub async fn next(&mut self) -> Option<(SnapshotId, Result<Snapshot, SnapshotError>)> {
        loop {
            let (id, snapshot) = self.next_of_ours().await?;
            if snapshot.as_ref().is_ok_and(|snapshot| snapshot.forgotten.is_some()) {
                continue;
            }
            return Some((id, snapshot));
        }
    }

    /// Does the same and passes over foreign ones alone.
    pub async fn next_of_ours(&mut self) -> Option<(SnapshotId, Result<Snapshot, SnapshotError>)> {
        loop {
            let (id, snapshot) = self.next_opened().await?;
            if snapshot.as_ref().is_ok_and(|snapshot| snapshot.foreign.is_some()) {
                continue;
            }
            return Some((id, snapshot));
        }
    }

    async fn next_opened(&mut self) -> Option<(SnapshotId, Result<Snapshot, SnapshotError>)> {
        // All of a batch may have been removed since.
        while self.opened.is_empty() && !self.ids.is_empty() {
            let batch = self.next_batch();
            let mut opened: Vec<_> = self.repository.listed_snapshots(batch).collect().await;
            opened.sort_by_key(|(id, snapshot)| {
                Reverse((id.time(), snapshot.as_ref().ok().map_or(UNKNOWN, |it| it.started)))
            });
            self.opened = opened.into();
            self.batch = (2 * self.batch).min(FETCHES);
        }
        self.opened.pop_front()
    }

    /// Takes the last ids, and those of the same second with them.
    fn next_batch(&mut self) -> Vec<SnapshotId> {
        let mut from = self.ids.len().saturating_sub(self.batch);
        while from > 0 && self.ids[from - 1].time() == self.ids[from].time() {
            from -= 1;
        }
        let mut batch = self.ids.split_off(from);
        batch.reverse();
        batch
    }
}
