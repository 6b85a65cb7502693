//! Claims: which chunks a run stores, so that threads working at the same time do not store one twice.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::format::index::PackEntry;
use crate::model::id::ChunkKey;

/// The chunks that this run stores and that no index table holds yet.
#[derive(Debug, Default)]
pub struct Claims(Mutex<HashSet<ChunkKey>>);

impl Claims {
    /// Takes the right, and the duty, to store a chunk; `false` when another thread has it.
    pub(super) fn claim(&self, key: ChunkKey) -> bool {
        self.0.lock().expect("no panic while held").insert(key)
    }

    /// Tells whether this run stores a chunk.
    pub(super) fn has(&self, key: &ChunkKey) -> bool {
        self.0.lock().expect("no panic while held").contains(key)
    }

    /// Drops the claims of chunks that an index table holds now.
    pub(crate) fn forget(&self, packs: &[PackEntry]) {
        let mut claims = self.0.lock().expect("no panic while held");
        for (key, _) in packs.iter().flat_map(|pack| &pack.directory.frames).flat_map(|frame| &frame.chunks) {
            claims.remove(key);
        }
    }
}
