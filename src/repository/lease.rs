//! Leases: a running operation says that it is alive, and nobody ever has to unlock anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::format::FormatError;
use crate::format::lease::{Lease, join_lease_object, split_lease_object};
use crate::model::id::SessionId;
use crate::model::key::ObjectKey;
use crate::model::time::{Clock, Timestamp};
use crate::repository::Repository;
use crate::store::StoreError;

/// How long a lease is believed after its last renewal.
pub const LEASE_SECONDS: i64 = 30 * 60;
/// How often a lease is renewed.
const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// A lease that is renewed in the background until it is released.
#[derive(Debug)]
pub struct HeldLease {
    repository: Arc<Repository>,
    session: SessionId,
    renewing: JoinHandle<()>,
}

impl HeldLease {
    /// Puts the lease of `session` and keeps renewing it.
    ///
    /// # Errors
    /// When the first put fails; later ones are tried again at the next renewal.
    pub async fn take(
        repository: Arc<Repository>,
        session: SessionId,
        mut lease: Lease,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        put(&repository, session, &mut lease, clock.now()).await?;
        let held = repository.clone();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEWAL).await;
                // A failed renewal leaves the lease valid for several more; the next one tries again.
                let _ = put(&held, session, &mut lease, clock.now()).await;
            }
        });
        Ok(Self { repository, session, renewing })
    }

    /// Returns the session that holds the lease.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Ends the lease. Where deleting is not allowed it expires by itself, so a refusal is no failure.
    pub async fn release(self) {
        self.renewing.abort();
        let _ = self.repository.store().delete(&ObjectKey::session(self.session)).await;
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn put(repository: &Repository, session: SessionId, lease: &mut Lease, now: Timestamp) -> Result<(), StoreError> {
    lease.renewed = now;
    lease.expires = Timestamp::from_seconds(now.seconds + LEASE_SECONDS);
    let dedup = repository.keys().current_dedup();
    let envelope = seal_envelope(&dedup.index_key(), repository.id(), Purpose::Lease, &session.0, &lease.encode());
    let object = join_lease_object(dedup.domain, dedup.epoch, &envelope);
    repository.store().put(&ObjectKey::session(session), object.into()).await
}

/// Opens a lease object.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_lease(repository: &Repository, session: SessionId, object: &[u8]) -> Result<Lease, FormatError> {
    let invalid = |why: String| FormatError::Invalid { what: "a lease", why };
    let (domain, epoch, envelope) = split_lease_object(object)?;
    let dedup = repository.keys().dedup(domain, epoch).ok_or_else(|| invalid("its domain is unknown".into()))?;
    let plain = open_envelope(&dedup.index_key(), repository.id(), Purpose::Lease, &session.0, envelope)
        .map_err(|error| invalid(error.to_string()))?;
    Lease::decode(&plain)
}
