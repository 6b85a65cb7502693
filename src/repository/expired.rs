//! Which snapshots cleaning up may remove: those that were forgotten longer ago than the grace time, and are not held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt;

use crate::model::cleanup::RemovedSnapshot;
use crate::model::hold::Hold;
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;
use crate::repository::access::Deleting;
use crate::repository::retention::{Retention, RetentionError};
use crate::repository::snapshots::SnapshotError;
use crate::store::StoreError;

/// How long a forgotten snapshot can be brought back, unless somebody says otherwise: three days.
pub const GRACE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Forgotten snapshots, as of when records of retention were read.
#[derive(Debug, Clone, Default)]
pub struct Expired {
    /// Those that may be removed, as key 10 of a list of cleaning up names them.
    pub snapshots: Vec<RemovedSnapshot>,
    /// Those that can be brought back until the time beside them.
    pub waiting: Vec<(SnapshotId, Timestamp)>,
    /// Those that are held.
    pub held: Vec<(SnapshotId, Hold)>,
    /// Those whose name is another object's by now, which nobody forgot.
    pub exchanged: Vec<SnapshotId>,
}

/// Why it is not known which snapshots may be removed.
#[derive(Debug, thiserror::Error)]
pub enum ExpiredError {
    /// Records of retention could not be read.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// A record is missing or damaged: it might hold or bring back any snapshot.
    #[error("{key}: {why}")]
    Doubt {
        /// The record, or where it should be.
        key: ObjectKey,
        /// What is the matter.
        why: String,
    },
    /// What there is could not be listed.
    #[error("the snapshots could not be listed")]
    List(#[source] StoreError),
    /// A snapshot is out of reach.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Ended for ExpiredError {
    fn outcome(&self) -> Outcome {
        match self {
            ExpiredError::Retention(error) => error.outcome(),
            ExpiredError::Doubt { .. } => Outcome::Damaged,
            ExpiredError::List(error) => error.outcome(),
            ExpiredError::Snapshot(error) => error.outcome(),
        }
    }
}

impl Deleting {
    /// Reads records of retention and returns the forgotten snapshots that are listed and not gone. Whoever removes some **must** put
    /// the list that names them (key 10) first, and ask for [`Deleting::kept_meanwhile`] when that is durable.
    ///
    /// # Errors
    /// [`ExpiredError`]; any doubt about a record is one.
    pub async fn expired(&self, now: Timestamp, grace: Duration) -> Result<Expired, ExpiredError> {
        let repository = self.repository();
        let retention = self.certain_retention().await?;
        let cleanups = repository.cleanups().await.map_err(ExpiredError::List)?;
        let listed = repository.objects().every_snapshot().await.map_err(ExpiredError::List)?;
        let is_there =
            |id: SnapshotId| listed.binary_search(&id).is_ok() && !cleanups.is_gone(&ObjectKey::snapshot(id));
        let mut expired = Expired::default();
        let mut over = Vec::new();
        for (removed, forgotten) in retention.all_forgotten().filter(|(removed, _)| is_there(removed.id)) {
            let until = bring_back_until(removed.id, forgotten.when, grace);
            match retention.hold(removed.id).filter(|hold| hold.is_in_force(now)) {
                Some(hold) => expired.held.push((removed.id, hold.clone())),
                None if now < until => expired.waiting.push((removed.id, until)),
                None => over.push(*removed),
            }
        }
        let mut by_id: BTreeMap<SnapshotId, Vec<RemovedSnapshot>> = BTreeMap::new();
        over.into_iter().for_each(|removed| by_id.entry(removed.id).or_default().push(removed));
        let mut opening = repository.listed_snapshots(by_id.keys().copied().collect());
        while let Some((id, opened)) = opening.next().await {
            let is_other = |removed: &RemovedSnapshot| {
                opened.as_ref().is_ok_and(|snapshot| snapshot.digest != Some(removed.digest))
            };
            let (others, forgotten): (Vec<_>, Vec<_>) = by_id[&id].iter().copied().partition(is_other);
            match opened {
                Err(error) if !error.is_damage() => return Err(error.into()),
                // It was forgotten, whatever became of it since.
                _ => {
                    expired.exchanged.extend(others.into_iter().map(|removed| removed.id));
                    expired.snapshots.extend(forgotten);
                }
            }
        }
        Ok(expired)
    }

    /// Reads records of retention anew and returns those of `snapshots` that may not be removed, or not yet: they were brought back or
    /// are held. Whoever removes some **must** ask when the list that names them is durable, and take it back for those: whoever
    /// brings one back reads lists behind the record, so one of the two sees the other.
    ///
    /// # Errors
    /// [`ExpiredError`]; any doubt about a record is one.
    pub async fn kept_meanwhile(
        &self,
        snapshots: &[RemovedSnapshot],
        now: Timestamp,
        grace: Duration,
    ) -> Result<Vec<RemovedSnapshot>, ExpiredError> {
        let retention = self.certain_retention().await?;
        let is_kept = |removed: &&RemovedSnapshot| {
            let is_held = retention.hold(removed.id).is_some_and(|hold| hold.is_in_force(now));
            let forgotten = retention.forgotten(removed.id, removed.digest);
            is_held || forgotten.is_none_or(|it| now < bring_back_until(removed.id, it.when, grace))
        };
        Ok(snapshots.iter().filter(is_kept).copied().collect())
    }

    /// Reads records of retention, of which nothing may be missing.
    async fn certain_retention(&self) -> Result<Arc<Retention>, ExpiredError> {
        let retention = self.retention().await?;
        match retention.doubts().first() {
            Some((key, why)) => Err(ExpiredError::Doubt { key: key.clone(), why: why.clone() }),
            None => Ok(retention),
        }
    }
}

/// Returns until when a snapshot that was forgotten at some time can be brought back. A clock that was wrong then does not end it
/// before the snapshot was made.
pub fn bring_back_until(id: SnapshotId, when: Timestamp, grace: Duration) -> Timestamp {
    let from = when.seconds.max(id.time().seconds);
    Timestamp::from_seconds(from.saturating_add(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)))
}
