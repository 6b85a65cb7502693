//! A block of what one night leaves for the next: the hashes and lengths of some thousand pieces, and where their bytes lie, twice:
//! in chunks that are stored plain, and as the next night's recipes name them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::format::wire::Cursor;
use crate::format::{FormatError, write_varint};
use crate::model::id::ChunkKey;
use crate::windows::HashedPiece;
use crate::windows::cover::{Cover, Stretch};
use crate::windows::pieces::PIECE_MAX;

const WHAT: &str = "a block of yesterday's pieces";

/// Pieces in each block but the last.
pub const BLOCK_PIECES: usize = 4096;

/// What is known of a chunk that is stored as a recipe: another recipe of the same chunk may need other chunks, or be too deep to be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Through {
    /// Length of the recipe, in bytes.
    pub recipe_length: u32,
    /// The plain chunks that it needs.
    pub plain: Arc<[ChunkKey]>,
}

/// Some pieces, one behind the other, and where their bytes lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NightBlock {
    hashes: Vec<u64>,
    /// Where each ends.
    ends: Vec<u32>,
    plain: Cover<ChunkKey>,
    /// `None` where it is the same as the plain one.
    named: Option<Cover<ChunkKey>>,
    /// Of the chunks in `named`, those that are stored as recipes.
    through: HashMap<ChunkKey, Through>,
}

impl NightBlock {
    /// Returns the hashes of the pieces.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Tells whether it is full.
    pub fn is_full(&self) -> bool {
        self.hashes.len() >= BLOCK_PIECES
    }

    /// Returns where a piece begins and ends in the block.
    pub fn piece(&self, nth: usize) -> (u32, u32) {
        (nth.checked_sub(1).map_or(0, |before| self.ends[before]), self.ends[nth])
    }

    /// Returns where the bytes lie in chunks that are stored plain.
    pub fn plain(&self) -> &Cover<ChunkKey> {
        &self.plain
    }

    /// Returns where the bytes lie as recipes name it.
    pub fn named(&self) -> &Cover<ChunkKey> {
        self.named.as_ref().unwrap_or(&self.plain)
    }

    /// Returns what a chunk that recipes name needs in turn; `None` where it is stored plain.
    pub fn through(&self, key: &ChunkKey) -> Option<&Through> {
        self.through.get(key)
    }

    /// Returns every chunk that is named, and whether it must be stored plain.
    pub fn all_keys(&self) -> impl Iterator<Item = (ChunkKey, bool)> {
        let of_recipes = self.through.iter().flat_map(|(key, through)| {
            std::iter::once((*key, false)).chain(through.plain.iter().map(|key| (*key, true)))
        });
        let named = self.named().stretches().iter().map(|part| part.key);
        let named = named.filter(|key| !self.through.contains_key(key)).map(|key| (key, true));
        self.plain.stretches().iter().map(|part| (part.key, true)).chain(named).chain(of_recipes)
    }

    /// Appends a piece; its bytes are to be covered by [`NightBlock::cover`].
    pub fn push(&mut self, piece: HashedPiece) {
        let end = self.ends.last().copied().unwrap_or(0) + piece.length;
        self.hashes.push(piece.hash);
        self.ends.push(end);
    }

    /// Appends where bytes lie that were pushed: plain, as they are named, and what chunks named so need.
    pub fn cover(
        &mut self,
        plain: impl IntoIterator<Item = Stretch<ChunkKey>>,
        named: impl IntoIterator<Item = Stretch<ChunkKey>>,
        through: &HashMap<ChunkKey, Through>,
    ) {
        plain.into_iter().for_each(|part| self.plain.push(part));
        let cover = self.named.get_or_insert_default();
        for part in named {
            if let Some(needs) = through.get(&part.key) {
                self.through.entry(part.key).or_insert_with(|| needs.clone());
            }
            cover.push(part);
        }
    }

    /// Encodes the block.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.hashes.len() * 11 + self.plain.stretches().len() * 12 + 64);
        write_varint(self.hashes.len() as u64, &mut out);
        self.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
        (0..self.ends.len()).for_each(|nth| {
            let (start, end) = self.piece(nth);
            write_varint(u64::from(end - start), &mut out);
        });
        encode_cover(&self.plain, &mut out);
        match self.named.as_ref().filter(|named| **named != self.plain || !self.through.is_empty()) {
            None => out.push(0),
            Some(named) => {
                out.push(1);
                encode_cover(named, &mut out);
                for key in named.keys() {
                    let Some(through) = self.through.get(&key) else {
                        out.push(0);
                        continue;
                    };
                    write_varint(through.plain.len() as u64, &mut out);
                    write_varint(u64::from(through.recipe_length), &mut out);
                    through.plain.iter().for_each(|key| out.extend_from_slice(&key.0));
                }
            }
        }
        out
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let invalid = |why: &str| FormatError::invalid(WHAT, why);
        let mut cursor = Cursor::new(WHAT, bytes);
        let count = cursor.length()?;
        cursor.expect_items(count, 9)?;
        if !(1..=BLOCK_PIECES).contains(&count) {
            return Err(invalid("the number of its pieces is out of range"));
        }
        let mut block = Self::default();
        for hash in cursor.bytes(count * 8)?.chunks_exact(8) {
            block.hashes.push(u64::from_le_bytes(hash.try_into().expect("8 bytes")));
        }
        let mut end = 0u32;
        for _ in 0..count {
            match u32::try_from(cursor.varint()?) {
                Ok(length) if (1..=PIECE_MAX as u32).contains(&length) => end += length,
                _ => return Err(invalid("the length of a piece is out of range")),
            }
            block.ends.push(end);
        }
        block.plain = decode_cover(&mut cursor)?.0;
        if cursor.u8()? != 0 {
            let (named, keys) = decode_cover(&mut cursor)?;
            for key in keys {
                let count = cursor.length()?;
                cursor.expect_items(count, ChunkKey::LEN)?;
                if count == 0 {
                    continue;
                }
                let recipe_length = u32::try_from(cursor.varint()?).map_err(|_| invalid("a recipe is too long"))?;
                let plain = (0..count).map(|_| Ok(ChunkKey(cursor.array()?)));
                let plain = plain.collect::<Result<Vec<_>, FormatError>>()?.into();
                block.through.insert(key, Through { recipe_length, plain });
            }
            block.named = Some(named);
        }
        cursor.finish()?;
        match block.plain.length() == end && block.named().length() == end {
            true => Ok(block),
            false => Err(invalid("its pieces are longer or shorter than what they are made of")),
        }
    }
}

/// Writes a cover: its chunks, and what is of which and where, in columns as in a recipe.
fn encode_cover(cover: &Cover<ChunkKey>, out: &mut Vec<u8>) {
    let keys = cover.keys();
    write_varint(keys.len() as u64, out);
    keys.iter().for_each(|key| out.extend_from_slice(&key.0));
    write_varint(cover.stretches().len() as u64, out);
    let places: HashMap<_, _> = keys.iter().enumerate().map(|(place, key)| (*key, place)).collect();
    let mut cursors = vec![0i64; keys.len()];
    for part in cover.stretches() {
        let place = places[&part.key];
        let step = i64::from(part.offset) - cursors[place];
        cursors[place] = i64::from(part.offset) + i64::from(part.length);
        write_varint(place as u64, out);
        write_varint((step << 1 ^ step >> 63) as u64, out);
        write_varint(u64::from(part.length), out);
    }
}

fn decode_cover(cursor: &mut Cursor<'_>) -> Result<(Cover<ChunkKey>, Vec<ChunkKey>), FormatError> {
    let invalid = || FormatError::invalid(WHAT, "a part is out of range");
    let count = cursor.length()?;
    cursor.expect_items(count, ChunkKey::LEN)?;
    let keys = (0..count).map(|_| Ok(ChunkKey(cursor.array()?))).collect::<Result<Vec<_>, FormatError>>()?;
    let items = cursor.length()?;
    cursor.expect_items(items, 3)?;
    let (mut cover, mut cursors, mut whole) = (Cover::default(), vec![0i64; count], 0u64);
    for _ in 0..items {
        let place = usize::try_from(cursor.varint()?).map_err(|_| invalid())?;
        let key = *keys.get(place).ok_or_else(invalid)?;
        let step = cursor.varint()?;
        let offset = cursors[place].wrapping_add((step >> 1) as i64 ^ -((step & 1) as i64));
        let (offset, length) = (u32::try_from(offset), u32::try_from(cursor.varint()?));
        let (Ok(offset), Ok(length @ 1..)) = (offset, length) else { return Err(invalid()) };
        whole += u64::from(length);
        if offset.checked_add(length).is_none() || whole > (BLOCK_PIECES * PIECE_MAX) as u64 {
            return Err(invalid());
        }
        cursors[place] = i64::from(offset) + i64::from(length);
        cover.push(Stretch { key, offset, length });
    }
    Ok((cover, keys))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn key(number: u8) -> ChunkKey {
        ChunkKey([number; 16])
    }

    fn block(parts: &[(u8, u32, u32)], recipes: &[(u8, Vec<u8>)]) -> NightBlock {
        let mut block = NightBlock::default();
        let through = |needs: &[u8]| Through {
            recipe_length: needs.len() as u32 * 1000,
            plain: needs.iter().map(|it| key(*it)).collect(),
        };
        let through: HashMap<_, Through> = recipes.iter().map(|(of, needs)| (key(*of), through(needs))).collect();
        for (nth, &(of, offset, length)) in parts.iter().enumerate() {
            block.push(HashedPiece { hash: nth as u64 * 77, length });
            let plain = Stretch { key: key(of), offset, length };
            let named = Stretch { key: key(of ^ 1), offset: offset / 2, length };
            match recipes.is_empty() {
                true => block.cover([plain], [plain], &through),
                false => block.cover([plain], [named], &through),
            }
        }
        block
    }

    #[test]
    fn a_block_tells_where_pieces_lie_and_what_they_need() {
        let block = block(&[(2, 0, 100), (2, 100, 50), (4, 7, 1)], &[(3, vec![8, 9])]);
        assert_eq!((block.piece(0), block.piece(2)), ((0, 100), (150, 151)));
        assert_eq!(block.plain().stretches().len(), 2);
        let through = block.through(&key(3)).expect("it is a recipe");
        assert_eq!((through.recipe_length, &through.plain[..]), (2000, &[key(8), key(9)][..]));
        assert_eq!(block.through(&key(5)), None);
        let mut keys: Vec<_> = block.all_keys().map(|(key, plain)| (key.0[0], plain)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys, [(2, true), (3, false), (4, true), (5, true), (8, true), (9, true)]);
    }

    proptest! {
        #[test]
        fn blocks_round_trip(
            parts in prop::collection::vec((any::<u8>(), 0u32..1 << 23, 1u32..65536), 1..200),
            recipes in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 1..5)), 0..3),
        ) {
            let block = block(&parts, &recipes);
            let decoded = NightBlock::decode(&block.encode()).expect("it was encoded");
            prop_assert_eq!(decoded.hashes(), block.hashes());
            prop_assert_eq!(&decoded.ends, &block.ends);
            prop_assert_eq!(decoded.plain(), block.plain());
            prop_assert_eq!(decoded.named(), block.named());
            for (_, needs) in &recipes {
                for key in needs.iter().map(|it| key(*it)) {
                    prop_assert_eq!(decoded.through(&key), block.through(&key));
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..400, with in any::<u8>()) {
            let _ = NightBlock::decode(&bytes);
            let mut bytes = block(&[(2, 0, 100), (3, 9, 9)], &[(3, vec![8])]).encode();
            let at = at % bytes.len();
            bytes[at] = with;
            if let Ok(block) = NightBlock::decode(&bytes) {
                prop_assert_eq!(block.plain().length(), block.piece(block.hashes().len() - 1).1);
            }
        }
    }
}
