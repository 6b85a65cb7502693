//! Signs of life: whether a store that was asked for something has lately answered, or moved a piece of a body.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// The signs of life that a store gives, noted by the store and read by whoever tells people what is waited for. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Signs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Requests that are under way.
    requests: usize,
    /// Signs so far.
    count: u64,
    /// When there was the last one, or when the first of these requests began.
    last: Option<Instant>,
}

/// What the signs say at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// How many there were so far.
    pub count: u64,
    /// For how long there was none although something was asked for.
    pub silence: Duration,
}

impl Signs {
    /// Notes that something was asked for, as long as what is returned lives.
    pub fn request(&self) -> Request {
        let mut state = self.state();
        if state.requests == 0 {
            state.last = Some(Instant::now());
        }
        state.requests += 1;
        Request(self.clone())
    }

    /// Notes a sign: an answer, or a piece that moved.
    pub fn note(&self) {
        let mut state = self.state();
        state.count += 1;
        state.last = Some(Instant::now());
    }

    /// Returns what they say now.
    pub fn seen(&self) -> Seen {
        let state = self.state();
        let since = state.last.filter(|_| state.requests > 0);
        Seen { count: state.count, silence: since.map_or(Duration::ZERO, |since| since.elapsed()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }
}

/// A request is under way.
#[derive(Debug)]
#[must_use]
pub struct Request(Signs);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.state().requests -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_is_silent_only_while_it_is_asked() {
        let (signs, second) = (Signs::default(), Duration::from_secs(1));
        signs.note();
        tokio::time::sleep(second * 60).await;
        assert_eq!(signs.seen(), Seen { count: 1, silence: Duration::ZERO }, "nobody asks");
        let first = signs.request();
        tokio::time::sleep(second * 5).await;
        let another = signs.request();
        assert_eq!(signs.seen().silence, second * 5, "asking is no sign");
        signs.note();
        tokio::time::sleep(second).await;
        assert_eq!(signs.seen(), Seen { count: 2, silence: second });
        drop(first);
        assert_eq!(signs.seen().silence, second, "nor is giving up");
        drop(another);
        assert_eq!(signs.seen().silence, Duration::ZERO);
    }
}
