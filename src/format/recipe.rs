//! Recipes: a window of content, put together from parts of chunks that are stored already.
//!
//! Like a git delta object, a recipe stands under the id of what it makes. Its numbers stand in columns, because zstd then sees
//! like beside like.

use std::collections::{HashMap, HashSet};

use crate::format::wire::Cursor;
use crate::format::{FormatError, write_varint};
use crate::model::id::ChunkKey;

const WHAT: &str = "a recipe";

/// The longest window, in bytes: that of a chunk of content.
pub const WINDOW_MAX: u32 = 8 << 20;
/// The longest recipe, encoded. One that comes near it says more than its window is worth.
pub const RECIPE_MAX: usize = 1 << 20;
/// Chunks that one recipe names, at most.
pub const TABLE_MAX: usize = 1024;
/// The deepest recipe that readers resolve.
pub const RECIPE_DEPTH_MAX: u8 = 4;
/// The deepest recipe that writers make.
pub const RECIPE_DEPTH_WRITTEN: u8 = 2;
/// Different chunks that a window may need through all depths, recipes among them.
pub const CHUNKS_NEEDED_MAX: usize = 4096;
/// Parts of chunks that a window may come to when all recipes are resolved, and items of these recipes together.
pub const PARTS_NEEDED_MAX: usize = 1 << 19;
/// Plaintext of the different frames that a window may need through all depths, in bytes.
pub const PLAIN_NEEDED_MAX: u64 = 256 << 20;

/// What a window consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    length: u32,
    depth: u8,
    chunks: Vec<ChunkKey>,
    items: Vec<Item>,
}

/// A part of a chunk, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Where it goes in the window.
    pub at: u32,
    /// Where it begins in its chunk.
    pub offset: u32,
    /// Its length.
    pub length: u32,
    /// Its chunk's place in the table.
    pub chunk: u16,
}

impl Item {
    /// Returns where it ends in its chunk.
    pub fn end(&self) -> u32 {
        self.offset.saturating_add(self.length)
    }
}

/// Bytes of a chunk that stand next in a window: the chunk, where in it they begin, how many there are.
pub type Part = (ChunkKey, u32, u32);

impl Recipe {
    /// Makes the recipe of a window from its parts, in order. `depth` is 1 where all of them are of plain chunks, else one more
    /// than that of the deepest recipe named.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] when no reader would take it: such a window is stored plain.
    pub fn new(depth: u8, parts: &[Part]) -> Result<Self, FormatError> {
        let (mut chunks, mut places) = (Vec::new(), HashMap::new());
        let mut items: Vec<Item> = Vec::with_capacity(parts.len());
        let mut at = 0u32;
        for &(key, offset, length) in parts {
            let next = chunks.len();
            let place = *places.entry(key).or_insert(next);
            if place == next {
                chunks.push(key);
            }
            let chunk = u16::try_from(place).map_err(|_| FormatError::invalid(WHAT, "it names too many chunks"))?;
            match items.last_mut().filter(|last| last.chunk == chunk && last.end() == offset) {
                Some(last) => last.length = last.length.saturating_add(length),
                None => items.push(Item { at, offset, length, chunk }),
            }
            at = at.saturating_add(length);
        }
        // What a reader refuses is refused here, by the same rules.
        Self::decode(&Self { length: at, depth, chunks, items }.encode())
    }

    /// Returns the length of the window.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Returns the depth: 1 when it names plain chunks alone.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Returns the chunks that it names, each once and each used, in order of first use.
    pub fn chunks(&self) -> &[ChunkKey] {
        &self.chunks
    }

    /// Returns the parts in order. They fill the window without gaps.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Returns the parts by the chunks that they are of, in the order of the table.
    pub fn items_by_chunk(&self) -> Vec<Item> {
        let mut items = self.items.clone();
        items.sort_by_key(|item| item.chunk);
        items
    }

    /// Returns the items that make the bytes from `at` on, `length` of them: the first and the last may reach beyond.
    pub fn items_within(&self, at: u32, length: u32) -> &[Item] {
        let start = self.items.partition_point(|item| item.at + item.length <= at);
        let end = self.items.partition_point(|item| item.at < at + length);
        &self.items[start..end.max(start)]
    }

    /// Encodes the recipe.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.chunks.len() * ChunkKey::LEN + self.items.len() * 5 + 16);
        write_varint(u64::from(self.length), &mut out);
        write_varint(u64::from(self.depth), &mut out);
        write_varint(self.chunks.len() as u64, &mut out);
        self.chunks.iter().for_each(|key| out.extend_from_slice(&key.0));
        write_varint(self.items.len() as u64, &mut out);
        self.items.iter().for_each(|item| write_varint(u64::from(item.chunk), &mut out));
        let mut cursors = vec![0i64; self.chunks.len()];
        for item in &self.items {
            let cursor = &mut cursors[usize::from(item.chunk)];
            let step = i64::from(item.offset) - *cursor;
            write_varint((step << 1 ^ step >> 63) as u64, &mut out);
            *cursor = i64::from(item.offset) + i64::from(item.length);
        }
        self.items.iter().for_each(|item| write_varint(u64::from(item.length), &mut out));
        out
    }

    /// Decodes a recipe. Takes at most six times the memory of `bytes`, which are 1 MiB at most.
    ///
    /// # Errors
    /// [`FormatError`] when it is none, or exceeds what a reader may be asked for.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let invalid = |why: &str| Err(FormatError::invalid(WHAT, why));
        if bytes.len() > RECIPE_MAX {
            return invalid("it is too long");
        }
        let mut cursor = Cursor::new(WHAT, bytes);
        let length = match u32::try_from(cursor.varint()?) {
            Ok(length) if (1..=WINDOW_MAX).contains(&length) => length,
            _ => return invalid("the length of its window is out of range"),
        };
        let depth = match u8::try_from(cursor.varint()?) {
            Ok(depth) if (1..=RECIPE_DEPTH_MAX).contains(&depth) => depth,
            _ => return invalid("its depth is out of range"),
        };
        let count = cursor.length()?;
        if !(1..=TABLE_MAX).contains(&count) {
            return invalid("the number of its chunks is out of range");
        }
        cursor.expect_items(count, ChunkKey::LEN)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(ChunkKey(cursor.array()?));
        }
        if chunks.iter().collect::<HashSet<_>>().len() < count {
            return invalid("it names a chunk twice");
        }
        let items = Self::decode_items(&mut cursor, count, length)?;
        cursor.finish()?;
        Ok(Self { length, depth, chunks, items })
    }

    fn decode_items(cursor: &mut Cursor<'_>, chunks: usize, window: u32) -> Result<Vec<Item>, FormatError> {
        let invalid = |why: &str| Err(FormatError::invalid(WHAT, why));
        let count = cursor.length()?;
        cursor.expect_items(count, 3)?;
        let mut items = Vec::with_capacity(count);
        let mut used = 0;
        for _ in 0..count {
            let chunk = cursor.varint()?;
            if chunk > used || chunk >= chunks as u64 {
                return invalid("its chunks are not in order of first use");
            }
            used += u64::from(chunk == used);
            items.push(Item { at: 0, offset: 0, length: 0, chunk: chunk as u16 });
        }
        if used < chunks as u64 {
            return invalid("it names a chunk that it does not use");
        }
        // Where an item begins depends on how long those before it are, which stands behind all of this.
        let steps = cursor.rest();
        for _ in 0..count {
            cursor.varint()?;
        }
        let mut steps = Cursor::new(WHAT, &steps[..steps.len() - cursor.rest().len()]);
        let mut cursors = vec![0u32; chunks];
        let mut at = 0;
        for item in &mut items {
            let step = steps.varint()?;
            let step = (step >> 1) as i64 ^ -((step & 1) as i64);
            let length = cursor.varint()?;
            let end = &mut cursors[usize::from(item.chunk)];
            let offset = i64::from(*end).checked_add(step).and_then(|offset| u32::try_from(offset).ok());
            match (offset, u32::try_from(length)) {
                (Some(offset), Ok(length @ 1..)) if offset.checked_add(length).is_some_and(|end| end <= WINDOW_MAX) => {
                    (item.at, item.offset, item.length) = (at, offset, length);
                    *end = offset + length;
                    at += length;
                }
                _ => return invalid("a part is out of range"),
            }
            if at > window {
                return invalid("its parts are longer than its window");
            }
        }
        if at == window { Ok(items) } else { invalid("its parts are shorter than its window") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(id: u16) -> ChunkKey {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&id.to_le_bytes());
        ChunkKey(bytes)
    }

    /// A recipe as numbers: length, depth, keys, and the three columns.
    fn encoded(length: u64, depth: u64, keys: &[ChunkKey], columns: [&[u64]; 3]) -> Vec<u8> {
        let mut out = Vec::new();
        [length, depth, keys.len() as u64].into_iter().for_each(|number| write_varint(number, &mut out));
        keys.iter().for_each(|key| out.extend_from_slice(&key.0));
        write_varint(columns[0].len() as u64, &mut out);
        columns.into_iter().flatten().for_each(|number| write_varint(*number, &mut out));
        out
    }

    #[test]
    fn parts_that_touch_become_one_and_the_table_is_in_order_of_first_use() {
        let parts = [(key(7), 10, 5), (key(7), 15, 5), (key(3), 0, 9), (key(7), 20, 1), (key(7), 2, 3)];
        let recipe = Recipe::new(1, &parts).expect("a recipe");
        assert_eq!(recipe.chunks(), [key(7), key(3)]);
        let item = |at, offset, length, chunk| Item { at, offset, length, chunk };
        assert_eq!(recipe.items(), [item(0, 10, 10, 0), item(10, 0, 9, 1), item(19, 20, 1, 0), item(20, 2, 3, 0)]);
        assert_eq!(recipe.length(), 23);
        let expected = encoded(23, 1, &[key(7), key(3)], [&[0, 1, 0, 0], &[20, 0, 0, 37], &[10, 9, 1, 3]]);
        assert_eq!(recipe.encode(), expected, "steps of 10, 0, 0 and -19");
        assert_eq!(recipe.items_within(9, 2), &recipe.items()[..2]);
        assert_eq!(recipe.items_within(10, 9), &recipe.items()[1..2]);
        assert_eq!(recipe.items_within(22, 1), &recipe.items()[3..]);
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        let one = [key(1)];
        let good = |length, depth| encoded(length, depth, &one, [&[0], &[0], &[length]]);
        assert!(Recipe::decode(&good(u64::from(WINDOW_MAX), 4)).is_ok());
        let many: Vec<ChunkKey> = (0..1025).map(key).collect();
        let table = |count: usize| {
            let which: Vec<u64> = (0..count as u64).collect();
            encoded(count as u64, 1, &many[..count], [&which, &vec![0; count], &vec![1; count]])
        };
        assert!(Recipe::decode(&table(1024)).is_ok());
        assert!(Recipe::decode(&good(1, 1)).is_ok());
        let end = u64::from(WINDOW_MAX);
        let at = |offset: u64| encoded(9, 1, &one, [&[0], &[2 * offset], &[9]]);
        assert!(Recipe::decode(&at(end - 9)).is_ok());
        // Parts that lie before the one before: steps may go back.
        let back = encoded(6, 1, &one, [&[0, 0], &[8, 13], &[3, 3]]);
        assert_eq!(Recipe::decode(&back).expect("a recipe").items()[1].offset, 0);
        let mut unfinished = good(9, 1);
        unfinished.pop();
        let mut too_long = good(9, 1);
        too_long.push(0);
        let huge = u64::from(u32::MAX);
        let hostile: Vec<(&str, Vec<u8>)> = vec![
            ("nothing", Vec::new()),
            ("a window of no bytes", encoded(0, 1, &one, [&[], &[], &[]])),
            ("a window of 8 MiB and a byte", good(u64::from(WINDOW_MAX) + 1, 1)),
            ("depth 0", good(9, 0)),
            ("depth 5", good(9, 5)),
            ("depth 256 and one", good(9, 257)),
            ("no table", encoded(9, 1, &[], [&[0], &[0], &[9]])),
            ("a table of 1025", table(1025)),
            ("a table longer than the recipe", [&[9, 1, 200, 1][..], &[0; 16]].concat()),
            ("a chunk named twice", encoded(2, 1, &[key(1), key(1)], [&[0, 1], &[0, 0], &[1, 1]])),
            ("a chunk that is not used", encoded(1, 1, &[key(1), key(2)], [&[0], &[0], &[1]])),
            ("a chunk behind the table", encoded(9, 1, &one, [&[1], &[0], &[9]])),
            ("chunks out of order", encoded(2, 1, &[key(1), key(2)], [&[1, 0], &[0, 0], &[1, 1]])),
            ("no items", encoded(9, 1, &one, [&[], &[], &[]])),
            ("a part of no bytes", encoded(9, 1, &one, [&[0, 0], &[0, 0], &[9, 0]])),
            ("a part before its chunk", encoded(9, 1, &one, [&[0], &[1], &[9]])),
            ("a part that ends a byte behind any chunk", at(end - 8)),
            ("a step back to before its chunk", encoded(6, 1, &one, [&[0, 0], &[8, 15], &[3, 3]])),
            ("a chunk one behind those used", encoded(2, 1, &[key(1), key(2)], [&[0, 2], &[0, 0], &[1, 1]])),
            ("a part behind any chunk", encoded(9, 1, &one, [&[0], &[2 * u64::from(WINDOW_MAX)], &[9]])),
            ("an offset of 64 bits", encoded(9, 1, &one, [&[0], &[u64::MAX - 1], &[9]])),
            ("an offset below zero by 64 bits", encoded(9, 1, &one, [&[0], &[u64::MAX], &[9]])),
            ("a length of 64 bits", encoded(9, 1, &one, [&[0], &[0], &[u64::MAX]])),
            ("lengths that overflow", encoded(8, 1, &one, [&[0, 0], &[0, 0], &[huge, 9]])),
            ("parts too short", encoded(9, 1, &one, [&[0], &[0], &[8]])),
            ("parts too long", encoded(9, 1, &one, [&[0], &[0], &[10]])),
            ("more items than bytes", [&good(9, 1)[..19], &[255, 255, 255, 255, 15, 0][..]].concat()),
            ("cut off", unfinished),
            ("bytes left over", too_long),
            ("longer than any recipe", vec![1; RECIPE_MAX + 1]),
        ];
        for (about, bytes) in hostile {
            assert!(Recipe::decode(&bytes).is_err(), "{about}");
        }
    }

    proptest! {
        #[test]
        fn recipes_round_trip_and_fill_their_window(
            depth in 1u8..=4,
            parts in prop::collection::vec((0u16..40, 0u32..5000, 1u32..3000), 1..300),
        ) {
            let parts: Vec<Part> = parts.into_iter().map(|(id, offset, length)| (key(id), offset, length)).collect();
            let recipe = Recipe::new(depth, &parts).expect("a recipe");
            prop_assert_eq!(Recipe::decode(&recipe.encode()), Ok(recipe.clone()));
            // Byte for byte, the parts are those given.
            let bytes = |parts: &mut dyn Iterator<Item = Part>| {
                parts.flat_map(|(key, offset, length)| (offset..offset + length).map(move |at| (key, at))).collect::<Vec<_>>()
            };
            let mut resolved = recipe.items().iter().map(|it| (recipe.chunks()[usize::from(it.chunk)], it.offset, it.length));
            prop_assert!(bytes(&mut resolved) == bytes(&mut parts.iter().copied()));
            for pair in recipe.items().windows(2) {
                prop_assert_eq!(pair[0].at + pair[0].length, pair[1].at);
            }
        }

        #[test]
        fn any_bytes_give_a_recipe_that_is_within_bounds_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(recipe) = Recipe::decode(&bytes) {
                prop_assert!(recipe.length() <= WINDOW_MAX && recipe.depth() <= 4 && recipe.items().len() <= bytes.len());
                prop_assert_eq!(Recipe::decode(&recipe.encode()), Ok(recipe));
            }
        }
    }
}
