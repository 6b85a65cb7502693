//! Targets, where entries go to: a directory, one file, a tar stream, or a program's standard input.
//!
//! The folder is not called `target` because cargo's build folder is: the stock ignore file for Rust hides every folder of
//! that name.
//!
//! Everything here blocks and is called from threads.

mod attributes;
pub mod choice;
pub mod command;
pub mod error;
pub mod files;
pub mod names;
pub mod one_file;
pub mod partial;
pub mod tar;
pub mod target;
mod temporary;
