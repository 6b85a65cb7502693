//! What a pack tells of itself, by its trailer and its directory.
//!
//! The directory is kept as it was opened and taken apart as it is walked: how long it is, whoever made the pack says, up to
//! [`DIRECTORY_BYTES_MAX`](crate::format::pack::DIRECTORY_BYTES_MAX), and decoded it takes several times that.

use std::sync::Arc;

use crate::crypto::seal::COMMITMENT_LEN;
use crate::crypto::session::SessionHeader;
use crate::format::index::PackEntry;
use crate::format::pack::{EncodedDirectory, Frames, PackDirectory, Tail};
use crate::model::author::Author;
use crate::model::id::{ChunkKey, PackId};
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::index::{Teller, locations_in};

/// A pack as it tells of itself, which is neither its digest nor how long it is kept (both zero).
#[derive(Debug)]
pub struct OwnPack {
    info: PackInfo,
    directory: EncodedDirectory,
}

impl OwnPack {
    /// Takes what trailer and directory tell.
    pub fn new(
        id: PackId,
        tail: &Tail,
        commitment: [u8; COMMITMENT_LEN],
        header: Arc<SessionHeader>,
        directory: EncodedDirectory,
    ) -> Self {
        let info = PackInfo {
            id,
            kind: tail.kind,
            size: tail.object_len,
            frames: tail.frames,
            commitment,
            header,
            digest: [0; 32],
            locked_until: 0,
            author: Author::Reader,
        };
        Self { info, directory }
    }

    /// Returns what a table would keep of the pack itself.
    pub fn info(&self) -> &PackInfo {
        &self.info
    }

    /// Returns the frames, in order.
    pub fn frames(&self) -> Frames<'_> {
        self.directory.frames()
    }

    /// Returns the frames from that on of which [`Frames::position`] told.
    pub fn frames_from(&self, position: usize) -> Frames<'_> {
        self.directory.frames_from(position)
    }

    /// Returns how many chunks there are.
    pub fn chunk_count(&self) -> usize {
        self.directory.chunk_count()
    }

    /// Tells whether any of its frames holds recipes.
    pub fn holds_recipes(&self) -> bool {
        self.directory.holds_recipes()
    }

    /// Returns the length of the directory.
    pub fn directory_len(&self) -> usize {
        self.directory.encoded_len()
    }

    /// Returns what an index segment will say of it, which takes more memory than the directory.
    pub fn entry(&self, digest: [u8; 32]) -> PackEntry {
        let PackInfo { id, kind, size, commitment, header, locked_until, .. } = self.info.clone();
        let directory = PackDirectory { frames: self.frames().map(|frame| frame.record()).collect() };
        PackEntry { id, kind, size, digest, locked_until, commitment, header, directory }
    }

    /// Returns the places of all chunks, as a reader would tell of them.
    pub fn places(&self) -> impl Iterator<Item = (ChunkKey, ChunkPlace)> {
        let teller = Teller { pack: self.info.id, author: Author::Reader, kind: self.info.kind };
        locations_in(teller, self.frames().map(|frame| (frame.head, frame.chunks())))
    }
}
