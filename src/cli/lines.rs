//! Lines on standard output, gathered so that a million entries are not a million writes, until nobody reads any more. What is shown
//! of the work meanwhile stands beside them.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cli::output;
use crate::cli::progress::ConsoleMonitor;

/// A line is on the terminal this soon, however few follow it.
const SEEN_WITHIN: Duration = Duration::from_millis(200);

/// Gathered lines.
pub struct Lines<'a> {
    monitor: &'a ConsoleMonitor,
    gathered: RefCell<Vec<u8>>,
    is_unread: Cell<bool>,
    unread: Notify,
}

impl<'a> Lines<'a> {
    /// Begins a result, beside what `monitor` goes on to show where that disturbs nobody.
    pub fn beside(monitor: &'a ConsoleMonitor) -> Self {
        monitor.begin_result();
        Self { monitor, gathered: RefCell::default(), is_unread: Cell::new(false), unread: Notify::new() }
    }

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
    fn flush(&self) {
        let gathered = self.gathered.take();
        if gathered.is_empty() {
            return;
        }
        let mut is_written = false;
        self.monitor.print_result(|| is_written = output::write(&gathered));
        if !is_written {
            self.is_unread.set(true);
            self.unread.notify_one();
        }
    }

    /// Writes what is gathered, and shows nothing more beside it.
    pub fn finish(&self) {
        self.flush();
        self.monitor.finish();
    }

    /// Returns what `work` does, which adds lines; nothing once they cannot be written any more, and then `work` is dropped.
    pub async fn while_read<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let shown = async {
            while stdout().is_terminal() {
                tokio::time::sleep(SEEN_WITHIN).await;
                self.flush();
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = self.unread.notified() => None,
            done = work => Some(done),
            never = shown => never,
        }
    }
}
