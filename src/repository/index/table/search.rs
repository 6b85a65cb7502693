//! Finding a chunk in a table: the filter first, then interpolation among evenly spread keys. Where the table is not as it was
//! written, nothing is found.

use std::ops::Range;
use std::sync::atomic::Ordering;

use memmap2::UncheckedAdvice;

use crate::model::id::ChunkKey;
use crate::repository::index::table::layout::{BLOCK_LEN, KEY_LEN};
use crate::repository::index::table::{ChunkPlace, Table};

/// After this many searches in a large table its pages are given back. A search touches about five places, and the kernel
/// maps up to 64 KiB around each: 170 MiB in all (`benches/index.rs`).
const SEARCHES_BEFORE_RELEASE: usize = 512;
/// Tables below this size may stay resident.
const LARGE_TABLE: usize = 48 << 20;

impl Table {
    /// Tells where a chunk lies, if the table has it. Of several places, it is any.
    pub fn find(&self, key: &ChunkKey) -> Option<ChunkPlace> {
        self.location(&self.row(self.find_row(key)?)?)
    }

    /// Tells every place where a chunk lies: a merged table may hold one that two hosts stored at the same time.
    pub fn find_all(&self, key: &ChunkKey) -> Vec<ChunkPlace> {
        self.rows_of_chunk(key).filter_map(|row| self.location(&self.row(row)?)).collect()
    }

    /// Returns the numbers of a chunk's rows, which stand together.
    pub(crate) fn rows_of_chunk(&self, key: &ChunkKey) -> Range<usize> {
        let Some(found) = self.find_row(key) else { return 0..0 };
        let equal = |row: &usize| self.key(*row) == Some(&key.0);
        let before = (0..found).rev().take_while(equal).count();
        let after = (found + 1..self.layout.chunks).take_while(equal).count();
        found - before..found + 1 + after
    }

    fn find_row(&self, key: &ChunkKey) -> Option<usize> {
        if !self.may_contain(key) {
            return None;
        }
        let found = self.search(key);
        if self.searches.fetch_add(1, Ordering::Relaxed) % SEARCHES_BEFORE_RELEASE == SEARCHES_BEFORE_RELEASE - 1 {
            self.release();
        }
        found
    }

    /// Gives the pages of a large table back to the system.
    pub(super) fn release(&self) {
        if self.map.len() > LARGE_TABLE {
            // SAFETY: the map is file-backed and read-only; released pages are read again from the file.
            let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }

    fn may_contain(&self, key: &ChunkKey) -> bool {
        let at = self.layout.filter_at() + block_of(key, self.layout.blocks) * BLOCK_LEN;
        let is_set = |block: &[u8]| filter_bits(key).into_iter().all(|bit| block[bit / 8] & 1 << (bit % 8) != 0);
        self.bytes(at, BLOCK_LEN).is_some_and(is_set)
    }

    /// Interpolation search: keys are evenly spread, so the first guess is off by about the root of their number.
    fn search(&self, key: &ChunkKey) -> Option<usize> {
        let wanted = leading(&key.0);
        let (mut low, mut high) = (0, self.layout.chunks);
        let (mut low_value, mut high_value) = (0u64, u64::MAX);
        while low < high {
            let span = u128::from(high_value - low_value).max(1);
            let guess = u128::from(wanted.saturating_sub(low_value)) * (high - low) as u128 / span;
            let middle = low + (guess as usize).min(high - low - 1);
            let found = self.key(middle)?;
            match found.cmp(&key.0) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => (low, low_value) = (middle + 1, leading(found)),
                std::cmp::Ordering::Greater => (high, high_value) = (middle, leading(found)),
            }
        }
        None
    }
}

fn leading(key: &[u8; KEY_LEN]) -> u64 {
    u64::from_be_bytes(key[..8].try_into().expect("8 bytes"))
}

/// The filter block of a key: its high bits scaled to the number of blocks, so blocks ascend with keys.
pub(super) fn block_of(key: &ChunkKey, blocks: usize) -> usize {
    ((u128::from(leading(&key.0)) * blocks as u128) >> 64) as usize
}

/// Six bits of a block of 512, from the half of the key that does not choose the block.
pub(super) fn filter_bits(key: &ChunkKey) -> [usize; 6] {
    let bits = u64::from_be_bytes(key.0[8..].try_into().expect("8 bytes"));
    std::array::from_fn(|i| (bits >> (9 * i)) as usize & 511)
}
