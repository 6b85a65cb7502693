//! What is left behind and tells nothing any more: leases of sessions that were given up, objects of snapshots that were removed,
//! verifications before a complete one, lists of cleaning up that another one tells again. Each goes when no delay and nobody who is paused can make it matter again.

use std::collections::BTreeSet;

use crate::format::verified::open_verified;
use crate::model::id::{SegmentId, SessionId};
use crate::model::time::Timestamp;
use crate::model::verified::VerifiedId;
use crate::repository::access::Deleting;
use crate::repository::cleanups::HONOURED_SECONDS;
use crate::repository::ledger::INCREMENTS_MAX;
use crate::store::StoreError;

impl Deleting {
    /// Removes leases of sessions that a list gives up whose packs are being deleted: whatever they do, their snapshots do not count,
    /// so nobody waits for them. Returns how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_leases_of_given_up(&self) -> Result<u64, StoreError> {
        let repository = self.repository();
        let leases = repository.objects().every_session().await?;
        let given_up: BTreeSet<SessionId> = repository.cleanups().await?.given_up_for_good().collect();
        for session in leases.intersection(&given_up) {
            repository.objects().remove_lease(*session).await?;
        }
        Ok(leases.intersection(&given_up).count() as u64)
    }

    /// Removes objects of snapshots that a list has named as removed for thirty days: a replica that was away, or a run that was cut
    /// off on another machine, left them. A younger list may yet be taken back by who put it. Returns how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_left_behind_snapshots(&self, now: Timestamp) -> Result<u64, StoreError> {
        let repository = self.repository();
        let listed = repository.objects().every_snapshot().await?;
        let until = Timestamp::from_seconds(now.seconds.saturating_sub(HONOURED_SECONDS));
        let cleanups = repository.cleanups().await?;
        let mut removed = 0;
        for snapshot in cleanups.removed_until(until).filter(|removed| listed.binary_search(&removed.id).is_ok()) {
            repository.objects().remove_snapshot(snapshot.id).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Returns the index segments that any replica lists.
    ///
    /// # Errors
    /// The store's.
    pub async fn every_segment(&self) -> Result<BTreeSet<SegmentId>, StoreError> {
        self.repository().objects().every_segment().await
    }

    /// Removes lists of cleaning up of which another one, that is a day old and in every required replica, tells all that still matters.
    /// Returns how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_lists_told_again(&self, now: Timestamp) -> Result<u64, StoreError> {
        let repository = self.repository();
        let everywhere = repository.objects().cleanups_everywhere().await?;
        let told = repository.cleanups().await?.told_elsewhere(now, &everywhere);
        for id in &told {
            repository.objects().remove_cleanup(*id).await?;
        }
        Ok(told.len() as u64)
    }

    /// Removes records of verifications before the newest complete one, which tells all that they did. With several replicas each has
    /// its own, and they stay. Returns how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_old_verifications(&self) -> Result<u64, StoreError> {
        let repository = self.repository();
        let mut ids = repository.objects().verified_records().await?;
        let Some(reader) = repository.keys().reader_key() else { return Ok(0) };
        if ids.len() <= INCREMENTS_MAX + 1 || repository.objects().replicas().all().len() > 1 {
            return Ok(0);
        }
        let is_complete = async |id: VerifiedId| {
            let open = |object: &bytes::Bytes| open_verified(reader, repository.id(), id, object);
            match repository.objects().verified(id, open).await {
                Ok(record) => Ok(record.is_ok_and(|record| record.is_complete)),
                Err(error) if error.kind.is_damage() => Ok(false),
                Err(error) => Err(error),
            }
        };
        while let Some(newest) = ids.pop() {
            if is_complete(newest).await? {
                break;
            }
        }
        for id in &ids {
            repository.objects().remove_verified(*id).await?;
        }
        Ok(ids.len() as u64)
    }
}
