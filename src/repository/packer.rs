//! Packs in the making: frames are sealed into memory, never into a network.
//!
//! Only [`PackBuilder::finish`] makes a [`PackImage`], and only what a [`Frame`](crate::repository::frame::Frame) gathered gets into it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::digest::sha256_of;
use crate::crypto::pack::PackSealer;
use crate::crypto::random;
use crate::crypto::session::{SessionHeader, SessionSecret};
use crate::format::index::PackEntry;
use crate::format::pack::{
    FrameRecord, PACK_CHUNKS_WRITTEN, PackDirectory, PackKind, TRAILER_LEN, Tail, append_trailer, padded_pack_len,
};
use crate::model::id::{PackId, RepositoryId};
use crate::repository::frame::EncodedFrame;

/// A pack that is being filled.
pub struct PackBuilder {
    sealer: PackSealer,
    kind: PackKind,
    header: Arc<SessionHeader>,
    directory: PackDirectory,
    chunk_count: usize,
    recipes: HashMap<u32, blake3::Hash>,
    bytes: Vec<u8>,
}

/// A complete pack in memory, sealed, with its index entry.
#[derive(Debug)]
pub struct PackImage {
    entry: PackEntry,
    /// The hashes of frames of recipes, by their numbers.
    recipes: HashMap<u32, blake3::Hash>,
    bytes: Bytes,
}

impl PackImage {
    /// Returns what the index will say about it.
    pub fn entry(&self) -> &PackEntry {
        &self.entry
    }

    /// Returns the whole object.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the hash of what a frame of recipes was made of.
    pub(super) fn recipes(&self, frame: u32) -> Option<blake3::Hash> {
        self.recipes.get(&frame).copied()
    }

    /// Takes it apart: what the index will say about it, and the whole object.
    pub(super) fn into_parts(self) -> (PackEntry, Bytes) {
        (self.entry, self.bytes)
    }

    /// Returns the same pack after a fault of the memory.
    #[cfg(test)]
    pub(super) fn with_flipped_bit(&self, at: usize) -> Self {
        let mut bytes = self.bytes.to_vec();
        bytes[at] ^= 1;
        Self { entry: self.entry.clone(), recipes: self.recipes.clone(), bytes: bytes.into() }
    }
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
            chunk_count: 0,
            recipes: HashMap::new(),
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// Seals a frame into the pack.
    pub fn push_frame(&mut self, frame: EncodedFrame<'_>) {
        let number = narrow(self.directory.frames.len());
        self.recipes.extend(frame.recipes().map(|hash| (number, hash)));
        self.chunk_count += frame.chunk_count();
        let (codec, encoded, plain_len, chunks) = frame.into_parts();
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

    /// Tells whether a frame fits: one that would overfill the pack goes into the next one. A pack always takes its first.
    pub(super) fn has_room_for(&self, frame: &EncodedFrame<'_>, target_bytes: usize) -> bool {
        self.bytes.len() + frame.sealed_len() <= target_bytes
            && self.chunk_count + frame.chunk_count() <= PACK_CHUNKS_WRITTEN
    }

    /// Seals the directory, pads, and completes the pack.
    pub fn finish(mut self) -> PackImage {
        let pack = self.sealer.pack();
        let commitment = self.sealer.commitment();
        let directory_offset = self.bytes.len();
        self.directory.encode_into(&mut self.bytes);
        let tail_sealer = self.sealer.seal_directory(&mut self.bytes, directory_offset);
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
        tail_sealer.finish(&mut self.bytes, tail_offset);
        append_trailer(&commitment, &self.header.to_bytes(), &mut self.bytes);
        debug_assert_eq!(self.bytes.len(), object_len);
        let entry = PackEntry {
            id: pack,
            kind: self.kind,
            size: narrow(object_len),
            digest: sha256_of(&self.bytes),
            // The store is not asked to lock anything yet.
            locked_until: 0,
            commitment,
            header: self.header,
            directory: self.directory,
        };
        PackImage { entry, recipes: self.recipes, bytes: self.bytes.into() }
    }
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
