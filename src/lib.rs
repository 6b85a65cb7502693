//! `coffre` keeps encrypted, deduplicated backups of file trees and streams in S3 buckets or a directory, restores them
//! on a bare machine, and proves that they restore.
//!
//! The way of the data, and where it is in the code:
//!
//! ```text
//!            source ──▶ chunker ──▶ repository::writer ──▶ repository::packer ──▶ repository::uploader ──▶ store
//! ops::backup  files     cut         id, claim, frame        seal into packs        packs, then index       put
//!              streams               (crypto, compress)      (format::pack)         then the snapshot
//!
//!            sink   ◀── repository::reader ◀───────────────── repository::index ◀──────────────────────── store
//! ops::restore place     open, decompress, check id            locate                                       get range
//! ```
//!
//! A program uses it as the command line does: [`store::open::open`] a location, [`repository::Repository::init`] or
//! [`repository::Repository::open`] it, then call a verb in [`ops`]. `examples/quickstart.rs` is such a program.
//!
//! [`design`] has the words, the invariants, the threat model and the memory formula; `docs/format.md` specifies every
//! stored byte.

// What cannot be written to a terminal or a pipe that has gone is dropped; these would panic.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod blocking;
pub mod cancel;
pub mod chunker;
pub mod cli;
pub mod compress;
pub mod crypto;
pub mod database;
#[doc = include_str!("design.md")]
pub mod design {}
pub mod engine;
pub mod format;
pub mod fs;
pub mod model;
pub mod ops;
pub mod process;
pub mod progress;
pub mod repository;
pub mod sink;
pub mod source;
pub mod store;
#[cfg(test)]
mod vectors;
