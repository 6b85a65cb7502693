//! Chunk ids: keyed BLAKE3, so that equal plaintext is recognised inside a domain and by nobody else.

use crate::crypto::derive::DedupSecret;
use crate::crypto::secret::Secret;
use crate::model::id::ChunkId;

/// Computes the ids of a domain's chunks.
#[derive(Clone)]
pub struct ChunkHasher(Secret);

impl ChunkHasher {
    /// Derives the domain's id key.
    pub fn new(dedup: &DedupSecret) -> Self {
        Self(dedup.chunk_id_key())
    }

    /// Returns the id of `plaintext`.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.0.expose(), plaintext).as_bytes())
    }
}

impl std::fmt::Debug for ChunkHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkHasher(…)")
    }
}
