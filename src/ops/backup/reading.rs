//! Reading that may never come back: a dead network or FUSE mount keeps a thread in the kernel, where nothing reaches it.
//!
//! Threads say when they ask the source for something. A run that is to end waits for them only so long, and then ends without
//! them; nothing they still do is of consequence, because no snapshot is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ops::Cancel;

/// How often a run that is to end looks for threads that are still reading.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks in a row that find one before the run ends without it: two seconds, where a read takes milliseconds.
const LOOKS: u32 = 20;

/// Counts the threads that wait for an answer of the source.
#[derive(Debug, Clone, Default)]
pub(super) struct ThreadsReading(Arc<AtomicUsize>);

impl ThreadsReading {
    /// Asks the source for something.
    pub(super) fn during<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        let answer = ask();
        self.0.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Waits until ending was asked for and a thread has been waiting for the source ever since.
    pub(super) async fn is_stuck(&self, cancel: &Cancel) {
        cancel.asked().await;
        let mut looks = 0;
        while looks < LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            looks = if self.0.load(Ordering::Relaxed) > 0 { looks + 1 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_to_end_gives_up_on_a_read_that_hangs_and_on_nothing_else() {
        let (reading, cancel) = (ThreadsReading::default(), Cancel::default());
        let long = Duration::from_secs(3600);
        assert!(tokio::time::timeout(long, reading.is_stuck(&cancel)).await.is_err(), "nobody asked to end");
        cancel.cancel();
        assert_eq!(reading.during(|| 7), 7);
        assert!(tokio::time::timeout(long, reading.is_stuck(&cancel)).await.is_err(), "no read is under way");
        reading.0.fetch_add(1, Ordering::Relaxed);
        assert!(tokio::time::timeout(long, reading.is_stuck(&cancel)).await.is_ok());
    }
}
