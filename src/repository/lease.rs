//! Leases: a running operation says that it is alive, and nobody ever has to unlock anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::format::FormatError;
pub use crate::format::lease::Lease;
use crate::format::object::LEASE;
use crate::model::author::Author;
use crate::model::id::SessionId;
use crate::model::key::ObjectKey;
use crate::model::time::{Clock, Timestamp};
use crate::repository::Repository;
use crate::repository::session::Session;
use crate::store::{StoreError, StoreErrorKind};

/// How long a lease is believed after its last renewal.
pub const LEASE_SECONDS: i64 = 30 * 60;
/// How often a lease is renewed.
const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// How long a run waits at its end until its lease is deleted.
const RELEASE: Duration = Duration::from_secs(10);

/// A lease that is renewed in the background until it is released.
#[derive(Debug)]
pub struct HeldLease {
    session: Arc<Session>,
    clock: Clock,
    /// Second at which the lease ends as of its last renewal; `i64::MIN` once it ended before it was renewed.
    expires: Arc<AtomicI64>,
    index_segments: Arc<AtomicU64>,
    renewing: JoinHandle<()>,
}

impl HeldLease {
    /// Puts the lease of `session` and keeps renewing it.
    ///
    /// # Errors
    /// When the first put fails; later ones are tried again at the next renewal.
    pub async fn take(session: Arc<Session>, mut lease: Lease, clock: Clock) -> Result<Self, StoreError> {
        put(&session, &mut lease, clock.now()).await?;
        let held = session.clone();
        let expires = Arc::new(AtomicI64::new(lease.expires.seconds));
        let (renewed, index_segments) = (expires.clone(), Arc::new(AtomicU64::new(lease.index_segments)));
        let noted = index_segments.clone();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEWAL).await;
                let now = clock.now();
                lease.index_segments = noted.load(Ordering::Relaxed);
                // A failed renewal leaves the lease valid for several more; the next one tries again.
                if put(&session, &mut lease, now).await.is_ok() {
                    let lapsed = renewed.load(Ordering::Relaxed) < now.seconds;
                    renewed.store(if lapsed { i64::MIN } else { lease.expires.seconds }, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { session: held, clock, expires, index_segments, renewing })
    }

    /// Notes how many index segments the session saw, for the next renewal to tell.
    pub fn note_index_segments(&self, count: u64) {
        self.index_segments.store(count, Ordering::Relaxed);
    }

    /// Tells whether the lease has been valid without a gap until now. Cleaning up waits for such a session only.
    pub fn was_kept(&self) -> bool {
        self.expires.load(Ordering::Relaxed) >= self.clock.now().seconds
    }

    /// Ends the lease. Where deleting is not allowed, or takes long, it expires by itself: that is no failure, and nothing to wait
    /// for.
    pub async fn release(self) {
        self.renewing.abort();
        let _ =
            tokio::time::timeout(RELEASE, self.session.repository().objects().remove_lease(self.session.id())).await;
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn put(session: &Session, lease: &mut Lease, now: Timestamp) -> Result<(), StoreError> {
    lease.renewed = now;
    lease.expires = Timestamp::from_seconds(now.seconds + LEASE_SECONDS);
    let object = session.seal_lease(lease);
    session.check_lease(lease, &object).map_err(|altered| {
        let message = format!("{altered}: the memory or the processor of this machine is faulty");
        StoreError::new("put", ObjectKey::session(session.id()), StoreErrorKind::Other, message)
    })?;
    session.repository().objects().put_lease(session.id(), object).await
}

/// Opens a lease object; returns who wrote it as well.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_lease(repository: &Repository, session: SessionId, object: &[u8]) -> Result<(Author, Lease), FormatError> {
    let opened = repository.keys().open_for_writers(LEASE, &session.0, object)?;
    Ok((opened.author, Lease::decode(opened.value())?))
}
