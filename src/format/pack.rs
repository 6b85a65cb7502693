//! Packs: sealed frames, the sealed directory that says what is in them, padding, and a trailer.
//!
//! ```text
//! frame 0 … frame n−1 | directory | padding | tail 40 | commitment 32 | session header 1204 | mark 8
//! ```
//!
//! The last 1284 bytes are the trailer. Its sealed tail says where the directory stands, so no length is in the clear.

use crate::crypto::seal::{COMMITMENT_LEN, TAG_LEN, padme};
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::format::object::PACK;
use crate::format::wire::Cursor;
use crate::format::{FormatError, write_varint};
use crate::model::id::ChunkKey;
use crate::model::key::PACK_BYTES_MAX;

const WHAT: &str = PACK.what;
const DIRECTORY: &str = "a pack's directory";
const TAIL_LEN: usize = 24;

/// Length of a pack's trailer.
pub const TRAILER_LEN: usize = TAIL_LEN + TAG_LEN + COMMITMENT_LEN + SESSION_HEADER_LEN + 8;
/// The longest plaintext of a frame, in bytes; readers refuse more before they decompress.
pub const FRAME_PLAIN_MAX: u32 = 16 << 20;
/// The longest sealed directory, in bytes: an index segment has to hold it.
pub const DIRECTORY_BYTES_MAX: u32 = 48 << 20;
/// What a directory says of a frame takes at least two lengths, the codec, the number of chunks, and a chunk's length and key.
const FRAME_LEN_MIN: usize = 5 + ChunkKey::LEN;
/// Chunks in a pack, at most, as writers make it: index segments have room for what they tell of it.
pub const PACK_CHUNKS_WRITTEN: usize = 1 << 17;
/// Granularity to which full packs are padded.
const FULL_PACK_STEP: u64 = 64 << 10;

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PackKind {
    /// Contents of files and streams.
    Data = 0,
    /// Nodes of trees and of chunk lists.
    Tree = 1,
}

impl PackKind {
    /// Reads the byte that stands for a kind.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(PackKind::Data),
            1 => Some(PackKind::Tree),
            _ => None,
        }
    }
}

/// How a frame's plaintext became the bytes that were sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Stored = 0,
    /// One zstd frame (RFC 8878) with its content size.
    Zstd = 1,
    /// As it is; what it holds are recipes of the chunks, not the chunks.
    StoredRecipes = 2,
    /// One zstd frame of recipes.
    ZstdRecipes = 3,
}

impl Codec {
    /// Reads the byte that stands for a codec.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Codec::Stored),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::StoredRecipes),
            3 => Some(Codec::ZstdRecipes),
            _ => None,
        }
    }

    /// Tells whether what it holds are recipes: lengths are those of the recipes, keys those of what they make.
    pub fn holds_recipes(self) -> bool {
        matches!(self, Codec::StoredRecipes | Codec::ZstdRecipes)
    }

    /// Returns the same codec for a frame of recipes.
    pub fn of_recipes(self) -> Self {
        match self {
            Codec::Stored | Codec::StoredRecipes => Codec::StoredRecipes,
            Codec::Zstd | Codec::ZstdRecipes => Codec::ZstdRecipes,
        }
    }
}

/// What a directory says of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRecord {
    /// Length of the sealed frame with its tag, in bytes.
    pub sealed_len: u32,
    /// Length of its plaintext, in bytes.
    pub plain_len: u32,
    /// How the plaintext was encoded.
    pub codec: Codec,
    /// The chunks in it, in order, by key and length; their lengths add up to `plain_len`. Where the codec says that these are
    /// recipes, the lengths are those of the recipes.
    pub chunks: Vec<(ChunkKey, u32)>,
}

/// A pack's directory: its frames in order, the first at offset 0, each behind the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackDirectory {
    /// The frames.
    pub frames: Vec<FrameRecord>,
}

impl PackDirectory {
    /// Encodes the directory to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        let chunks: usize = self.frames.iter().map(|frame| frame.chunks.len()).sum();
        let mut out = Vec::with_capacity(self.frames.len() * 12 + chunks * 19 + 4);
        self.encode_into(&mut out);
        out
    }

    /// Appends the encoded directory to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        write_varint(self.frames.len() as u64, out);
        for frame in &self.frames {
            write_varint(u64::from(frame.sealed_len), out);
            write_varint(u64::from(frame.plain_len), out);
            out.push(frame.codec as u8);
            write_varint(frame.chunks.len() as u64, out);
            for (_, length) in &frame.chunks {
                write_varint(u64::from(*length), out);
            }
            for (key, _) in &frame.chunks {
                out.extend_from_slice(&key.0);
            }
        }
    }

    /// Decodes an opened directory.
    ///
    /// # Errors
    /// [`FormatError`] when it is not one, or its lengths do not add up.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(DIRECTORY, bytes);
        let directory = Self::decode_from(&mut cursor, &mut { usize::MAX })?;
        cursor.finish()?;
        Ok(directory)
    }

    /// Decodes a directory that stands among other things, for whose chunks there is `room`, and takes them off that.
    pub(crate) fn decode_from(cursor: &mut Cursor<'_>, room: &mut usize) -> Result<Self, FormatError> {
        let count = cursor.length()?;
        cursor.expect_items(count, FRAME_LEN_MIN)?;
        let mut frames = Vec::with_capacity(count.min(*room));
        let mut offset = FrameOffset::default();
        for _ in 0..count {
            let frame = FrameView::read(cursor)?;
            offset.pass(&frame)?;
            let left = room.checked_sub(frame.chunk_count());
            *room = left.ok_or_else(|| FormatError::invalid(DIRECTORY, "it tells of more chunks than it may"))?;
            frames.push(frame.record());
        }
        Ok(Self { frames })
    }

    /// Returns the sum of the sealed frames' lengths, which is where the sealed directory starts.
    pub fn frames_len(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.sealed_len)).sum()
    }
}

/// What a directory says of one frame, but for its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Length of the sealed frame with its tag, in bytes.
    pub sealed_len: u32,
    /// Length of its plaintext, in bytes.
    pub plain_len: u32,
    /// How the plaintext was encoded.
    pub codec: Codec,
}

impl FrameRecord {
    /// Returns what is said of it, but for its chunks.
    pub fn head(&self) -> FrameHead {
        FrameHead { sealed_len: self.sealed_len, plain_len: self.plain_len, codec: self.codec }
    }
}

/// What an encoded directory says of one frame, not taken apart further.
#[derive(Debug, Clone, Copy)]
pub struct FrameView<'a> {
    /// Lengths and codec.
    pub head: FrameHead,
    lengths: &'a [u8],
    keys: &'a [u8],
}

impl<'a> FrameView<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, FormatError> {
        let small =
            |value: u64| u32::try_from(value).map_err(|_| FormatError::invalid(DIRECTORY, "a length is too large"));
        let sealed_len = small(cursor.varint()?)?;
        let plain_len = small(cursor.varint()?)?;
        let codec = Codec::from_byte(cursor.u8()?)
            .ok_or_else(|| FormatError::invalid(DIRECTORY, "a frame is encoded in an unknown way"))?;
        let chunk_count = cursor.length()?;
        cursor.expect_items(chunk_count, 17)?;
        // What compressing does not make shorter is stored as it is.
        if plain_len > FRAME_PLAIN_MAX || sealed_len < TAG_LEN as u32 || sealed_len > plain_len + TAG_LEN as u32 {
            return Err(FormatError::invalid(DIRECTORY, "a frame's length is out of range"));
        }
        if chunk_count == 0 {
            return Err(FormatError::invalid(DIRECTORY, "a frame has no chunk"));
        }
        let (from_lengths, mut sum) = (cursor.rest(), 0);
        for _ in 0..chunk_count {
            let length = small(cursor.varint()?)?;
            if length == 0 {
                return Err(FormatError::invalid(DIRECTORY, "a chunk has no bytes"));
            }
            sum += u64::from(length);
        }
        if sum != u64::from(plain_len) {
            return Err(FormatError::invalid(DIRECTORY, "a frame's chunks do not add up to its length"));
        }
        let lengths = &from_lengths[..from_lengths.len() - cursor.rest().len()];
        let keys = cursor.bytes(chunk_count * ChunkKey::LEN)?;
        Ok(Self { head: FrameHead { sealed_len, plain_len, codec }, lengths, keys })
    }

    /// Returns how many chunks there are.
    pub fn chunk_count(&self) -> usize {
        self.keys.len() / ChunkKey::LEN
    }

    /// Returns the chunks, in order, by key and length.
    pub fn chunks(&self) -> impl Iterator<Item = (ChunkKey, u32)> + use<'a> {
        let mut lengths = Cursor::new(DIRECTORY, self.lengths);
        self.keys.chunks_exact(ChunkKey::LEN).map(move |key| {
            let length = lengths.varint().expect("read before");
            (ChunkKey(key.try_into().expect("16 bytes")), length as u32)
        })
    }

    /// Takes it apart.
    pub fn record(&self) -> FrameRecord {
        let FrameHead { sealed_len, plain_len, codec } = self.head;
        FrameRecord { sealed_len, plain_len, codec, chunks: self.chunks().collect() }
    }
}

/// Where a frame begins, behind those that were passed.
#[derive(Debug, Default)]
struct FrameOffset(u32);

impl FrameOffset {
    fn pass(&mut self, frame: &FrameView<'_>) -> Result<(), FormatError> {
        let end = self.0.checked_add(frame.head.sealed_len);
        self.0 = end.ok_or_else(|| FormatError::invalid(DIRECTORY, "the frames are longer than a pack can be"))?;
        Ok(())
    }
}

/// An encoded directory that is known to be one, kept as it is: decoded it takes several times its bytes.
#[derive(Debug)]
pub struct EncodedDirectory {
    bytes: Vec<u8>,
    first: usize,
    frames: usize,
    frames_len: u64,
    chunks: usize,
    holds_recipes: bool,
}

impl EncodedDirectory {
    /// Looks through an opened directory.
    ///
    /// # Errors
    /// As [`PackDirectory::decode`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(DIRECTORY, &bytes);
        let frames = cursor.length()?;
        let first = bytes.len() - cursor.rest().len();
        let (mut offset, mut chunks, mut holds_recipes) = (FrameOffset::default(), 0, false);
        for _ in 0..frames {
            let frame = FrameView::read(&mut cursor)?;
            offset.pass(&frame)?;
            chunks += frame.chunk_count();
            holds_recipes |= frame.head.codec.holds_recipes();
        }
        cursor.finish()?;
        Ok(Self { first, frames, frames_len: u64::from(offset.0), chunks, holds_recipes, bytes })
    }

    /// Returns the frames, in order.
    pub fn frames(&self) -> Frames<'_> {
        self.frames_from(self.first)
    }

    /// Returns the frames from that on of which [`Frames::position`] told.
    pub fn frames_from(&self, position: usize) -> Frames<'_> {
        Frames { cursor: Cursor::new(DIRECTORY, &self.bytes[position..]), len: self.bytes.len() }
    }

    /// Returns how many frames there are.
    pub fn frame_count(&self) -> usize {
        self.frames
    }

    /// Tells whether any of its frames holds recipes.
    pub fn holds_recipes(&self) -> bool {
        self.holds_recipes
    }

    /// Returns the sum of the sealed frames' lengths, which is where the sealed directory starts.
    pub fn frames_len(&self) -> u64 {
        self.frames_len
    }

    /// Returns how many chunks there are.
    pub fn chunk_count(&self) -> usize {
        self.chunks
    }

    /// Returns its length in bytes.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The frames that a directory tells of.
#[derive(Debug)]
pub struct Frames<'a> {
    cursor: Cursor<'a>,
    len: usize,
}

impl Frames<'_> {
    /// Returns where the directory tells of the next one.
    pub fn position(&self) -> usize {
        self.len - self.cursor.rest().len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameView<'a>;

    fn next(&mut self) -> Option<FrameView<'a>> {
        (!self.cursor.rest().is_empty()).then(|| FrameView::read(&mut self.cursor).expect("looked at before"))
    }
}

/// What a pack's sealed tail says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Where the sealed directory starts.
    pub directory_offset: u32,
    /// Length of the sealed directory with its tag.
    pub directory_len: u32,
    /// Length of the whole object.
    pub object_len: u32,
    /// Number of frames.
    pub frames: u32,
    /// What the pack holds.
    pub kind: PackKind,
}

impl Tail {
    /// Encodes the tail to be sealed.
    pub fn encode(&self) -> [u8; TAIL_LEN] {
        let mut bytes = [0; TAIL_LEN];
        for (slot, value) in
            bytes.chunks_exact_mut(4).zip([self.directory_offset, self.directory_len, self.object_len, self.frames])
        {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        bytes[16] = self.kind as u8;
        bytes
    }

    /// Decodes an opened tail.
    ///
    /// # Errors
    /// [`FormatError`] when it has another length or points outside the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new("a pack's tail", bytes);
        let tail = Tail {
            directory_offset: cursor.u32()?,
            directory_len: cursor.u32()?,
            object_len: cursor.u32()?,
            frames: cursor.u32()?,
            kind: PackKind::from_byte(cursor.u8()?)
                .ok_or_else(|| FormatError::invalid("a pack's tail", "an unknown kind of pack"))?,
        };
        cursor.bytes(7)?;
        cursor.finish()?;
        let end = u64::from(tail.directory_offset) + u64::from(tail.directory_len) + TRAILER_LEN as u64;
        if end > u64::from(tail.object_len) {
            return Err(FormatError::invalid("a pack's tail", "the directory lies outside the pack"));
        }
        if u64::from(tail.object_len) > PACK_BYTES_MAX || tail.directory_len > DIRECTORY_BYTES_MAX {
            return Err(FormatError::invalid("a pack's tail", "it is longer than a pack can be"));
        }
        Ok(tail)
    }
}

/// Appends everything of the trailer behind the sealed tail, which must be the last thing in `out`.
pub fn append_trailer(commitment: &[u8; COMMITMENT_LEN], header: &[u8; SESSION_HEADER_LEN], out: &mut Vec<u8>) {
    out.extend_from_slice(commitment);
    out.extend_from_slice(header);
    out.extend_from_slice(&PACK.mark);
}

/// A pack's trailer, taken apart but not opened.
#[derive(Debug, Clone)]
pub struct Trailer {
    /// The sealed tail.
    pub sealed_tail: [u8; TAIL_LEN + TAG_LEN],
    /// The commitment to the pack's key.
    pub commitment: [u8; COMMITMENT_LEN],
    /// The session that wrote the pack.
    pub header: SessionHeader,
}

impl Trailer {
    /// Takes the last [`TRAILER_LEN`] bytes of a pack apart.
    ///
    /// # Errors
    /// [`FormatError`] when they are not a trailer.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes);
        let sealed_tail = cursor.array()?;
        let commitment = cursor.array()?;
        let header = SessionHeader::from_bytes(&cursor.array::<SESSION_HEADER_LEN>()?);
        cursor.mark(&PACK.mark)?;
        cursor.finish()?;
        Ok(Self { sealed_tail, commitment, header })
    }
}

/// Returns the size to which a pack of `len` bytes is padded.
///
/// Small packs follow PADMÉ. Packs of 2 MiB and more are rounded up to 64 KiB: PADMÉ or a fixed size would cost 1 to 3 %
/// of all storage, and what a large pack's size tells within 64 KiB is how well 32 MiB of unknown data compressed.
pub fn padded_pack_len(len: u64) -> u64 {
    if len < 2 << 20 { padme(len) } else { len.next_multiple_of(FULL_PACK_STEP) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_round_trips() {
        let chunk = |byte, length| (ChunkKey([byte; 16]), length);
        let directory = PackDirectory {
            frames: vec![
                FrameRecord {
                    sealed_len: 316,
                    plain_len: 1000,
                    codec: Codec::Zstd,
                    chunks: vec![chunk(1, 400), chunk(2, 600)],
                },
                FrameRecord { sealed_len: 26, plain_len: 10, codec: Codec::Stored, chunks: vec![chunk(3, 10)] },
            ],
        };
        assert_eq!(PackDirectory::decode(&directory.encode()), Ok(directory.clone()));
        assert_eq!(directory.frames_len(), 342);
        let kept = EncodedDirectory::new(directory.encode()).expect("a directory");
        assert_eq!((kept.frame_count(), kept.frames_len(), kept.chunk_count()), (2, 342, 3));
        assert_eq!(kept.frames().map(|frame| frame.record()).collect::<Vec<_>>(), directory.frames);
        let mut frames = kept.frames();
        frames.next();
        let second = kept.frames_from(frames.position()).map(|frame| frame.record());
        assert_eq!(second.collect::<Vec<_>>(), directory.frames[1..]);
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let mut directory = PackDirectory {
            frames: vec![FrameRecord {
                sealed_len: 30,
                plain_len: 10,
                codec: Codec::Stored,
                chunks: vec![(ChunkKey([1; 16]), 10)],
            }],
        };
        assert!(
            PackDirectory::decode(&directory.encode()).is_err(),
            "sealed it is longer than its plaintext and the tag"
        );
        directory.frames[0].sealed_len = 26;
        assert!(PackDirectory::decode(&directory.encode()).is_ok());
        directory.frames[0].chunks.push((ChunkKey([2; 16]), 0));
        assert!(PackDirectory::decode(&directory.encode()).is_err(), "a chunk without bytes");
        directory.frames[0].chunks = vec![(ChunkKey([1; 16]), 11)];
        assert!(PackDirectory::decode(&directory.encode()).is_err());
        directory.frames[0] = FrameRecord { sealed_len: 16, plain_len: 0, codec: Codec::Stored, chunks: Vec::new() };
        assert!(PackDirectory::decode(&directory.encode()).is_err(), "a frame without chunks");
    }

    #[test]
    fn a_tail_may_not_point_outside_the_pack() {
        let tail = Tail { directory_offset: 100, directory_len: 50, object_len: 2000, frames: 1, kind: PackKind::Tree };
        assert_eq!(Tail::decode(&tail.encode()), Ok(tail));
        let outside = Tail { object_len: 1000, ..tail };
        assert!(Tail::decode(&outside.encode()).is_err());
        // To the byte: what is at a limit is taken.
        let touching = Tail { object_len: 150 + TRAILER_LEN as u32, ..tail };
        assert_eq!(Tail::decode(&touching.encode()), Ok(touching));
        assert!(Tail::decode(&Tail { object_len: touching.object_len - 1, ..touching }.encode()).is_err());
        let longest = Tail { object_len: 768 << 20, ..tail };
        assert_eq!(Tail::decode(&longest.encode()), Ok(longest));
        assert!(Tail::decode(&Tail { object_len: longest.object_len + 1, ..longest }.encode()).is_err());
        let crowded = Tail { directory_len: DIRECTORY_BYTES_MAX, ..longest };
        assert_eq!(Tail::decode(&crowded.encode()), Ok(crowded));
        assert!(Tail::decode(&Tail { directory_len: DIRECTORY_BYTES_MAX + 1, ..crowded }.encode()).is_err());
    }

    #[test]
    fn a_frame_may_be_as_long_as_the_limit_and_as_short_as_a_byte() {
        let is_taken = |sealed_len, plain_len| {
            let chunks = vec![(ChunkKey([1; 16]), plain_len)];
            let frames = vec![FrameRecord { sealed_len, plain_len, codec: Codec::Zstd, chunks }];
            PackDirectory::decode(&PackDirectory { frames }.encode()).is_ok()
        };
        let (tag, max) = (TAG_LEN as u32, FRAME_PLAIN_MAX);
        assert!(is_taken(max + tag, max) && is_taken(tag, 1) && is_taken(tag + 1, 1));
        assert!(!is_taken(100, max + 1) && !is_taken(tag - 1, 1) && !is_taken(tag + 2, 1));
    }

    #[test]
    fn small_packs_are_padded_by_padme_and_large_ones_to_64_kib() {
        assert_eq!(padded_pack_len((2 << 20) - 1), padme((2 << 20) - 1));
        for (len, padded) in [(2 << 20, 2 << 20), ((2 << 20) + 1, (2 << 20) + (64 << 10)), (32 << 20, 32 << 20)] {
            assert_eq!(padded_pack_len(len), padded, "{len}");
        }
    }
}
