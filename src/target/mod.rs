//! Where entries go to: a directory, one file, or a tar stream.
//!
//! Everything here blocks and is called from threads.

mod attributes;
pub mod choice;
pub mod command;
pub mod files;
pub mod names;
pub mod one_file;
pub mod partial;
pub mod tar;
mod temporary;
