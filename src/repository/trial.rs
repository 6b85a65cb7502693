//! A trial: whether the store takes what a run would store, before one has to find out at night.
//!
//! What is stored for it is a lease, the one kind of object that every run puts first, that is no part of any snapshot, and that may be left
//! behind: it is over from the start, so whoever cleans up waits for it no moment and removes it in time. Where nothing may be deleted,
//! or is locked, one such lease of some hundred bytes stays.

use crate::format::lease::Lease;
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::{Clock, Timestamp};
use crate::repository::MAIN_DOMAIN;
use crate::repository::access::{AccessError, Writing};
use crate::repository::recheck::Altered;
use crate::repository::session::SessionError;
use crate::store::StoreError;

/// What the lease of a trial says that it does.
const OPERATION: &str = "check";

/// Why nothing would be stored.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// This key may not.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Nothing can be sealed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The lease does not open to what was sealed. It was not stored.
    #[error("what is to be stored is not as it was made: the memory or the processor of this machine is faulty")]
    Altered(#[from] Altered),
    /// The store does not take it.
    #[error("nothing can be stored")]
    Store(#[from] StoreError),
}

impl Ended for TrialError {
    fn outcome(&self) -> Outcome {
        match self {
            TrialError::Access(error) => error.outcome(),
            TrialError::Session(error) => error.outcome(),
            TrialError::Altered(_) => Outcome::Failed,
            TrialError::Store(error) => error.outcome(),
        }
    }
}

/// What a trial showed besides that the store takes objects.
#[derive(Debug)]
pub struct Trial {
    /// Whether what was stored could be removed again. Backups can do without.
    pub removed: Result<(), StoreError>,
}

impl Writing {
    /// Stores a lease that is over, in every required replica, and removes it again.
    ///
    /// # Errors
    /// [`TrialError`] when it is not taken.
    pub async fn try_out(&self, host: String, clock: Clock) -> Result<Trial, TrialError> {
        let session = self.begin_session(MAIN_DOMAIN)?;
        let now = clock.now();
        // No clock is so far behind that this has not passed.
        let expires = Timestamp::from_seconds(0);
        let operation = OPERATION.to_owned();
        let lease = Lease { host, operation, started: now, renewed: now, expires, ..Lease::default() };
        let object = session.seal_lease(&lease);
        session.check_lease(&lease, &object)?;
        let objects = self.repository().objects();
        let stored = objects.put_lease(session.id(), object).await;
        // Of several replicas some may have taken it.
        let removed = objects.remove_lease(session.id()).await;
        stored?;
        Ok(Trial { removed })
    }
}
