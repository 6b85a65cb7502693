//! Chunk ids: keyed BLAKE3, so that equal plaintext is recognised inside a domain and by nobody else.

use zeroize::Zeroize;

use crate::crypto::derive::DedupSecret;
use crate::model::id::ChunkId;

/// Computes the ids of a domain's chunks.
#[derive(Clone)]
pub struct ChunkHasher(Box<[u8; 32]>);

impl ChunkHasher {
    /// Derives the domain's id key.
    pub fn new(dedup: &DedupSecret) -> Self {
        Self(Box::new(*dedup.chunk_id_key().expose()))
    }

    /// Returns the id of `plaintext`.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.0, plaintext).as_bytes())
    }
}

impl Drop for ChunkHasher {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for ChunkHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkHasher(…)")
    }
}
