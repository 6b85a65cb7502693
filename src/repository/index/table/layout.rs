//! Where what stands in a table: its sections, its header, and the checksum over them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::crypto::session::SESSION_HEADER_LEN;
use crate::model::id::{ChunkKey, SegmentId};

const MARK: &[u8; 8] = b"coffreT\x04";
/// Mark, six numbers, checksum, and room.
pub(super) const HEADER_LEN: usize = 96;
/// Where the checksum stands in the header.
pub(super) const SUM_AT: usize = 56;
pub(super) const SUM_LEN: usize = blake3::OUT_LEN;
pub(super) const PACK_LEN: usize = 112;
pub(super) const FRAME_LEN: usize = 20;
pub(super) const BLOCK_LEN: usize = 64;
pub(super) const KEY_LEN: usize = ChunkKey::LEN;
pub(super) const PLACE_LEN: usize = 12;
/// Chunks for each filter block of 512 bits: 10.2 bits a chunk, about 1 % false positives.
pub(super) const CHUNKS_A_BLOCK: usize = 50;
/// Bytes written, or read to be compared with the checksum, at once.
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
    pub(super) fn len(&self) -> usize {
        self.places_at() + self.chunks * PLACE_LEN
    }

    /// The sections that are written side by side, each with a checksum of its own.
    pub(super) fn sections(&self) -> [Range<usize>; 4] {
        let borders = [self.segments_at(), self.filter_at(), self.keys_at(), self.places_at(), self.len()];
        std::array::from_fn(|i| borders[i]..borders[i + 1])
    }

    /// Returns the checksum of a table from those of its sections.
    pub(super) fn checksum(&self, sections: [blake3::Hash; 4]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.encode()[..SUM_AT]);
        for section in sections {
            hasher.update(section.as_bytes());
        }
        hasher.finalize()
    }

    fn numbers(&self) -> [usize; 6] {
        [self.segments, self.sessions, self.packs, self.frames, self.blocks, self.chunks]
    }

    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MARK);
        for (slot, number) in bytes[8..SUM_AT].chunks_exact_mut(8).zip(self.numbers()) {
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

/// Compares a file with the checksum in it.
pub(super) fn is_whole(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let len = usize::try_from(metadata.len()).map_err(|_| not_a_table())?;
    if !metadata.is_file() || len < HEADER_LEN {
        return Ok(false);
    }
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)?;
    let Some(layout) = Layout::decode(&header, len) else { return Ok(false) };
    let mut buffer = vec![0; BUFFER_LEN];
    let mut sections = [blake3::Hash::from_bytes([0; SUM_LEN]); 4];
    for (sum, section) in sections.iter_mut().zip(layout.sections()) {
        let mut hasher = blake3::Hasher::new();
        let mut at = section.start;
        while at < section.end {
            let piece = &mut buffer[..BUFFER_LEN.min(section.end - at)];
            file.read_exact_at(piece, at as u64)?;
            hasher.update(piece);
            at += piece.len();
        }
        *sum = hasher.finalize();
    }
    // What stands behind the checksum is zero.
    let rest = header[SUM_AT + SUM_LEN..].iter().all(|&byte| byte == 0);
    Ok(rest && layout.checksum(sections).as_bytes()[..] == header[SUM_AT..][..SUM_LEN])
}

pub(super) fn not_a_table() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an index table")
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
