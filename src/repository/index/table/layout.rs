//! Where what stands in a table: its header and its sections.

use std::io;
use std::ops::Range;

use crate::crypto::session::SESSION_HEADER_LEN;
use crate::model::id::{ChunkKey, SegmentId};

const MARK: &[u8; 8] = b"coffreT\x06";
/// Mark, six numbers, checksum, and room.
pub(super) const HEADER_LEN: usize = 96;
/// Where the checksum stands in the header: that of what stands before it, and of all sums.
pub(super) const CHECKSUM_AT: usize = 56;
pub(super) const CHECKSUM_LEN: usize = blake3::OUT_LEN;
/// Bytes with a sum of their own, a page of them.
pub(super) const SUMMED_LEN: usize = 4096;
/// Enough to notice an accident.
pub(super) const SUM_LEN: usize = 8;
pub(super) const PACK_LEN: usize = 112;
pub(super) const FRAME_LEN: usize = 20;
pub(super) const BLOCK_LEN: usize = 64;
pub(super) const KEY_LEN: usize = ChunkKey::LEN;
pub(super) const PLACE_LEN: usize = 12;
/// Chunks for each filter block of 512 bits: 10.2 bits a chunk, about 1 % false positives.
pub(super) const CHUNKS_A_BLOCK: usize = 50;
/// Bytes written, or read to be summed up, at once.
pub(super) const BUFFER_LEN: usize = 1 << 18;

/// Numbers of items and where each section starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) segments: usize,
    pub(super) sessions: usize,
    pub(super) packs: usize,
    pub(super) frames: usize,
    pub(super) blocks: usize,
    pub(super) chunks: usize,
}

impl Layout {
    pub(super) fn segments_at(&self) -> usize {
        HEADER_LEN
    }
    pub(super) fn sessions_at(&self) -> usize {
        self.segments_at() + self.segments * SegmentId::LEN
    }
    pub(super) fn packs_at(&self) -> usize {
        self.sessions_at() + self.sessions * SESSION_HEADER_LEN
    }
    pub(super) fn frames_at(&self) -> usize {
        self.packs_at() + self.packs * PACK_LEN
    }
    pub(super) fn filter_at(&self) -> usize {
        (self.frames_at() + self.frames * FRAME_LEN).next_multiple_of(BLOCK_LEN)
    }
    pub(super) fn keys_at(&self) -> usize {
        self.filter_at() + self.blocks * BLOCK_LEN
    }
    pub(super) fn places_at(&self) -> usize {
        self.keys_at() + self.chunks * KEY_LEN
    }
    pub(super) fn sums_at(&self) -> usize {
        self.places_at() + self.chunks * PLACE_LEN
    }
    pub(super) fn len(&self) -> usize {
        self.sums_at() + self.summed() * SUM_LEN
    }

    /// Returns how many sums there are.
    pub(super) fn summed(&self) -> usize {
        self.sums_at().div_ceil(SUMMED_LEN)
    }

    /// Returns what the sum of that number is of: the same bytes of every page, but for the header and the sums themselves.
    pub(super) fn summed_bytes(&self, number: usize) -> Range<usize> {
        (number * SUMMED_LEN).max(HEADER_LEN)..((number + 1) * SUMMED_LEN).min(self.sums_at())
    }

    /// The sections that are written side by side.
    pub(super) fn sections(&self) -> [usize; 4] {
        [self.segments_at(), self.filter_at(), self.keys_at(), self.places_at()]
    }

    /// Returns the header's checksum of itself and of the sums.
    pub(super) fn checksum(&self, sums: &[u8]) -> blake3::Hash {
        blake3::Hasher::new().update(&self.encode()[..CHECKSUM_AT]).update(sums).finalize()
    }

    fn numbers(&self) -> [usize; 6] {
        [self.segments, self.sessions, self.packs, self.frames, self.blocks, self.chunks]
    }

    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MARK);
        for (slot, number) in bytes[8..CHECKSUM_AT].chunks_exact_mut(8).zip(self.numbers()) {
            slot.copy_from_slice(&(number as u64).to_le_bytes());
        }
        bytes
    }

    /// Reads a header; `len` is the length of the whole file.
    pub(super) fn decode(bytes: &[u8], len: usize) -> Option<Self> {
        let header = bytes.get(..HEADER_LEN)?;
        if &header[..8] != MARK {
            return None;
        }
        let number = |i: usize| {
            let value = u64::from_le_bytes(header[8 + 8 * i..16 + 8 * i].try_into().expect("8 bytes"));
            usize::try_from(value).ok().filter(|&value| value < 1 << 40)
        };
        let layout = Self {
            segments: number(0)?,
            sessions: number(1)?,
            packs: number(2)?,
            frames: number(3)?,
            blocks: number(4)?,
            chunks: number(5)?,
        };
        (layout.len() == len).then_some(layout)
    }
}

/// Returns the sum of what is summed up together.
pub(super) fn sum(bytes: &[u8]) -> [u8; SUM_LEN] {
    blake3::hash(bytes).as_bytes()[..SUM_LEN].try_into().expect("8 of 32 bytes")
}

pub(super) fn not_a_table() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an index table")
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
