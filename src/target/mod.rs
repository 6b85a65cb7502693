//! Where entries go to: a directory, or a tar stream.
//!
//! Everything here blocks and is called from threads.

pub mod command;
pub mod files;
pub mod tar;
