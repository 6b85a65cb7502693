//! The window: batches start only a bounded distance ahead of the one whose turn it is.

use std::sync::{Condvar, Mutex};

/// Batches that may be under way or finished before their turn: bounds what waits behind one large file.
const BATCHES_AHEAD: u64 = 64;

/// Lets batches start only a bounded distance ahead of the one whose turn it is.
#[derive(Debug, Default)]
pub(super) struct BatchWindow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    turn: u64,
    closed: bool,
}

impl BatchWindow {
    /// Waits until batch `number` may start; `false` when nothing may start any more.
    pub(super) fn enter(&self, number: u64) -> bool {
        let mut state = self.state.lock().expect("no panic while held");
        while number >= state.turn + BATCHES_AHEAD && !state.closed {
            state = self.changed.wait(state).expect("no panic while held");
        }
        !state.closed
    }

    /// Says that it is the turn of batch `turn`.
    pub(super) fn advance(&self, turn: u64) {
        self.state.lock().expect("no panic while held").turn = turn;
        self.changed.notify_all();
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.state.lock().expect("no panic while held").closed = true;
        self.changed.notify_all();
    }
}
