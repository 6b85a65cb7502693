//! What verifications found damaged, told to writers: a list of each domain dooms these packs, so that no backup relies on them and
//! the next ones store again what their sources still have (`docs/format.md`, section 13).
//!
//! Nothing is deleted because of it, and nobody reads less: what is whole in such a pack is read as before. There is one list of a
//! domain at a time, which has all its damaged packs and names the one before as gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::{DomainId, PackId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::Timestamp;
use crate::repository::access::Writing;
use crate::repository::cleanups::Cleanups;
use crate::repository::recheck::Altered;
use crate::repository::session::SessionError;
use crate::store::StoreError;

/// Times that a list is made anew because another one got the same number.
const ATTEMPTS: usize = 3;
/// Packs on a list, at most: 16 MiB.
const PACKS_MAX: usize = 1 << 20;

/// What a verification has to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DamagedPacks {
    /// Packs that it found damaged, by the domains that index segments place them in.
    pub found: BTreeMap<DomainId, BTreeSet<PackId>>,
    /// Packs that were found damaged before and that it read whole and found right.
    pub right: BTreeSet<PackId>,
}

/// Why writers could not be told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// The keyring does not have the domain.
    #[error("the keyring does not have domain {0}")]
    NoDomain(DomainId),
    /// No list can be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What it told is not known, so nothing can be told behind it.
    #[error("{0} cannot be opened")]
    Unreadable(ObjectKey),
    /// The list does not open to what was sealed. It was not stored.
    #[error("the list is not as it was made: the memory or the processor of this machine is faulty")]
    Altered(#[from] Altered),
    /// The store does not list, give or take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ended for TellError {
    fn outcome(&self) -> Outcome {
        match self {
            TellError::NoDomain(_) => Outcome::Missing,
            TellError::Session(error) => error.outcome(),
            TellError::Unreadable(_) => Outcome::Damaged,
            TellError::Altered(_) => Outcome::Failed,
            TellError::Store(error) => error.outcome(),
        }
    }
}

impl Writing {
    /// Puts a list of a domain, sealed in its newest epoch; durable on return.
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn put_list(&self, domain: DomainId, id: CleanupId, list: &CleanupList) -> Result<(), TellError> {
        let repository = self.repository();
        let name = repository.keys().name_of(domain).ok_or(TellError::NoDomain(domain))?;
        let session = self.begin_session(name)?;
        let object = session.seal_cleanup(id, list);
        session.check_cleanup(id, list, &object)?;
        Ok(repository.objects().put_cleanup(id, object).await?)
    }

    /// Tells writers which packs are damaged, and which are right again. Returns the lists that were stored: none where all of that
    /// was told before.
    ///
    /// # Errors
    /// [`TellError`]; of several domains some may have been told by then.
    pub async fn tell_damaged(&self, news: &DamagedPacks, now: Timestamp) -> Result<Vec<CleanupId>, TellError> {
        let mut cleanups = self.repository().cleanups().await?;
        let domains: BTreeSet<DomainId> = news.found.keys().copied().chain(cleanups.domains_with_damage()).collect();
        let mut stored = Vec::new();
        for domain in domains {
            let found = news.found.get(&domain).cloned().unwrap_or_default();
            stored.extend(self.tell_domain(&mut cleanups, domain, &found, &news.right, now).await?);
        }
        Ok(stored)
    }

    async fn tell_domain(
        &self,
        cleanups: &mut Arc<Cleanups>,
        domain: DomainId,
        found: &BTreeSet<PackId>,
        right: &BTreeSet<PackId>,
        now: Timestamp,
    ) -> Result<Option<CleanupId>, TellError> {
        let repository = self.repository();
        let mut stored = None;
        for _ in 0..ATTEMPTS {
            if stored.is_some() {
                *cleanups = repository.cleanups().await?;
            }
            if let Some((key, _)) = cleanups.damaged().first() {
                return Err(TellError::Unreadable(key.clone()));
            }
            let is_alone = |id: &CleanupId| !cleanups.is_shared(domain, id.counter);
            if stored.as_ref().is_some_and(is_alone) {
                break;
            }
            let (known, gone) = cleanups.found_damaged_in(domain);
            let packs: BTreeSet<PackId> = known.union(found).filter(|pack| !right.contains(pack)).copied().collect();
            if packs == known && stored.is_none() {
                break;
            }
            let (id, before) = cleanups.behind_newest(domain);
            let list = CleanupList {
                made: Timestamp::from_seconds(now.seconds),
                packs: packs.into_iter().take(PACKS_MAX).collect(),
                gone,
                before,
                is_of_damage: true,
                ..CleanupList::default()
            };
            self.put_list(domain, id, &list).await?;
            stored = Some(id);
        }
        Ok(stored)
    }
}
