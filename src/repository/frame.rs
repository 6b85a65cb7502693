//! Frames in the making: chunks that were claimed are gathered, then compressed together.
//!
//! Only a [`Frame`] makes an [`EncodedFrame`], and a pack takes nothing else: what is sealed is what was gathered, and its
//! directory tells the lengths that it has.

use crate::compress::Compressor;
use crate::crypto::seal::TAG_LEN;
use crate::format::pack::Codec;
use crate::format::recipe::Recipe;
use crate::model::id::{ChunkId, ChunkKey};

/// Plaintext after which a frame of a stream or of tree nodes is complete.
pub const FRAME_TARGET_BYTES: usize = 1 << 20;
/// Plaintext after which a frame of files is complete. Small files of one directory resemble each other: 2 MiB make a
/// source tree 1.7 % smaller than 1 MiB, where database dumps gain nothing (`docs/performance.md`).
pub const FILE_FRAME_BYTES: usize = 2 << 20;
/// Plaintext after which a frame of new rows is complete, those of some windows of one night: whoever reads the window reads all of it.
pub const ROWS_FRAME_BYTES: usize = 512 << 10;
/// Plaintext after which a frame of recipes is complete: those of some dozen windows, which are read together.
pub const RECIPE_FRAME_BYTES: usize = 256 << 10;

/// Chunks gathered to be compressed and sealed together.
#[derive(Debug, Default)]
pub struct Frame {
    plain: Vec<u8>,
    chunks: Vec<(ChunkKey, u32)>,
    /// In a frame of recipes, the hash of all of them: what they make cannot be compared with its id by whoever may not read.
    recipes: Option<Box<blake3::Hasher>>,
    /// Whether it is worth more time than others.
    is_rows: bool,
}

impl Frame {
    /// Makes an empty frame for new rows of a night.
    pub fn for_rows() -> Self {
        Self { is_rows: true, ..Self::default() }
    }

    /// Appends the recipe of a chunk that was claimed, to a frame of nothing but recipes.
    ///
    /// # Panics
    /// When chunks were appended.
    #[cfg(any(test, feature = "internals"))]
    pub fn push_recipe(&mut self, id: &ChunkId, recipe: &Recipe) {
        self.push_recipe_of(id.key(), recipe);
    }

    /// Appends the recipe of a chunk of which the key alone is known, to a frame of nothing but recipes.
    ///
    /// # Panics
    /// When chunks were appended.
    pub fn push_recipe_of(&mut self, key: ChunkKey, recipe: &Recipe) {
        assert!(self.is_empty() || self.recipes.is_some(), "a frame holds chunks or recipes");
        let encoded = recipe.encode();
        self.recipes.get_or_insert_default().update(&encoded);
        self.append(key, &encoded);
    }

    /// Appends a chunk that was claimed.
    pub fn push(&mut self, id: &ChunkId, plaintext: &[u8]) {
        self.append(id.key(), plaintext);
    }

    fn append(&mut self, key: ChunkKey, plaintext: &[u8]) {
        self.plain.extend_from_slice(plaintext);
        self.chunks.push((key, u32::try_from(plaintext.len()).expect("chunks are a few MiB at most")));
        #[cfg(test)]
        tests::flip_marked(&mut self.plain, plaintext.len());
    }

    /// Returns the length of the plaintext so far.
    pub fn len(&self) -> usize {
        self.plain.len()
    }

    /// Returns the memory that it keeps for plaintext, in bytes.
    pub fn capacity(&self) -> usize {
        self.plain.capacity()
    }

    /// Makes a frame of one chunk that was claimed, in the memory where its bytes are.
    pub fn of_one(id: &ChunkId, plaintext: Vec<u8>) -> Self {
        let length = u32::try_from(plaintext.len()).expect("chunks are a few MiB at most");
        #[cfg(test)]
        let plaintext = tests::with_flipped(plaintext);
        Self { plain: plaintext, chunks: vec![(id.key(), length)], ..Self::default() }
    }

    /// Tells whether it is for new rows of a night.
    pub fn is_rows(&self) -> bool {
        self.is_rows
    }

    /// Tells whether no chunk was appended.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Compresses what was gathered. The frame is to be cleared when the result has been sealed.
    pub fn encode<'a>(&'a mut self, compressor: &'a mut Compressor) -> EncodedFrame<'a> {
        let (codec, encoded) = match self.is_rows {
            true => compressor.compress_rows(&self.plain),
            false => compressor.compress(&self.plain),
        };
        let recipes = self.recipes.take().map(|hasher| hasher.finalize());
        let codec = if recipes.is_some() { codec.of_recipes() } else { codec };
        EncodedFrame { codec, encoded, plain_len: self.plain.len(), chunks: std::mem::take(&mut self.chunks), recipes }
    }

    /// Empties the frame; its memory is kept.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.chunks = Vec::new();
        self.recipes = None;
        self.is_rows = false;
    }

    /// Lends what was gathered.
    #[cfg(test)]
    pub(super) fn memory_of_tests(&mut self) -> &mut [u8] {
        &mut self.plain
    }

    /// Lends the memory of a frame that was cleared.
    pub(super) fn memory(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.is_empty(), "the frame was cleared");
        &mut self.plain
    }
}

/// A frame as it will be sealed, and what the directory will say about it.
#[derive(Debug)]
pub struct EncodedFrame<'a> {
    codec: Codec,
    encoded: &'a [u8],
    plain_len: usize,
    chunks: Vec<(ChunkKey, u32)>,
    recipes: Option<blake3::Hash>,
}

impl<'a> EncodedFrame<'a> {
    /// Returns the length that it will have when it is sealed.
    pub fn sealed_len(&self) -> usize {
        self.encoded.len() + TAG_LEN
    }

    /// Returns how many chunks are in it.
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Returns the hash of its plaintext, where that is of recipes.
    pub(super) fn recipes(&self) -> Option<blake3::Hash> {
        self.recipes
    }

    /// Takes it apart: codec, encoded bytes, length of the plaintext, chunks.
    pub(super) fn into_parts(self) -> (Codec, &'a [u8], usize, Vec<(ChunkKey, u32)>) {
        (self.codec, self.encoded, self.plain_len, self.chunks)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    /// A chunk that holds these words comes upon faulty memory in a test: a bit of it flips when its id has been computed.
    pub(crate) const FLIPS: &[u8] = b"a bit of this chunk flips in memory";

    /// Flips a bit of a chunk, if it is marked.
    pub(super) fn with_flipped(mut plain: Vec<u8>) -> Vec<u8> {
        let length = plain.len();
        flip_marked(&mut plain, length);
        plain
    }

    /// Flips a bit of the last chunk of `plain`, which is `length` bytes long, if it is marked.
    pub(super) fn flip_marked(plain: &mut [u8], length: usize) {
        let start = plain.len() - length;
        if plain[start..].windows(FLIPS.len()).any(|words| words == FLIPS) {
            plain[start] ^= 1;
        }
    }
}
