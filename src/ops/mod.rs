//! What happens: one file for each verb of the command line, callable from any program.
//!
//! Backing up, restoring and verifying take an open repository, options, a [`Monitor`](crate::progress::Monitor) and a [`Cancel`],
//! and return a report. Those that look into snapshots take a reader instead ([`open_reader`]), what to look at, and a monitor.
//! None of them prints anything. Where data would be deleted or overwritten, deciding (`plan`) and doing (`apply`) are apart.

pub mod backup;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod holdings;
pub mod init;
pub mod ls;
pub mod prune;
pub mod reach;
mod reading;
pub mod restore;
pub mod restore_database;
pub mod salvage;
pub mod snapshots;
pub mod stats;
pub mod status;
pub mod to_directory;
pub mod verify;

pub use crate::cancel::Cancel;
pub use reading::{LookError, open_reader};
