//! Weaving: what a window of today consists of, parts of chunks that are stored and rows that are new.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::id::ChunkKey;
use crate::windows::HashedPiece;
use crate::windows::block::{NightBlock, Through};
use crate::windows::cover::{Cover, Stretch};
use crate::windows::remains::{Used, key_number};
use crate::windows::sample::Sample;
use crate::windows::walk::NEW;
use crate::windows::yesterday::{Blocks, Yesterday};

/// What a window is made of; the key of new rows is not known yet, and they stand for `None`, one behind the other.
#[derive(Debug, Default)]
pub struct Woven {
    plain: Cover<Option<ChunkKey>>,
    named: Cover<Option<ChunkKey>>,
    through: HashMap<ChunkKey, Through>,
}

/// What of a chunk must be there so that a recipe may name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The chunk itself.
    Plain,
    /// The chunk, or a recipe that names plain chunks alone.
    Any,
}

impl Woven {
    /// Puts together what the walk found of a window.
    pub fn of<B: Blocks>(yesterday: &mut Yesterday<B>, pieces: &[HashedPiece], found: &[u64]) -> Self {
        let (mut woven, mut new, mut i) = (Self::default(), 0, 0);
        while i < pieces.len() {
            let run = run_of(yesterday, pieces, found, i);
            let length = pieces[i..i + run.pieces].iter().map(|piece| piece.length).sum::<u32>();
            match run.at {
                // Equal hashes of pieces of different lengths are an accident, or a lie.
                Some((block, from, to)) if to - from == length => {
                    let some = |Stretch { key, offset, length }| Stretch { key: Some(key), offset, length };
                    block.plain().slice(from, to, |part| woven.plain.push(some(part)));
                    block.named().slice(from, to, |part| {
                        if let Some(through) = block.through(&part.key) {
                            woven.through.entry(part.key).or_insert_with(|| through.clone());
                        }
                        woven.named.push(some(part));
                    });
                }
                _ => {
                    let part = Stretch { key: None, offset: new, length };
                    woven.plain.push(part);
                    woven.named.push(part);
                    new += length;
                }
            }
            i += run.pieces;
        }
        woven
    }

    /// Keeps to chunks that may be named, as `has` says, and takes what lies in others for new. Where it `is_base` night, or something of
    /// what recipes would name is missing, plain chunks alone are named.
    pub fn rely(&mut self, is_base: bool, mut has: impl FnMut(&ChunkKey, Need) -> bool) {
        let mut known: HashMap<(ChunkKey, bool), bool> = HashMap::new();
        let mut has = |key: &ChunkKey, need| *known.entry((*key, need == Need::Any)).or_insert_with(|| has(key, need));
        let may_name = |key: &ChunkKey, has: &mut dyn FnMut(&ChunkKey, Need) -> bool| match self.through.get(key) {
            Some(through) => has(key, Need::Any) && through.iter().all(|key| has(key, Need::Plain)),
            None => has(key, Need::Plain),
        };
        if !is_base && self.named.keys().iter().flatten().all(|key| may_name(key, &mut has)) {
            return;
        }
        self.through.clear();
        let lost: HashSet<ChunkKey> =
            self.plain.keys().into_iter().flatten().filter(|key| !has(key, Need::Plain)).collect();
        if !lost.is_empty() {
            let (before, mut new) = (std::mem::take(&mut self.plain), 0);
            for part in before.stretches() {
                match part.key.filter(|key| !lost.contains(key)) {
                    Some(_) => self.plain.push(*part),
                    None => {
                        self.plain.push(Stretch { key: None, offset: new, length: part.length });
                        new += part.length;
                    }
                }
            }
        }
        self.named = self.plain.clone();
    }

    /// Returns how many bytes are new.
    pub fn new_bytes(&self) -> u32 {
        self.plain.stretches().iter().filter(|part| part.key.is_none()).map(|part| part.length).sum()
    }

    /// Returns the new rows of the window, one behind the other.
    pub fn new_rows(&self, window: &[u8]) -> Vec<u8> {
        let (mut rows, mut at) = (Vec::with_capacity(self.new_bytes() as usize), 0);
        for part in self.plain.stretches() {
            let length = part.length as usize;
            if part.key.is_none() {
                rows.extend_from_slice(&window[at..at + length]);
            }
            at += length;
        }
        rows
    }

    /// Returns how much of the chunks that the window names yesterday was still made of, from 0 to 1, as far as that is known.
    pub fn alive(&self, used: &Sample<Used>) -> f64 {
        let known = self.plain.keys().into_iter().flatten().filter_map(|key| used.get(key_number(&key)));
        let (alive, whole) = known.fold((0, 0), |(alive, whole), chunk| {
            (alive + chunk.alive.min(u64::from(chunk.length)), whole + u64::from(chunk.length))
        });
        if whole == 0 { 1.0 } else { alive as f64 / whole as f64 }
    }

    /// Says which chunk holds the new rows; there may be none.
    pub fn filled(self, rows: Option<(ChunkKey, u32)>) -> MadeOf {
        let fill = |cover: &Cover<Option<ChunkKey>>| {
            let mut filled = Cover::default();
            for part in cover.stretches() {
                let key = part.key.or(rows.map(|(key, _)| key)).expect("where something is new, there are new rows");
                filled.push(Stretch { key, offset: part.offset, length: part.length });
            }
            filled
        };
        let fresh = rows.into_iter().collect();
        MadeOf { plain: fill(&self.plain), named: fill(&self.named), through: self.through, fresh }
    }
}

/// What a window is made of.
#[derive(Debug, Clone, Default)]
pub struct MadeOf {
    /// By chunks that are stored plain.
    pub plain: Cover<ChunkKey>,
    /// As its recipe names them.
    pub named: Cover<ChunkKey>,
    /// What those that are stored as recipes need in turn.
    pub through: HashMap<ChunkKey, Through>,
    /// The chunks in it whose length may not be known from yesterday, and their lengths.
    fresh: Vec<(ChunkKey, u32)>,
}

impl MadeOf {
    /// What a window is made of that is a chunk itself.
    pub fn chunk(key: ChunkKey, length: u32) -> Self {
        Self::chunks(vec![(key, length)])
    }

    /// What a window is made of that is stored as some chunks, one behind the other.
    pub fn chunks(chunks: Vec<(ChunkKey, u32)>) -> Self {
        let mut plain = Cover::default();
        chunks.iter().for_each(|&(key, length)| plain.push(Stretch { key, offset: 0, length }));
        Self { named: plain.clone(), plain, through: HashMap::new(), fresh: chunks }
    }

    /// What bytes are made of that were stored before: parts of chunks that are so long.
    pub fn stored(plain: Cover<ChunkKey>, lengths: Vec<(ChunkKey, u32)>) -> Self {
        Self { named: plain.clone(), plain, through: HashMap::new(), fresh: lengths }
    }

    /// Returns the length of a chunk in it that yesterday may not have known.
    pub fn fresh_length(&self, key: &ChunkKey) -> Option<u32> {
        self.fresh.iter().find(|(fresh, _)| fresh == key).map(|(_, length)| *length)
    }

    /// Tells whether a chunk is named. A window that is named to make itself is stored already, and what it needs is there.
    pub fn names(&self, key: &ChunkKey) -> bool {
        self.named.stretches().iter().any(|part| part.key == *key)
    }

    /// Returns the parts that its recipe names.
    pub fn parts(&self) -> Vec<(ChunkKey, u32, u32)> {
        self.named.stretches().iter().map(|part| (part.key, part.offset, part.length)).collect()
    }

    /// Says that tomorrow's recipes name the window itself, which is stored as a recipe of plain chunks.
    pub fn named_as(mut self, key: ChunkKey) -> Self {
        self.through = HashMap::from([(key, self.plain.keys().into())]);
        self.named = Cover::of_chunk(key, self.plain.length());
        self
    }
}

/// Pieces that lie one behind the other in one of yesterday's blocks, or are all new.
struct Run {
    pieces: usize,
    at: Option<(Arc<NightBlock>, u32, u32)>,
}

/// Returns the run that begins with the piece `first`.
fn run_of<B: Blocks>(yesterday: &mut Yesterday<B>, pieces: &[HashedPiece], found: &[u64], first: usize) -> Run {
    let place = found[first];
    let Some((block, nth)) = (if place == NEW { None } else { yesterday.find(place) }) else {
        // A block may be gone that was there a moment ago.
        let new = found[first..].iter().take_while(|found| **found == NEW).count();
        return Run { pieces: new.max(1), at: None };
    };
    let in_block = block.hashes().len() - nth;
    let follows = |(i, found): &(usize, &u64)| **found != NEW && **found == place + *i as u64;
    let count = found[first..pieces.len()].iter().enumerate().take(in_block).take_while(follows).count();
    let (from, to) = (block.piece(nth).0, block.piece(nth + count - 1).1);
    Run { pieces: count, at: Some((block, from, to)) }
}
