//! Writing: chunks are claimed, gathered into frames, compressed, sealed into packs and uploaded.
//!
//! A chunk is claimed before it is compressed, so threads working at the same time cannot store it twice. Everything here
//! is called from ordinary threads; only [`Writer::finish`] and [`Committer::commit`] are async.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::chunker::Chunker;
use crate::compress::Compressor;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::seal::{Purpose, seal_envelope};
use crate::crypto::session::{SessionHeader, SessionSecret, new_session};
use crate::format::index::IndexSegment;
use crate::format::pack::PackKind;
use crate::format::snapshot::{encode_snapshot, join_snapshot_object};
use crate::model::id::{ChunkId, ChunkKey, RepositoryId, SessionId};
use crate::model::key::ObjectKey;
use crate::model::snapshot::Snapshot;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::packer::{PackBuilder, sealed_len};
use crate::repository::uploader::{UploadError, UploadLimits, UploadStopped, Uploaded, Uploader};
use crate::store::StoreError;

/// Plaintext after which a frame of a stream or of tree nodes is complete.
pub const FRAME_TARGET_BYTES: usize = 1 << 20;
/// Plaintext after which a frame of files is complete. Small files of one directory resemble each other: 2 MiB make a
/// source tree 1.7 % smaller than 1 MiB, where database dumps gain nothing (`docs/performance.md`).
pub const FILE_FRAME_BYTES: usize = 2 << 20;
/// Room kept in a pack beyond its target, so that filling it does not move it.
const PACK_SLACK: usize = 2 << 20;

/// The chunks that this run stores and that no index table holds yet.
#[derive(Debug, Default)]
pub struct Claims(Mutex<HashSet<ChunkKey>>);

impl Claims {
    /// Takes the right, and the duty, to store a chunk; `false` when another thread has it.
    fn claim(&self, key: ChunkKey) -> bool {
        self.0.lock().expect("no panic while held").insert(key)
    }

    /// Drops the claims of chunks that an index table holds now.
    pub(crate) fn forget(&self, segment: &IndexSegment) {
        let mut claims = self.0.lock().expect("no panic while held");
        for (key, _) in segment.packs.iter().flat_map(|pack| &pack.directory.frames).flat_map(|frame| &frame.chunks) {
            claims.remove(key);
        }
    }
}

/// Chunks gathered to be compressed and sealed together.
#[derive(Debug, Default)]
pub struct Frame {
    plain: Vec<u8>,
    chunks: Vec<(ChunkKey, u32)>,
}

impl Frame {
    /// Appends a chunk that was claimed.
    pub fn push(&mut self, id: &ChunkId, plaintext: &[u8]) {
        self.plain.extend_from_slice(plaintext);
        self.chunks.push((id.key(), u32::try_from(plaintext.len()).expect("chunks are a few MiB at most")));
    }

    /// Returns the length of the plaintext so far.
    pub fn len(&self) -> usize {
        self.plain.len()
    }

    /// Tells whether no chunk was appended.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn clear(&mut self) {
        self.plain.clear();
        self.chunks = Vec::new();
    }
}

/// A new session: its secret, and the header from which the domain's reader recovers it.
#[derive(Debug)]
pub struct Session {
    secret: SessionSecret,
    header: Arc<SessionHeader>,
}

impl Session {
    /// Makes a session's secret and seals it to the domain that is written to.
    ///
    /// # Errors
    /// When the domain's public key is not valid.
    pub fn start(repository: &Repository) -> Result<Self, crate::crypto::CryptoError> {
        let dedup = repository.keys().current_dedup();
        let public_key = repository.keys().current_public_key();
        let (secret, header) = new_session(repository.id(), dedup.domain, dedup.epoch, public_key)?;
        Ok(Self { secret, header: Arc::new(header) })
    }

    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.header.session
    }

    /// Seals a snapshot of this session into its object.
    pub fn seal_snapshot(&self, repository: RepositoryId, snapshot: &Snapshot) -> Vec<u8> {
        let (object, value) = (snapshot.id.to_bytes(), encode_snapshot(snapshot));
        let envelope = seal_envelope(&self.secret.0, repository, Purpose::Snapshot, &object, &value);
        join_snapshot_object(&self.header, &envelope)
    }
}

/// One session's way into the repository.
pub struct Writer {
    repository: Arc<Repository>,
    session: Session,
    index: Arc<Index>,
    claims: Arc<Claims>,
    hasher: ChunkHasher,
    data: Mutex<Option<PackBuilder>>,
    trees: Mutex<Option<PackBuilder>>,
    nodes: Mutex<NodeFrame>,
    uploader: Uploader,
    /// Nothing is stored; chunks are only counted.
    dry_run: bool,
    level: i32,
    pack_target_bytes: u32,
}

struct NodeFrame {
    frame: Frame,
    compressor: Compressor,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({:?})", self.session.header)
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
    /// Do everything but store.
    pub dry_run: bool,
}

impl Writer {
    /// Starts writing for a session; what `index` knows is not stored again.
    pub fn start(
        repository: Arc<Repository>,
        session: Session,
        index: Arc<Index>,
        options: WriterOptions,
        monitor: Arc<dyn Monitor>,
    ) -> Self {
        let hasher = ChunkHasher::new(repository.keys().current_dedup());
        let claims = Arc::new(Claims::default());
        let limits = UploadLimits { packs_in_flight: options.packs_in_flight };
        let uploader = Uploader::start(repository.clone(), index.clone(), claims.clone(), limits, monitor);
        let nodes = NodeFrame { frame: Frame::default(), compressor: Compressor::new(options.level) };
        Self {
            repository,
            session,
            index,
            claims,
            hasher,
            data: Mutex::new(None),
            trees: Mutex::new(None),
            nodes: Mutex::new(nodes),
            uploader,
            dry_run: options.dry_run,
            level: options.level,
            pack_target_bytes: options.pack_target_bytes,
        }
    }

    /// Returns the chunker for file contents.
    pub fn file_chunker(&self) -> Chunker {
        Chunker::new(self.repository.config().files, &self.repository.keys().current_dedup().gear_table())
    }

    /// Returns the chunker for streams.
    pub fn stream_chunker(&self) -> Chunker {
        Chunker::new(self.repository.config().streams, &self.repository.keys().current_dedup().gear_table())
    }

    /// Returns a compressor for one thread's frames.
    pub fn compressor(&self) -> Compressor {
        Compressor::new(self.level)
    }

    /// Returns a chunk's id.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        self.hasher.id(plaintext)
    }

    /// Tells whether the caller must store this chunk: it is neither stored nor being stored.
    pub fn claim(&self, id: &ChunkId) -> bool {
        !self.index.rely_on(id) && self.claims.claim(id.key())
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
        if self.dry_run {
            frame.clear();
            return Ok(());
        }
        let target = self.pack_target_bytes as usize;
        let (codec, encoded) = compressor.compress(&frame.plain);
        let full = {
            let mut lane = lane.lock().expect("no panic while held");
            // A frame that would overfill a pack goes into the next one; a pack always takes its first.
            let full = lane.take_if(|pack| pack.len() + sealed_len(encoded.len()) > target);
            let pack = lane.get_or_insert_with(|| {
                let Session { secret, header } = &self.session;
                PackBuilder::new(secret, header.clone(), self.repository.id(), kind, target + PACK_SLACK)
            });
            pack.push_frame(codec, encoded, frame.plain.len(), std::mem::take(&mut frame.chunks));
            full
        };
        frame.clear();
        match full {
            Some(pack) => self.uploader.send(pack.finish()),
            None => Ok(()),
        }
    }

    /// Seals what is left and hands it to the uploader; call from a thread outside the runtime, then [`Writer::finish`].
    ///
    /// # Errors
    /// When uploading has stopped.
    pub fn flush(&self) -> Result<(), UploadStopped> {
        {
            let mut nodes = self.nodes.lock().expect("no panic while held");
            let NodeFrame { frame, compressor } = &mut *nodes;
            self.seal_into(&self.trees, PackKind::Tree, frame, compressor)?;
        }
        for lane in [&self.data, &self.trees] {
            let pack = lane.lock().expect("no panic while held").take();
            if let Some(pack) = pack {
                self.uploader.send(pack.finish())?;
            }
        }
        Ok(())
    }

    /// Waits until every pack and the index segments are durable; only then a snapshot may be committed.
    ///
    /// # Errors
    /// The error that stopped the upload.
    pub async fn finish(self) -> Result<Committer, UploadError> {
        let uploaded = self.uploader.finish().await?;
        Ok(Committer { repository: self.repository, session: self.session, uploaded })
    }
}

/// A session whose packs and index segments are all durable; the only thing that can commit a snapshot.
#[derive(Debug)]
pub struct Committer {
    repository: Arc<Repository>,
    session: Session,
    uploaded: Uploaded,
}

impl Committer {
    /// Returns what the session stored.
    pub fn uploaded(&self) -> Uploaded {
        self.uploaded
    }

    /// Makes the run visible: the last object that is written.
    ///
    /// # Errors
    /// When the store refuses the snapshot; nothing is visible then.
    pub async fn commit(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let object = Bytes::from(self.session.seal_snapshot(self.repository.id(), snapshot));
        self.repository.store().put(&ObjectKey::snapshot(snapshot.id), object.clone()).await?;
        self.repository.snapshot_cache().keep(snapshot.id, &object);
        Ok(())
    }
}
