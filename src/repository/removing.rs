//! Removing snapshots: a list of cleaning up names them (key 10), and only then their objects go.

use crate::model::cleanup::{CleanupId, RemovedSnapshot};
use crate::model::id::DomainId;
use crate::model::key::ObjectKey;
use crate::repository::MAIN_DOMAIN;
use crate::repository::access::Deleting;
use crate::repository::damaged::TellError;
use crate::store::StoreError;

/// Snapshots that a list of ours removes.
#[derive(Debug, Clone)]
pub struct Removal {
    /// The list.
    pub list: CleanupId,
    /// All that it names.
    pub named: Vec<RemovedSnapshot>,
    /// Those of them whose objects are still there.
    pub there: Vec<RemovedSnapshot>,
}

impl Deleting {
    /// Returns the domain whose lists name the snapshots that are removed: any will do.
    ///
    /// # Errors
    /// [`TellError`] when its keys are not at hand.
    pub fn domain_of_removals(&self) -> Result<DomainId, TellError> {
        Ok(self.writing().begin_session(MAIN_DOMAIN)?.at().domain)
    }

    /// Returns what those of `lists` remove that are there and that no other names as gone, and those that are neither: a listing
    /// may lag.
    ///
    /// # Errors
    /// When lists or snapshots cannot be listed, or a list is out of reach.
    pub async fn removals(&self, lists: &[CleanupId]) -> Result<(Vec<Removal>, Vec<CleanupId>), StoreError> {
        let cleanups = self.repository().cleanups().await?;
        let listed = self.repository().objects().every_snapshot().await?;
        let is_there = |removed: &&RemovedSnapshot| listed.binary_search(&removed.id).is_ok();
        let of_list = |list: &CleanupId| {
            let named = cleanups.removed_by(*list)?.to_vec();
            let there = named.iter().filter(is_there).copied().collect();
            Some(Removal { list: *list, named, there })
        };
        let removals: Vec<Removal> = lists.iter().filter_map(of_list).collect();
        let is_seen = |list: &CleanupId| removals.iter().any(|removal| removal.list == *list);
        let unseen = lists.iter().filter(|list| !is_seen(list) && !cleanups.is_gone(&ObjectKey::cleanup(**list)));
        let unseen = unseen.copied().collect();
        Ok((removals, unseen))
    }

    /// Removes the object of a snapshot that a durable list names, after it was asked once more whether somebody keeps it
    /// ([`Deleting::kept_meanwhile`]).
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_snapshot(&self, removed: &RemovedSnapshot) -> Result<(), StoreError> {
        self.repository().objects().remove_snapshot(removed.id).await
    }
}
