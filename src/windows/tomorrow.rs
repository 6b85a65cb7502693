//! Tomorrow: what tonight leaves for the next night, block after block.

use crate::model::id::ChunkKey;
use crate::windows::HashedPiece;
use crate::windows::block::NightBlock;
use crate::windows::pieces::PieceRule;
use crate::windows::remains::{Remains, Used, key_number};
use crate::windows::weave::MadeOf;

/// Where blocks go. One that cannot be kept is told when all are done.
pub trait BlockSink {
    /// Takes the next block.
    fn put(&mut self, block: &NightBlock);
}

/// What is gathered for tomorrow.
#[derive(Debug)]
pub struct Tomorrow<S> {
    sink: S,
    block: NightBlock,
    remains: Remains,
}

impl<S: BlockSink> Tomorrow<S> {
    /// Begins a night.
    pub fn new(sink: S, rule: PieceRule, nights_since_base: u8) -> Self {
        Self { sink, block: NightBlock::default(), remains: Remains::new(rule, nights_since_base) }
    }

    /// Appends a window: its pieces, what they are made of, and how long those chunks are whose length is known.
    pub fn push(&mut self, pieces: &[HashedPiece], made_of: &MadeOf, length_of: impl Fn(&ChunkKey) -> Option<u32>) {
        for part in made_of.plain.stretches() {
            self.use_chunk(&part.key, part.length, &length_of);
        }
        let (mut from, mut to) = (0, 0);
        for piece in pieces {
            self.remains.anchors.entry(piece.hash, || self.remains.pieces);
            self.remains.pieces += 1;
            self.block.push(*piece);
            to += piece.length;
            if self.block.is_full() {
                self.cover(made_of, from, to);
                self.sink.put(&std::mem::take(&mut self.block));
                from = to;
            }
        }
        self.cover(made_of, from, to);
    }

    fn cover(&mut self, made_of: &MadeOf, from: u32, to: u32) {
        let (mut plain, mut named) = (Vec::new(), Vec::new());
        made_of.plain.slice(from, to, |part| plain.push(part));
        made_of.named.slice(from, to, |part| named.push(part));
        self.block.cover(plain, named, &made_of.through);
    }

    fn use_chunk(&mut self, key: &ChunkKey, bytes: u32, length_of: impl Fn(&ChunkKey) -> Option<u32>) {
        let number = key_number(key);
        let known = self.remains.used.get(number).map(|used| used.length);
        if let Some(length) = known.or_else(|| self.remains.used.takes(number).then(|| length_of(key)).flatten())
            && let Some(used) = self.remains.used.entry(number, || Used { length, alive: 0 })
        {
            used.alive += u64::from(bytes);
        }
    }

    /// Ends the night.
    pub fn finish(mut self) -> (S, Remains) {
        if !self.block.hashes().is_empty() {
            self.sink.put(&self.block);
        }
        (self.sink, self.remains)
    }
}
