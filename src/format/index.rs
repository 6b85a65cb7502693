//! Index segments: the directories of packs, gathered, so that a chunk is found without touching the packs.
//!
//! A segment lists packs in the order in which they were written, with their frames and chunks in order. Positions follow
//! from the order and need no bytes: a chunk costs about 18 bytes, where a table sorted by id, with frame and offset beside
//! each id, would cost 28. Clients sort once, into the local cache (`repository::index`), and search there.

use std::collections::HashSet;
use std::sync::Arc;

use crate::crypto::seal::COMMITMENT_LEN;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::format::object::INDEX;
use crate::format::pack::{PACK_CHUNKS_WRITTEN, PackDirectory, PackKind};
use crate::format::wire::Cursor;
use crate::format::{FormatError, write_varint};
use crate::model::author::Author;
use crate::model::id::{PackId, WriterId};
use crate::model::key::PACK_BYTES_MAX;

const WHAT: &str = INDEX.0.what;

/// Chunks that a segment tells of, at most: what a writer gathers until it stores one, and a pack on top of that.
pub const SEGMENT_CHUNKS_MAX: usize = (1 << 18) + PACK_CHUNKS_WRITTEN;

/// One pack, as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// The pack.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Length of the whole object in bytes.
    pub size: u32,
    /// SHA-256 of the whole object.
    pub digest: [u8; 32],
    /// The day, counted from 1970-01-01, until which the store was asked to keep the object at least; 0 where it was not asked.
    pub locked_until: u32,
    /// The commitment to its key.
    pub commitment: [u8; COMMITMENT_LEN],
    /// The session that wrote it.
    pub header: Arc<SessionHeader>,
    /// Its frames.
    pub directory: PackDirectory,
}

/// A segment of the index: some packs of one domain and key epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSegment {
    /// Whose word it is.
    author: Author,
    packs: Vec<PackEntry>,
    /// A reader repeats what the author said.
    is_repeated: bool,
}

impl IndexSegment {
    /// Gathers packs. Who seals the segment has made sure that they are stored.
    pub(crate) fn of(author: Author, packs: Vec<PackEntry>) -> Self {
        Self { author, packs, is_repeated: false }
    }

    /// Gathers packs that `author` told of in other segments, for a reader to repeat.
    pub(crate) fn repeating(author: Author, packs: Vec<PackEntry>) -> Self {
        Self { author, packs, is_repeated: author != Author::Reader }
    }

    /// Returns who says so, which is not the reader that only repeats it.
    pub fn author(&self) -> Author {
        self.author
    }

    /// Gathers packs that may not be there, or not so: what a hostile writer does, for tests.
    #[cfg(feature = "internals")]
    pub fn forged(packs: Vec<PackEntry>) -> Self {
        Self::of(Author::Reader, packs)
    }

    /// Returns the packs.
    pub fn packs(&self) -> &[PackEntry] {
        &self.packs
    }

    /// Takes the packs out.
    pub(crate) fn into_packs(self) -> Vec<PackEntry> {
        self.packs
    }

    /// Returns the number of chunks in the segment.
    pub fn chunk_count(&self) -> usize {
        self.packs.iter().flat_map(|pack| &pack.directory.frames).map(|frame| frame.chunks.len()).sum()
    }

    /// Encodes the segment's value, which is sealed under the domain's index key.
    pub fn encode(&self) -> Vec<u8> {
        let mut headers: Vec<&SessionHeader> = Vec::new();
        let mut out = Vec::with_capacity(self.chunk_count() * 19 + self.packs.len() * 96 + SESSION_HEADER_LEN);
        for pack in &self.packs {
            if !headers.iter().any(|header| **header == *pack.header) {
                headers.push(&pack.header);
            }
        }
        write_varint(headers.len() as u64, &mut out);
        headers.iter().for_each(|header| out.extend_from_slice(&header.to_bytes()));
        write_varint(self.packs.len() as u64, &mut out);
        for pack in &self.packs {
            let session = headers.iter().position(|header| **header == *pack.header).expect("gathered above");
            out.extend_from_slice(&pack.id.0);
            out.push(pack.kind as u8);
            out.extend_from_slice(&pack.size.to_le_bytes());
            out.extend_from_slice(&pack.digest);
            write_varint(u64::from(pack.locked_until), &mut out);
            out.extend_from_slice(&pack.commitment);
            write_varint(session as u64, &mut out);
            pack.directory.encode_into(&mut out);
        }
        if self.is_repeated {
            out.extend_from_slice(&self.author.to_bytes());
        }
        out
    }

    /// Decodes an opened segment, of which the author block is by `signed`.
    ///
    /// # Errors
    /// [`FormatError`] when it is not one.
    pub fn decode(signed: Author, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes);
        let count = cursor.length()?;
        cursor.expect_items(count, SESSION_HEADER_LEN)?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            headers.push(Arc::new(SessionHeader::from_bytes(&cursor.array::<SESSION_HEADER_LEN>()?)));
        }
        let count = cursor.length()?;
        let mut packs = Vec::with_capacity(count.min(4096));
        let mut ids = HashSet::with_capacity(count.min(4096));
        let mut room = SEGMENT_CHUNKS_MAX;
        for _ in 0..count {
            let id = PackId(cursor.array()?);
            let kind = PackKind::from_byte(cursor.u8()?)
                .ok_or_else(|| FormatError::invalid(WHAT, "an unknown kind of pack"))?;
            if !ids.insert(id) {
                return Err(FormatError::invalid(WHAT, "it names a pack twice"));
            }
            let size = cursor.u32()?;
            if u64::from(size) > PACK_BYTES_MAX {
                return Err(FormatError::invalid(WHAT, "a pack is longer than one can be"));
            }
            let digest = cursor.array()?;
            let locked_until = u32::try_from(cursor.varint()?)
                .map_err(|_| FormatError::invalid(WHAT, "a pack is locked for longer than there are days"))?;
            let commitment = cursor.array()?;
            let session = cursor.varint()?;
            let header = usize::try_from(session)
                .ok()
                .and_then(|session| headers.get(session))
                .ok_or_else(|| FormatError::invalid(WHAT, "a pack's session is missing"))?
                .clone();
            let directory = PackDirectory::decode_from(&mut cursor, &mut room)?;
            if directory.frames_len() > u64::from(size) {
                return Err(FormatError::invalid(WHAT, "frames lie outside their pack"));
            }
            packs.push(PackEntry { id, kind, size, digest, locked_until, commitment, header, directory });
        }
        let is_repeated = cursor.rest().len() == WriterId::LEN;
        let author = if is_repeated { Author::from_bytes(cursor.array()?) } else { signed };
        if is_repeated && (signed != Author::Reader || author == Author::Reader) {
            return Err(FormatError::invalid(WHAT, "only a reader repeats what a writer said"));
        }
        cursor.finish()?;
        Ok(Self { author, packs, is_repeated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, FrameRecord};
    use crate::model::id::ChunkKey;

    fn entry(id: u8, size: u32, sealed_len: u32) -> PackEntry {
        let frame =
            FrameRecord { sealed_len, plain_len: 1000, codec: Codec::Zstd, chunks: vec![(ChunkKey([id; 16]), 1000)] };
        PackEntry {
            id: PackId([id; 16]),
            kind: PackKind::Data,
            size,
            digest: [id; 32],
            locked_until: 20_000,
            commitment: [id; COMMITMENT_LEN],
            header: Arc::new(SessionHeader::from_bytes(&[3; SESSION_HEADER_LEN])),
            directory: PackDirectory { frames: vec![frame] },
        }
    }

    fn decoded(signed: Author, segment: &IndexSegment) -> Option<IndexSegment> {
        IndexSegment::decode(signed, &segment.encode()).ok()
    }

    #[test]
    fn packs_are_taken_up_to_what_one_can_be() {
        let of = |packs| IndexSegment::of(Author::Reader, packs);
        let largest = u32::try_from(PACK_BYTES_MAX).expect("below 4 GiB");
        for fits in [entry(1, largest, 500), entry(1, 500, 500)] {
            let segment = of(vec![fits, entry(2, 2000, 100)]);
            assert_eq!(decoded(Author::Reader, &segment), Some(segment));
        }
        for unfit in [entry(1, largest + 1, 500), entry(1, 499, 500)] {
            assert_eq!(decoded(Author::Reader, &of(vec![unfit])), None);
        }
        assert_eq!(decoded(Author::Reader, &of(vec![entry(1, 500, 100), entry(1, 500, 100)])), None, "one pack twice");
    }

    #[test]
    fn only_a_reader_repeats_and_only_what_a_writer_said() {
        let (ann, bob) = (Author::Writer(WriterId([1; 8])), Author::Writer(WriterId([2; 8])));
        let repeated = IndexSegment::repeating(ann, vec![entry(1, 500, 100)]);
        assert_eq!(decoded(Author::Reader, &repeated), Some(repeated.clone()));
        assert_eq!(decoded(bob, &repeated), None);
        let own = IndexSegment::repeating(Author::Reader, vec![entry(1, 500, 100)]);
        assert_eq!(decoded(Author::Reader, &own), Some(own.clone()));
        let mut as_if = own.encode();
        as_if.extend_from_slice(&Author::Reader.to_bytes());
        assert!(IndexSegment::decode(Author::Reader, &as_if).is_err());
        assert_eq!(decoded(ann, &own).map(|segment| segment.author()), Some(ann));
    }
}
