//! Packs in the making: frames are sealed into memory, never into a network.

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::pack::PackSealer;
use crate::crypto::random;
use crate::crypto::seal::TAG_LEN;
use crate::crypto::session::{SessionHeader, SessionSecret};
use crate::format::index::PackEntry;
use crate::format::pack::{
    Codec, FrameRecord, PackDirectory, PackKind, TRAILER_LEN, Tail, append_trailer, padded_pack_len,
};
use crate::model::id::{ChunkKey, PackId, RepositoryId};

/// A pack that is being filled.
pub struct PackBuilder {
    sealer: PackSealer,
    kind: PackKind,
    header: Arc<SessionHeader>,
    directory: PackDirectory,
    bytes: Vec<u8>,
}

/// A complete pack in memory, sealed, with its index entry.
#[derive(Debug, Clone)]
pub struct PackImage {
    /// What the index will say about it.
    pub entry: PackEntry,
    /// The whole object.
    pub bytes: Bytes,
}

impl PackBuilder {
    /// Starts a pack under a fresh random id. `capacity` is reserved for its bytes.
    pub fn new(
        secret: &SessionSecret,
        header: Arc<SessionHeader>,
        repository: RepositoryId,
        kind: PackKind,
        capacity: usize,
    ) -> Self {
        Self {
            sealer: PackSealer::new(secret, repository, PackId(random())),
            kind,
            header,
            directory: PackDirectory::default(),
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// Seals a frame into the pack. `encoded` is the frame's plaintext after `codec`.
    pub fn push_frame(&mut self, codec: Codec, encoded: &[u8], plain_len: usize, chunks: Vec<(ChunkKey, u32)>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(encoded);
        self.sealer.seal_frame(&mut self.bytes, start);
        self.directory.frames.push(FrameRecord {
            sealed_len: narrow(self.bytes.len() - start),
            plain_len: narrow(plain_len),
            codec,
            chunks,
        });
    }

    /// Returns the number of sealed bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Tells whether no frame was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Seals the directory, pads, and completes the pack.
    pub fn finish(mut self) -> PackImage {
        let pack = self.sealer.pack();
        let commitment = self.sealer.commitment();
        let directory_offset = self.bytes.len();
        self.directory.encode_into(&mut self.bytes);
        self.sealer.seal_directory(&mut self.bytes, directory_offset);
        let directory_len = self.bytes.len() - directory_offset;

        let object_len = padded_pack_len((self.bytes.len() + TRAILER_LEN) as u64) as usize;
        let padding = object_len - TRAILER_LEN - self.bytes.len();
        append_random(padding, &mut self.bytes);
        let tail = Tail {
            directory_offset: narrow(directory_offset),
            directory_len: narrow(directory_len),
            object_len: narrow(object_len),
            frames: narrow(self.directory.frames.len()),
            kind: self.kind,
        };
        let tail_offset = self.bytes.len();
        self.bytes.extend_from_slice(&tail.encode());
        self.sealer.finish(&mut self.bytes, tail_offset);
        append_trailer(&commitment, &self.header.to_bytes(), &mut self.bytes);
        debug_assert_eq!(self.bytes.len(), object_len);
        let entry = PackEntry {
            id: pack,
            kind: self.kind,
            size: narrow(object_len),
            commitment,
            header: self.header,
            directory: self.directory,
        };
        PackImage { entry, bytes: self.bytes.into() }
    }
}

/// Returns the sealed size of a frame of `encoded` bytes.
pub fn sealed_len(encoded: usize) -> usize {
    encoded + TAG_LEN
}

/// Appends bytes that cannot be told from sealed ones: the output of BLAKE3 under a random key.
fn append_random(len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len, 0);
    blake3::Hasher::new_keyed(&random()).finalize_xof().fill(&mut out[start..]);
}

fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("packs are far below 4 GiB")
}
