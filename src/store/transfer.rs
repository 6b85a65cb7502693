//! How far the body of an object has moved, told while it moves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hears how far the body of one object is, in either direction. Clones are about the same body.
///
/// One that is sent or fetched again counts on from where it was furthest, so a retry counts nothing twice; so do several
/// places that it is sent to.
#[derive(Clone)]
pub struct Transfer(Arc<Inner>);

struct Inner {
    furthest: AtomicU64,
    hear: Box<dyn Fn(u64) + Send + Sync>,
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transfer").field(&self.0.furthest).finish()
    }
}

impl Transfer {
    /// Calls `hear` with the bytes that have moved since it was last called.
    pub fn new(hear: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { furthest: AtomicU64::new(0), hear: Box::new(hear) }))
    }

    /// Makes one that nobody listens to.
    pub fn unheard() -> Self {
        Self::new(|_| {})
    }

    /// Notes that the first `bytes` of the body have moved.
    pub fn reach(&self, bytes: u64) {
        let before = self.0.furthest.fetch_max(bytes, Ordering::Relaxed);
        if bytes > before {
            (self.0.hear)(bytes - before);
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
