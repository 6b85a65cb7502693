//! `coffre`: an encrypted backup archiver.

pub mod crypto;
pub mod format;
pub mod model;
pub mod progress;
pub mod store;
