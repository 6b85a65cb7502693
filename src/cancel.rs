//! Asking a running operation to end: shared by whoever may ask and by all who must listen, the waits in the store included.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// Asks a running operation to end cleanly; shared by whoever may ask and whoever must listen.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<watch::Sender<Option<Instant>>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }
}

impl Cancel {
    /// Asks to end. Work under way is finished or dropped; nothing half done becomes visible.
    pub fn cancel(&self) {
        self.0.send_if_modified(|since| match since {
            Some(_) => false,
            None => {
                *since = Some(Instant::now());
                true
            }
        });
    }

    /// Tells whether ending was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Tells since when ending is asked for.
    pub fn since(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits until ending is asked for, to be raced with what may take long.
    pub async fn asked(&self) {
        let waited = self.0.subscribe().wait_for(Option::is_some).await.map(|_| ());
        waited.expect("the sender is in self");
    }

    /// Waits for `work`, but no longer than until ending is asked for: `None` says that it was, and `work` was dropped.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if self.is_cancelled() {
            return None;
        }
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.asked() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_hear_it_whenever_they_began_to() {
        let cancel = Cancel::default();
        assert!(!cancel.is_cancelled() && cancel.since().is_none());
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.asked().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
        let first = cancel.since().expect("asked");
        waiting.await.expect("no panic");
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
        assert_eq!(cancel.since(), Some(first), "asking again changes nothing");
        cancel.asked().await;
    }
}
