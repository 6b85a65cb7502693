//! What happens: one file for each verb of the command line, callable from any program.
//!
//! An operation takes an open repository, its options and a [`Monitor`](crate::progress::Monitor), and returns a report.
//! It prints nothing. Where data would be deleted or overwritten, deciding (`plan`) and doing (`apply`) are apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub mod backup;
pub mod diff;
pub mod dump;
pub mod find;
pub mod init;
pub mod ls;
mod reading;
pub mod restore;
pub mod restore_database;
pub mod stats;
pub mod verify;

pub use reading::{LookError, open_reader};

/// How often a task that waits looks whether ending was asked for.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// Asks a running operation to end cleanly; shared by whoever may ask and whoever must listen.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks to end. Work under way is finished or dropped; nothing half done becomes visible.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells whether ending was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until ending is asked for, to be raced with what may take long.
    pub async fn asked(&self) {
        while !self.is_cancelled() {
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }
}
