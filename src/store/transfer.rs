//! How far the body of an object has moved, told while it moves, and when its next part may.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::key::ObjectKey;
use crate::store::pace::Pace;
use crate::store::{StoreError, StoreErrorKind};

/// Hears how far the body of one object is, in either direction, and tells when its next part may move. Clones are about the same
/// body.
///
/// One that is sent or fetched again counts on from where it was furthest, so a retry counts nothing twice; so do several
/// places that it is sent to.
#[derive(Clone)]
pub struct Transfer {
    heard: Arc<TransferHeard>,
    /// Without one nothing has to wait.
    pace: Option<Arc<Pace>>,
    digest: Option<[u8; 32]>,
}

struct TransferHeard {
    furthest: AtomicU64,
    most: u64,
    hear: Box<dyn Fn(u64) + Send + Sync>,
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("furthest", &self.heard.furthest).field("pace", &self.pace).finish()
    }
}

impl Transfer {
    /// Calls `hear` with the bytes that have moved since it was last called.
    pub fn new(hear: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self::of_at_most(u64::MAX, hear)
    }

    /// Does the same for a body that is fetched, of which no more than `most` bytes are wanted.
    pub fn of_at_most(most: u64, hear: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let hear = Box::new(hear);
        Self { heard: Arc::new(TransferHeard { furthest: AtomicU64::new(0), most, hear }), pace: None, digest: None }
    }

    /// Returns the same for a body whose SHA-256 is known.
    pub fn of_digest(&self, sha256: [u8; 32]) -> Self {
        Self { digest: Some(sha256), ..self.clone() }
    }

    /// Returns the SHA-256 of the body, where it is known: a store that needs it need not take it again.
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.digest
    }

    /// Checks the length of an object that is fetched, before memory is taken for it.
    ///
    /// # Errors
    /// [`StoreErrorKind::TooLong`] when its kind cannot be so long, or more is coming than is wanted.
    pub fn check_length(&self, key: &ObjectKey, bytes: u64) -> Result<(), StoreError> {
        StoreError::check_length(key, bytes)?;
        let most = self.heard.most;
        if bytes <= most {
            return Ok(());
        }
        let message = format!("it has {bytes} bytes, and was listed with {most}");
        Err(StoreError::new("get", key, StoreErrorKind::TooLong, message))
    }

    /// Makes one that nobody listens to.
    pub fn unheard() -> Self {
        Self::new(|_| {})
    }

    /// Returns the same where it is asked at a pace, for one attempt.
    pub(super) fn at(&self, pace: Arc<Pace>) -> Self {
        Self { pace: Some(pace), ..self.clone() }
    }

    /// Returns how many of the `most` bytes that come next are to move at once, so that the body moves evenly; 0 only where `most`
    /// is. Each part then asks [`Transfer::wait_for`].
    pub fn part(&self, most: usize) -> usize {
        self.pace.as_ref().map_or(most, |pace| pace.part(most))
    }

    /// Returns how long the next `bytes`, a part of the body, have to wait until they may move. Each part asks once. A store that
    /// does not ask is made to wait when it is done.
    pub fn wait_for(&self, bytes: u64) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.wait_for(bytes))
    }

    /// Notes that the first `bytes` of the body have moved.
    pub fn reach(&self, bytes: u64) {
        let before = self.heard.furthest.fetch_max(bytes, Ordering::Relaxed);
        if bytes > before {
            (self.heard.hear)(bytes - before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_counts_from_where_it_was_furthest() {
        let heard = Arc::new(AtomicU64::new(0));
        let hear = heard.clone();
        let transfer = Transfer::new(move |bytes| {
            hear.fetch_add(bytes, Ordering::Relaxed);
        });
        let again = transfer.clone();
        for (transfer, bytes, total) in
            [(&transfer, 10, 10), (&transfer, 70, 70), (&again, 10, 70), (&again, 80, 80), (&transfer, 80, 80)]
        {
            transfer.reach(bytes);
            assert_eq!(heard.load(Ordering::Relaxed), total);
        }
    }
}
