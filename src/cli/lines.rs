//! Lines on standard output, gathered so that a million entries are not a million writes, until nobody reads any more.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

use crate::cli::output;

/// Gathered lines.
#[derive(Default)]
pub struct Lines {
    gathered: RefCell<Vec<u8>>,
    is_unread: Cell<bool>,
    unread: Notify,
}

impl Lines {
    /// Adds a line.
    pub fn push(&self, line: &str) {
        self.add(output::visible(line).as_bytes());
        self.add(b"\n");
    }

    /// Adds bytes that need be neither a whole line nor text.
    pub fn add(&self, bytes: &[u8]) {
        if self.is_unread.get() {
            return;
        }
        let mut gathered = self.gathered.borrow_mut();
        gathered.extend_from_slice(bytes);
        if gathered.len() > 1 << 16 {
            drop(gathered);
            self.flush();
        }
    }

    /// Writes what is gathered.
    pub fn flush(&self) {
        if !output::write(&self.gathered.take()) {
            self.is_unread.set(true);
            self.unread.notify_one();
        }
    }

    /// Returns what `work` does, which adds lines; nothing once they cannot be written any more, and then `work` is dropped.
    pub async fn while_read<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.unread.notified() => None,
            done = work => Some(done),
        }
    }
}
