//! Writing: chunks are claimed, gathered into frames, compressed, sealed into packs and uploaded.
//!
//! A chunk is claimed before it is compressed, so threads working at the same time cannot store it twice. A finished pack is
//! opened again before it is uploaded ([`recheck`](crate::repository::recheck)). Everything here
//! is called from ordinary threads; only [`Writer::finish`] and [`Committer::commit`] are async.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::chunker::Chunker;
use crate::compress::Compressor;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::digest::sha256_of;
use crate::crypto::random;
use crate::format::pack::PackKind;
use crate::format::recipe::{Part, RECIPE_DEPTH_WRITTEN, Recipe};
use crate::model::id::{ChunkId, ChunkKey};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::progress::Monitor;
use crate::repository::claims::Claims;
use crate::repository::frame::{FRAME_TARGET_BYTES, Frame, RECIPE_FRAME_BYTES};
use crate::repository::index::checked::CheckedIndex;
use crate::repository::index::table::ChunkPlace;
use crate::repository::nights::NightPlace;
use crate::repository::objects::DurableObject;
use crate::repository::packer::PackBuilder;
use crate::repository::recheck::{Altered, Scratch, check_pack};
use crate::repository::session::Session;
use crate::repository::uploader::{Room, UploadEnd, UploadError, UploadLimits, UploadStopped, Uploaded, Uploader};
use crate::store::StoreError;
use crate::windows::gather::WindowGatherer;
use crate::windows::pieces::PieceRule;
use crate::windows::weave::NeededFrame;

/// Room kept in a pack beyond its target, so that filling it does not move it.
const PACK_SLACK: usize = 2 << 20;

/// One session's way into the repository.
pub struct Writer {
    session: Arc<Session>,
    index: Arc<CheckedIndex>,
    claims: Arc<Claims>,
    hasher: ChunkHasher,
    data: Mutex<Option<PackBuilder>>,
    trees: Mutex<Option<PackBuilder>>,
    nodes: Mutex<NodeFrame>,
    recipes: Mutex<NodeFrame>,
    uploader: Uploader,
    options: WriterOptions,
}

struct NodeFrame {
    frame: Frame,
    compressor: Compressor,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({:?})", self.session)
    }
}

/// How a writer works.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// Size at which a pack is complete, in bytes: that of the configuration, or less.
    pub pack_target_bytes: u32,
    /// Packs being stored at the same time.
    pub packs_in_flight: usize,
    /// zstd's level.
    pub level: i32,
    /// Do everything but store; chunks are only counted.
    pub dry_run: bool,
    /// Open everything that was sealed again before it is uploaded.
    pub extra_check: bool,
}

impl Writer {
    /// Starts writing for the session that `index` was checked for; what it knows is not stored again.
    pub fn start(index: Arc<CheckedIndex>, options: WriterOptions, monitor: Arc<dyn Monitor>) -> Self {
        let session = index.session().clone();
        let hasher = session.hasher();
        let claims = Arc::new(Claims::default());
        let limits = UploadLimits { packs_in_flight: options.packs_in_flight, extra_check: options.extra_check };
        let uploader = Uploader::start(index.clone(), claims.clone(), limits, monitor);
        let frame = || NodeFrame { frame: Frame::default(), compressor: Compressor::new(options.level) };
        Self {
            session,
            index,
            claims,
            hasher,
            data: Mutex::new(None),
            trees: Mutex::new(None),
            nodes: Mutex::new(frame()),
            recipes: Mutex::new(frame()),
            uploader,
            options,
        }
    }

    /// Returns the chunker for file contents.
    pub fn file_chunker(&self) -> Chunker {
        self.session.chunker(self.session.repository().config().files)
    }

    /// Returns the chunker for streams.
    pub fn stream_chunker(&self) -> Chunker {
        self.session.chunker(self.session.repository().config().streams)
    }

    /// Returns a compressor for one thread's frames.
    pub fn compressor(&self) -> Compressor {
        Compressor::new(self.options.level)
    }

    /// Returns a chunk's id.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        self.hasher.id(plaintext)
    }

    /// Tells whether the caller must store this chunk: it is neither stored nor being stored.
    pub fn claim(&self, id: &ChunkId) -> bool {
        !self.index.rely_on(id) && self.claims.claim(id.key())
    }

    /// Tells whether a chunk is stored plain in a pack that may be relied on, or being stored by this run.
    pub fn has(&self, key: &ChunkKey) -> bool {
        self.claims.has(key) || self.index.has_plain(key)
    }

    /// Tells whether a recipe may name a chunk as one that is stored plain: it is, in a pack that may be relied on, and then it is
    /// relied on, or this run stores it so.
    pub fn relies_on_plain(&self, key: &ChunkKey) -> bool {
        self.claims.has_plain(key) || self.index.rely_on_plain(key)
    }

    /// Tells the same of a chunk that an earlier run may have stored as a recipe. One of this run may be too deep to be named.
    pub fn relies_on_named(&self, key: &ChunkKey) -> bool {
        self.index.rely_on_named(key) || self.claims.has_plain(key)
    }

    /// Tells the same of a chunk of which an earlier run stored a recipe that is `length` bytes long.
    pub fn relies_on_recipe(&self, key: &ChunkKey, length: u32) -> bool {
        self.index.rely_on_recipe(key, length) || self.claims.has_plain(key)
    }

    /// Does the same as [`Writer::relies_on_plain`], and returns the frame of the chunk if it may be named: of one that was rewritten the new one
    /// alone, once a list dooms the old pack.
    ///
    /// One that lies in several frames stands for a frame by itself, as long as the longest: readers may take it from any, and cleaning
    /// up keeps any. Of one that is not indexed yet nothing is known but that writers make no longer frames than windows.
    pub fn relied_frame(&self, key: &ChunkKey) -> Option<NeededFrame> {
        if self.claims.has_plain(key) {
            return Some(NeededFrame::UNKNOWN);
        }
        let places = self.index.rely_on_plain_at(key);
        (!places.is_empty()).then(|| frame_of(places.into_iter()))
    }

    /// Makes the recipe of a window from its parts, in order: `None` where no reader would take it.
    pub fn recipe(&self, parts: &[Part], names_recipes: bool) -> Option<Recipe> {
        Recipe::new(if names_recipes { RECIPE_DEPTH_WRITTEN } else { 1 }, parts).ok()
    }

    /// Begins to cut a content into the pieces of windows.
    pub fn window_gatherer(&self, rule: PieceRule) -> WindowGatherer {
        WindowGatherer::new(self.session.piece_cutter(rule))
    }

    /// Returns where the nights of the content called `name` are kept on this machine; `None` when nothing can be.
    pub fn nights_of(&self, name: &str) -> Option<NightPlace> {
        self.session.nights_of(name, self.index.damaged_recipes())
    }

    /// Compresses a frame of file or stream contents and seals it into the current pack. The frame is empty afterwards.
    ///
    /// # Errors
    /// When uploading has stopped.
    pub fn store_frame(&self, frame: &mut Frame, compressor: &mut Compressor) -> Result<(), UploadStopped> {
        self.seal_into(&self.data, PackKind::Data, frame, compressor)
    }

    /// Stores a node of a tree or chunk list and returns its id.
    ///
    /// # Errors
    /// When uploading has stopped.
    pub fn store_node(&self, node: &[u8]) -> Result<ChunkId, UploadStopped> {
        let id = self.hasher.id(node);
        if self.claim(&id) {
            let mut nodes = self.nodes.lock().expect("no panic while held");
            let NodeFrame { frame, compressor } = &mut *nodes;
            frame.push(&id, node);
            if frame.len() >= FRAME_TARGET_BYTES {
                self.seal_into(&self.trees, PackKind::Tree, frame, compressor)?;
            }
        }
        Ok(id)
    }

    /// Stores the recipe of a chunk instead of the chunk. Where an earlier run's recipes are among what it names, `through` has
    /// all that these name, through all depths.
    ///
    /// It is not stored when something of it may not be relied on, or the recipe is deeper than writers make them, and the caller stores
    /// the chunk plain. That the recipe makes this chunk is the caller's word: readers compare.
    ///
    /// # Errors
    /// When uploading has stopped.
    pub fn store_recipe(
        &self,
        id: &ChunkId,
        recipe: &Recipe,
        through: &[ChunkKey],
    ) -> Result<RecipeStored, UploadStopped> {
        if recipe.depth() > RECIPE_DEPTH_WRITTEN {
            return Ok(RecipeStored::Not);
        }
        let names_recipes = recipe.depth() > 1;
        let may_be_named = |key: &ChunkKey| match names_recipes {
            true => self.relies_on_named(key),
            false => self.relies_on_plain(key),
        };
        if !recipe.chunks().iter().all(may_be_named) || !through.iter().all(|key| self.relies_on_plain(key)) {
            return Ok(RecipeStored::Not);
        }
        if self.index.rely_on(id) || !self.claims.claim_recipe(id.key()) {
            return Ok(RecipeStored::Otherwise);
        }
        self.store_recipe_anew(id.key(), recipe)?;
        Ok(RecipeStored::AsGiven)
    }

    /// Stores the recipe of a chunk anew that is stored already in a pack which is to go. Whoever asks has seen to what it names, and
    /// that it makes this chunk, and asks once.
    ///
    /// # Errors
    /// When uploading has stopped.
    pub fn store_recipe_anew(&self, key: ChunkKey, recipe: &Recipe) -> Result<(), UploadStopped> {
        let mut recipes = self.recipes.lock().expect("no panic while held");
        let NodeFrame { frame, compressor } = &mut *recipes;
        frame.push_recipe_of(key, recipe);
        if frame.len() >= RECIPE_FRAME_BYTES {
            self.seal_into(&self.trees, PackKind::Tree, frame, compressor)?;
        }
        Ok(())
    }

    fn seal_into(
        &self,
        lane: &Mutex<Option<PackBuilder>>,
        kind: PackKind,
        frame: &mut Frame,
        compressor: &mut Compressor,
    ) -> Result<(), UploadStopped> {
        if frame.is_empty() {
            return Ok(());
        }
        if self.options.dry_run {
            frame.clear();
            return Ok(());
        }
        let target = self.options.pack_target_bytes as usize;
        let encoded = frame.encode(compressor);
        let full = {
            let mut lane = lane.lock().expect("no panic while held");
            let is_full = lane.as_ref().is_some_and(|pack| !pack.has_room_for(&encoded, target));
            // Nobody begins another pack before there is room for the full one beside those on their way.
            let room = is_full.then(|| self.uploader.room()).transpose()?;
            let full = room.and_then(|room| Some((lane.take()?, room)));
            let pack = lane.get_or_insert_with(|| self.session.new_pack(kind, target + PACK_SLACK));
            pack.push_frame(encoded);
            full
        };
        frame.clear();
        match full {
            Some((pack, room)) => self.hand_over(pack, room, frame, compressor),
            None => Ok(()),
        }
    }

    /// Completes a pack, checks it in the memory of an empty frame and of the compressor, and gives it to the uploader.
    fn hand_over(
        &self,
        pack: PackBuilder,
        room: Room,
        frame: &mut Frame,
        compressor: &mut Compressor,
    ) -> Result<(), UploadStopped> {
        let image = pack.finish();
        if self.options.extra_check {
            let (secret, repository) = (self.session.secret(), self.session.repository().id());
            let mut scratch = Scratch { opened: compressor.memory(), plain: frame.memory() };
            let checked = check_pack(&image, secret, repository, &self.hasher, &mut scratch);
            frame.clear();
            if let Err(altered) = checked {
                return Err(self.uploader.refuse(image.entry().id, altered));
            }
        }
        self.uploader.send(image, room)
    }

    /// Seals what is left and hands it to the uploader; call from a thread outside the runtime, then [`Writer::finish`].
    ///
    /// # Errors
    /// When uploading has stopped.
    pub fn flush(&self) -> Result<(), UploadStopped> {
        let mut nodes = self.nodes.lock().expect("no panic while held");
        let NodeFrame { frame, compressor } = &mut *nodes;
        self.seal_into(&self.trees, PackKind::Tree, frame, compressor)?;
        {
            let mut recipes = self.recipes.lock().expect("no panic while held");
            let NodeFrame { frame, compressor } = &mut *recipes;
            self.seal_into(&self.trees, PackKind::Tree, frame, compressor)?;
        }
        for lane in [&self.data, &self.trees] {
            let pack = lane.lock().expect("no panic while held").take();
            if let Some(pack) = pack {
                let room = self.uploader.room()?;
                self.hand_over(pack, room, frame, compressor)?;
            }
        }
        Ok(())
    }

    /// Returns what ends the upload while a thread may keep the writer for ever.
    pub fn end(&self) -> UploadEnd {
        self.uploader.end()
    }

    /// Waits until every pack and the index segments are durable; only then a snapshot may be committed.
    ///
    /// # Errors
    /// The error that stopped the upload.
    pub async fn finish(self) -> Result<Committer, UploadError> {
        let uploaded = self.uploader.finish().await?;
        Ok(Committer { session: self.session, uploaded, extra_check: self.options.extra_check })
    }
}

/// Returns the frame of a chunk that lies plain at any of these places.
fn frame_of(mut places: impl Iterator<Item = ChunkPlace>) -> NeededFrame {
    let Some(first) = places.next() else { return NeededFrame::UNKNOWN };
    let (mut place, mut bytes) = (Some((first.pack, first.frame)), first.plain_len);
    for other in places {
        place = place.filter(|_| other.frame_place() == first.frame_place());
        bytes = bytes.max(other.plain_len);
    }
    NeededFrame { place, bytes: u64::from(bytes) }
}

/// Whether a chunk is stored of which a recipe was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipeStored {
    /// By this recipe.
    AsGiven,
    /// By another content of this run, or plain: what it is made of there, and how deep, is not known.
    Otherwise,
    /// It is not.
    Not,
}

/// A session whose packs and index segments are all durable; the only thing that can commit a snapshot.
#[derive(Debug)]
pub struct Committer {
    session: Arc<Session>,
    uploaded: Uploaded,
    extra_check: bool,
}

/// Why a snapshot is not there although all that it needs is.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not open to what was sealed. It was not uploaded.
    #[error("{0}: the memory or the processor of this machine is faulty")]
    Altered(#[from] Altered),
}

impl Ended for CommitError {
    fn outcome(&self) -> Outcome {
        match self {
            CommitError::Store(error) => error.outcome(),
            CommitError::Altered(_) => Outcome::Failed,
        }
    }
}

impl Committer {
    /// Returns what the session stored.
    pub fn uploaded(&self) -> Uploaded {
        self.uploaded
    }

    /// Names a snapshot that is dated `dated`, as nobody else can name one, behind the `known` ones.
    pub fn new_snapshot_id(&self, dated: Timestamp, known: &[SnapshotId]) -> SnapshotId {
        SnapshotId::behind(known, dated, random())
    }

    /// Makes the run visible: the last object that is written. The snapshot knows the digest of its object afterwards.
    ///
    /// # Errors
    /// When the store refuses the snapshot, or it does not open again; nothing is visible then.
    pub async fn commit(&self, snapshot: &mut Snapshot) -> Result<DurableObject<SnapshotId>, CommitError> {
        let object = Bytes::from(self.session.seal_snapshot(snapshot));
        if self.extra_check {
            self.session.check_snapshot(snapshot, &object)?;
        }
        let stored = self.session.repository().objects().put_snapshot(snapshot.id, object.clone()).await?;
        snapshot.digest = Some(sha256_of(&object));
        self.session.repository().keep_snapshot(snapshot, &object);
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::Codec;
    use crate::model::author::Author;
    use crate::model::id::PackId;

    /// A chunk in a frame of so many bytes.
    fn place(pack: u8, frame: u32, plain_len: u32) -> ChunkPlace {
        ChunkPlace {
            pack: PackId([pack; 16]),
            author: Author::Reader,
            kind: PackKind::Data,
            frame,
            frame_offset: 0,
            sealed_len: 100,
            plain_len,
            codec: Codec::Zstd,
            offset: 0,
            length: 10,
        }
    }

    #[test]
    fn a_chunk_that_lies_in_several_frames_stands_for_the_longest_by_itself() {
        let one = place(1, 7, 500);
        let known = Some((one.pack, one.frame));
        for (what, places, place, bytes) in [
            ("one frame", vec![one], known, 500),
            ("twice in the same", vec![one, ChunkPlace { offset: 20, ..one }], known, 500),
            ("in two of a pack", vec![one, place(1, 8, 900)], None, 900),
            ("in two packs", vec![place(2, 7, 900), one], None, 900),
            ("in one that is told of in two ways", vec![one, place(1, 7, 501)], None, 501),
            ("in none that is known", vec![], None, 8 << 20),
        ] {
            assert_eq!(frame_of(places.into_iter()), NeededFrame { place, bytes }, "{what}");
        }
    }
}
