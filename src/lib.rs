//! `coffre`: an encrypted backup archiver.

pub mod fs;
pub mod model;
pub mod progress;
pub mod source;
pub mod store;
