//! Deleting packs: only those that a durable list says are being deleted, and only in time.

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::{DomainId, PackId};
use crate::model::time::Timestamp;
use crate::repository::access::Deleting;
use crate::repository::cleanups::HONOURED_SECONDS;
use crate::repository::damaged::TellError;
use crate::store::StoreError;

/// How long a list is acted upon: half as long as it is honoured.
const ACTED_UPON_SECONDS: i64 = HONOURED_SECONDS / 2;

/// Tells whether what was found out at a time may not be acted upon any more by `now`.
pub fn was_too_long_ago(found_out: Timestamp, now: Timestamp) -> bool {
    now.seconds.saturating_sub(found_out.seconds) > ACTED_UPON_SECONDS
}

/// Packs deleted at the same time.
const DELETES: usize = 8;

/// Packs of which a list that is durable says that they are being deleted.
#[derive(Debug)]
pub struct CondemnedPacks {
    packs: Vec<PackId>,
    doomed: Timestamp,
}

impl CondemnedPacks {
    /// Tells whether the list that doomed them first is too old to be acted upon.
    pub fn are_too_late(&self, now: Timestamp) -> bool {
        was_too_long_ago(self.doomed, now)
    }
}

impl Deleting {
    /// Puts the last list of a clean-up, which says that its packs are being deleted; a list of the time `doomed` was the first to
    /// doom them.
    ///
    /// # Errors
    /// [`TellError`]; nothing may be deleted then.
    pub async fn condemn(
        &self,
        domain: DomainId,
        id: CleanupId,
        list: CleanupList,
        doomed: Timestamp,
    ) -> Result<CondemnedPacks, TellError> {
        let list = CleanupList { is_deleting: true, ..list };
        self.writing().put_list(domain, id, &list).await?;
        Ok(CondemnedPacks { packs: list.packs, doomed })
    }

    /// Deletes packs, calling `deleted` for each, unless it is too late by `now`: then none is.
    ///
    /// # Errors
    /// The store's for the first that it does not delete; others may be gone by then.
    pub async fn delete_packs(
        &self,
        condemned: CondemnedPacks,
        now: Timestamp,
        mut deleted: impl FnMut(PackId),
    ) -> Result<(), StoreError> {
        if condemned.are_too_late(now) {
            return Ok(());
        }
        let deletes = stream::iter(condemned.packs).map(|pack| async move {
            self.repository().objects().remove_pack(pack).await?;
            Ok(pack)
        });
        let mut deletes = deletes.buffer_unordered(DELETES);
        while let Some(pack) = deletes.try_next().await? {
            deleted(pack);
        }
        Ok(())
    }
}
