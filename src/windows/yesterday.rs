//! Yesterday: the pieces of the night before, asked for one behind the other, mostly.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::windows::block::{BLOCK_PIECES, NightBlock};
use crate::windows::remains::Remains;

/// Blocks in memory: those of a window, of what is looked at ahead, and some more.
const BLOCKS_HELD: usize = 12;

/// Where yesterday's blocks come from.
pub trait Blocks {
    /// Returns a block by its number, from 0; `None` where it cannot be had as it was written, and is done without.
    fn block(&mut self, number: u64) -> Option<NightBlock>;
}

/// Yesterday's pieces, by their numbers.
pub struct Yesterday<B> {
    blocks: B,
    remains: Remains,
    /// Those used last, the newest in front.
    held: VecDeque<(u64, Option<Arc<NightBlock>>)>,
}

impl<B: Blocks> Yesterday<B> {
    /// Begins at the front.
    pub fn new(blocks: B, remains: Remains) -> Self {
        Self { blocks, remains, held: VecDeque::with_capacity(BLOCKS_HELD) }
    }

    /// Returns what was left beside the blocks.
    pub fn remains(&self) -> &Remains {
        &self.remains
    }

    /// Returns the block of a piece and the piece's place in it.
    pub fn find(&mut self, piece: u64) -> Option<(Arc<NightBlock>, usize)> {
        if piece >= self.remains.pieces {
            return None;
        }
        let (number, nth) = (piece / BLOCK_PIECES as u64, (piece % BLOCK_PIECES as u64) as usize);
        let block = self.block(number)?;
        (nth < block.hashes().len()).then(|| (block.clone(), nth))
    }

    /// Returns the hash of a piece.
    pub fn hash(&mut self, piece: u64) -> Option<u64> {
        if piece >= self.remains.pieces {
            return None;
        }
        let (number, nth) = (piece / BLOCK_PIECES as u64, (piece % BLOCK_PIECES as u64) as usize);
        self.block(number)?.hashes().get(nth).copied()
    }

    /// Returns the first piece with a hash among those from `from` to `to`.
    pub fn scan(&mut self, mut from: u64, to: u64, hash: u64) -> Option<u64> {
        let to = to.min(self.remains.pieces);
        while from < to {
            let (number, nth) = (from / BLOCK_PIECES as u64, (from % BLOCK_PIECES as u64) as usize);
            let first = number * BLOCK_PIECES as u64;
            let end = to.min(first + BLOCK_PIECES as u64);
            if let Some(hashes) = self.block(number).map(|block| block.hashes())
                && let Some(hashes) = hashes.get(nth..((end - first) as usize).min(hashes.len()))
                && let Some(at) = hashes.iter().position(|other| *other == hash)
            {
                return Some(from + at as u64);
            }
            from = end;
        }
        None
    }

    fn block(&mut self, number: u64) -> Option<&Arc<NightBlock>> {
        match self.held.iter().position(|(held, _)| *held == number) {
            Some(0) => {}
            Some(at) => {
                let block = self.held.remove(at).expect("it was found there");
                self.held.push_front(block);
            }
            None => {
                self.held.truncate(BLOCKS_HELD - 1);
                let block = self.blocks.block(number).map(Arc::new);
                self.held.push_front((number, block));
            }
        }
        self.held[0].1.as_ref()
    }
}
