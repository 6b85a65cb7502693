//! What a night leaves for the next beside its blocks: how it was cut, places of some pieces, and how much of chunks it used.

use crate::format::wire::Cursor;
use crate::format::{FormatError, write_varint};
use crate::model::id::ChunkKey;
use crate::windows::pieces::PieceRule;
use crate::windows::sample::Sample;

const WHAT: &str = "what yesterday left";

/// Anchors of a night, at most: pieces by which others are found that moved far.
pub const ANCHORS_MAX: usize = 1 << 16;
/// One piece in 2^6 is an anchor to begin with.
const ANCHOR_BITS: u32 = 6;
/// Chunks of which a night notes how much of them it used, at most.
pub const USED_MAX: usize = 1 << 15;

/// How much of a chunk is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Bytes of the chunk.
    pub length: u32,
    /// Bytes of it that the night was made of; what was used twice counts twice.
    pub alive: u64,
}

/// Returns the number by which a chunk is sampled.
pub fn key_number(key: &ChunkKey) -> u64 {
    u64::from_le_bytes(key.0[..8].try_into().expect("8 of 16 bytes"))
}

/// What a night leaves beside its blocks.
#[derive(Debug, Clone)]
pub struct Remains {
    /// How it was cut.
    pub rule: PieceRule,
    /// How the next night is to be cut where the head does not tell.
    pub next_rule: PieceRule,
    /// Nights since the last one of which recipes name plain chunks alone; 0 for that one.
    pub nights_since_base: u8,
    /// Pieces in all blocks.
    pub pieces: u64,
    /// Places of some pieces, by their hashes.
    pub anchors: Sample<u64>,
    /// How much of some chunks was used, by the numbers of their keys.
    pub used: Sample<Used>,
}

impl Remains {
    /// Begins a night.
    pub fn new(rule: PieceRule, nights_since_base: u8) -> Self {
        let (anchors, used) = (Sample::new(ANCHORS_MAX, ANCHOR_BITS), Sample::new(USED_MAX, 0));
        Self { rule, next_rule: rule, nights_since_base, pieces: 0, anchors, used }
    }

    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.anchors.iter().len() * 12 + self.used.iter().len() * 16 + 64);
        for number in [self.rule.encode(), self.next_rule.encode(), u64::from(self.nights_since_base), self.pieces] {
            write_varint(number, &mut out);
        }
        for (bits, count) in
            [(self.anchors.bits(), self.anchors.iter().len()), (self.used.bits(), self.used.iter().len())]
        {
            write_varint(u64::from(bits), &mut out);
            write_varint(count as u64, &mut out);
        }
        for (hash, place) in self.anchors.iter() {
            out.extend_from_slice(&hash.to_le_bytes());
            write_varint(*place, &mut out);
        }
        for (key, used) in self.used.iter() {
            out.extend_from_slice(&key.to_le_bytes());
            write_varint(u64::from(used.length), &mut out);
            write_varint(used.alive, &mut out);
        }
        out
    }

    /// Decodes what [`Remains::encode`] gives from the front of `bytes`, and returns the rest.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let invalid = |why: &str| FormatError::invalid(WHAT, why);
        let mut cursor = Cursor::new(WHAT, bytes);
        let mut rule = || PieceRule::decode(cursor.varint()?).ok_or_else(|| invalid("it was cut in an unknown way"));
        let (rule, next_rule) = (rule()?, rule()?);
        let nights = u8::try_from(cursor.varint()?).map_err(|_| invalid("too many nights"))?;
        let pieces = cursor.varint()?;
        let mut sizes = [(0, 0); 2];
        for (bits, count) in &mut sizes {
            *bits = u32::try_from(cursor.varint()?).ok().filter(|bits| *bits < 64).ok_or_else(|| invalid("bits"))?;
            *count = cursor.length()?;
        }
        let [(anchor_bits, anchors), (used_bits, used)] = sizes;
        if anchors > ANCHORS_MAX || used > USED_MAX {
            return Err(invalid("it has too many anchors or chunks"));
        }
        let mut remains = Self::new(rule, nights);
        (remains.next_rule, remains.pieces) = (next_rule, pieces);
        remains.anchors = Sample::new(ANCHORS_MAX, anchor_bits);
        remains.used = Sample::new(USED_MAX, used_bits);
        for _ in 0..anchors {
            let (hash, place) = (u64::from_le_bytes(cursor.array()?), cursor.varint()?);
            remains.anchors.entry(hash, || place);
        }
        for _ in 0..used {
            let key = u64::from_le_bytes(cursor.array()?);
            let length = u32::try_from(cursor.varint()?).map_err(|_| invalid("a chunk is too long"))?;
            let alive = cursor.varint()?;
            remains.used.entry(key, || Used { length, alive });
        }
        Ok((remains, cursor.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_comes_back_and_nothing_else_is_taken_for_it() {
        let mut remains = Remains::new(PieceRule::Pages(4096), 5);
        (remains.next_rule, remains.pieces) = (PieceRule::Rows, 12_345);
        for i in 1..300u64 {
            remains.anchors.entry(i << 6, || i * 1000);
            remains.used.entry(i * 7919, || Used { length: i as u32, alive: i * i });
        }
        let mut bytes = remains.encode();
        bytes.extend(b"rest");
        let (decoded, rest) = Remains::decode(&bytes).expect("it was encoded");
        assert_eq!(rest, b"rest");
        let rules = (decoded.rule, decoded.next_rule);
        assert_eq!((rules, decoded.nights_since_base), ((PieceRule::Pages(4096), PieceRule::Rows), 5));
        assert_eq!(decoded.pieces, 12_345);
        assert_eq!((decoded.anchors.get(64), decoded.anchors.get(65)), (Some(&1000), None));
        assert_eq!(decoded.used.get(7919), Some(&Used { length: 1, alive: 1 }));
        let sorted = |remains: &Remains| {
            let mut anchors: Vec<_> = remains.anchors.iter().map(|(hash, place)| (hash, *place)).collect();
            anchors.sort_unstable();
            anchors
        };
        assert_eq!(sorted(&decoded), sorted(&remains));
        for length in 0..bytes.len() - 4 {
            assert!(Remains::decode(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..40 {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            let _ = Remains::decode(&changed);
        }
    }
}
