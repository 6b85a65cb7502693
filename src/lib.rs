//! `coffre`: an encrypted backup archiver.

pub mod chunker;
pub mod compress;
pub mod crypto;
pub mod format;
pub mod fs;
pub mod model;
pub mod ops;
pub mod progress;
pub mod repository;
pub mod source;
pub mod store;
