//! Windows: how a stream or a large file is stored as what changed since yesterday. On bytes and numbers, knowing nothing of files,
//! repositories or keys.
//!
//! ```text
//! bytes ─▶ pieces ─▶ windows ─▶ walk beside yesterday's pieces ─▶ weave: parts of older chunks, and new rows ─▶ plain or recipe
//!                                      ▲                                                                            │
//!                          blocks that yesterday left  ◀────────────── blocks for tomorrow ◀────────────────────────┘
//! ```
//!
//! Pieces end where rows end ([`pieces`]), so a row that did not change is a piece that did not change, or are pages ([`heads`]). Windows end at a piece for
//! which a small number is drawn ([`gather`]). Yesterday is known by the hashes of its pieces alone, and by where their bytes lie in chunks that are
//! stored ([`block`]); nothing here needs yesterday's plaintext. Two pieces of one hash would make a window wrong, so that key is the host's own.

pub mod block;
pub mod cover;
pub mod gather;
pub mod heads;
#[cfg(test)]
mod many_nights;
pub mod pieces;
pub mod remains;
pub mod sample;
pub mod tomorrow;
pub mod walk;
pub mod weave;
pub mod yesterday;

/// The shortest window but the last of a content, in bytes.
pub const WINDOW_MIN: usize = 2 << 20;
/// The longest window, in bytes; 4 MiB on average.
pub const WINDOW_MAX: usize = crate::format::recipe::WINDOW_MAX as usize;

/// A run of bytes that is compared as a whole: a row, mostly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashedPiece {
    /// Hash of its bytes under a key of the host.
    pub hash: u64,
    /// Its length in bytes, at most [`pieces::PIECE_MAX`].
    pub length: u32,
}
