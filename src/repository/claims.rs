//! Claims: which chunks a run stores, so that threads working at the same time do not store one twice.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::format::index::PackEntry;
use crate::model::id::ChunkKey;

/// The chunks that this run stores and that no index table holds yet.
#[derive(Debug, Default)]
pub struct Claims(Mutex<HashMap<ChunkKey, HowClaimed>>);

/// How a chunk is stored that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HowClaimed {
    Plain,
    Recipe,
}

impl Claims {
    /// Takes the right, and the duty, to store a chunk; `false` when another thread has it.
    pub(super) fn claim(&self, key: ChunkKey) -> bool {
        self.claim_as(key, HowClaimed::Plain)
    }

    /// Does the same for a chunk that is stored as a recipe.
    pub(super) fn claim_recipe(&self, key: ChunkKey) -> bool {
        self.claim_as(key, HowClaimed::Recipe)
    }

    fn claim_as(&self, key: ChunkKey, how: HowClaimed) -> bool {
        let mut claims = self.0.lock().expect("no panic while held");
        let is_free = !claims.contains_key(&key);
        claims.entry(key).or_insert(how);
        is_free
    }

    /// Tells whether this run stores a chunk, plain or as a recipe.
    pub(super) fn has(&self, key: &ChunkKey) -> bool {
        self.0.lock().expect("no panic while held").contains_key(key)
    }

    /// Tells whether this run stores a chunk plain.
    pub(super) fn has_plain(&self, key: &ChunkKey) -> bool {
        self.0.lock().expect("no panic while held").get(key) == Some(&HowClaimed::Plain)
    }

    /// Drops the claims of chunks that an index table holds now.
    pub(crate) fn forget(&self, packs: &[PackEntry]) {
        let mut claims = self.0.lock().expect("no panic while held");
        for (key, _) in packs.iter().flat_map(|pack| &pack.directory.frames).flat_map(|frame| &frame.chunks) {
            claims.remove(key);
        }
    }
}
