//! Making what no honest program makes, with the keys that a host has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffre::crypto::derive::ReaderKey;
use coffre::crypto::secret::Passphrase;
use coffre::format::index::{IndexSegment, PackEntry};
use coffre::format::keyring::Keyring;
use coffre::format::object::INDEX;
use coffre::format::recipe::{Part, Recipe};
use coffre::model::cleanup::{CleanupId, CleanupList};
use coffre::model::entry::ChunkRef;
use coffre::model::id::{ChunkId, SegmentId, WriterId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::snapshot::{Snapshot, SnapshotId, TreeRoot};
use coffre::model::time::Timestamp;
use coffre::progress::Collected;
use coffre::repository::frame::Frame;
use coffre::repository::index::open_segment;
use coffre::repository::objects::UploadedPack;
use coffre::repository::session::Session;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::writers::{NewWriter, SlotPlace};
use coffre::repository::{MAIN_DOMAIN, Repository};
use coffre::store::local::LocalStore;
use coffre::store::{OpenMode, Store};

use crate::support::desk::Desk;
use crate::support::{begin, keyring_of};
use crate::writers::{add, new, open_as};

/// The honest repository, open.
pub(super) struct Forge {
    pub(super) directory: PathBuf,
    pub(super) store: Arc<dyn Store>,
    pub(super) repository: Arc<Repository>,
    /// The snapshot that is in it.
    pub(super) honest: Snapshot,
}

/// Stores nodes and chunks for a tree.
pub(super) struct Nodes(Writer);

impl Nodes {
    /// Stores bytes as a node, whatever they are.
    pub(super) fn node(&self, bytes: &[u8]) -> ChunkId {
        self.0.store_node(bytes).expect("stored")
    }

    /// Stores a recipe under the id of whatever it is said to make.
    pub(super) fn recipe(&self, id: ChunkId, depth: u8, parts: &[Part]) {
        let mut frame = Frame::default();
        frame.push_recipe(&id, &Recipe::new(depth, parts).expect("a recipe"));
        self.0.store_frame(&mut frame, &mut self.0.compressor()).expect("stored");
    }

    /// Returns the id that bytes have.
    pub(super) fn id(&self, bytes: &[u8]) -> ChunkId {
        self.0.id(bytes)
    }

    /// Stores a chunk of a content.
    pub(super) fn chunk(&self, bytes: &[u8]) -> ChunkRef {
        let id = self.0.id(bytes);
        let mut frame = Frame::default();
        frame.push(&id, bytes);
        self.0.store_frame(&mut frame, &mut self.0.compressor()).expect("stored");
        ChunkRef { id, length: bytes.len() as u32 }
    }
}

/// What the keyring lets a host do that backs up with a key of its own.
pub(super) struct Host {
    pub(super) id: WriterId,
    pub(super) repository: Arc<Repository>,
}

impl Host {
    /// Begins a session in a domain.
    pub(super) fn session(&self, domain: &str) -> Arc<Session> {
        self.repository.writing().expect("may").begin_session(domain).expect("a key")
    }
}

impl Forge {
    /// Adds a writer whose snapshots may state a host of its name, and returns what it can do.
    pub(super) async fn host(&self, name: &str, domains: &[&str]) -> Host {
        let domains = domains.iter().map(|&domain| domain.into()).collect();
        let new = NewWriter { domains, ..new(name, &[name]) };
        let id = add(&*self.reader().await, &new, SlotPlace::Repository).await.expect("added").id;
        let cache = self.directory.with_file_name(format!("cache-of-{name}"));
        Host { id, repository: open_as(name, self.store.clone(), &cache).await }
    }

    /// Opens the repository anew, as it is by now.
    pub(super) async fn reader(&self) -> Arc<Repository> {
        Self::opened(self.directory.parent().expect("beside it"), self.store.clone()).await
    }

    async fn opened(desk: &Path, store: Arc<dyn Store>) -> Arc<Repository> {
        let identity = std::fs::read_to_string(desk.join("password")).expect("there");
        let identity = Passphrase::new(identity.trim().into());
        Arc::new(Repository::open(store, &identity, &desk.join("forge-cache")).await.expect("opens"))
    }

    /// Publishes the next keyring, changed.
    pub(super) async fn keyring(&self, change: impl FnOnce(&mut Keyring, &ReaderKey)) {
        let mut keyring = keyring_of(&self.repository, &*self.store).await;
        keyring.counter += 1;
        let reader = self.repository.keys().reader_key().expect("a reader");
        change(&mut keyring, reader);
        let key = ObjectKey::keyring(keyring.counter, [7; 8]);
        self.store.put(&key, keyring.encode(reader).into()).await.expect("put");
    }

    /// Stores a snapshot of the honest tree as a session of some domain and author seals it, a second later than the honest one.
    pub(super) async fn claim(&self, session: &Session, change: impl FnOnce(&mut Snapshot)) -> SnapshotId {
        let started = Timestamp { seconds: self.honest.started.seconds + 1, nanos: 0 };
        let id = SnapshotId::new(started, [0xee; 8]);
        let mut snapshot = Snapshot { id, session: session.id(), started, ..self.honest.clone() };
        change(&mut snapshot);
        self.store.put(&ObjectKey::snapshot(snapshot.id), session.seal_snapshot(&snapshot).into()).await.expect("put");
        snapshot.id
    }

    /// Stores a list of cleaning up as a session seals it.
    pub(super) async fn list(&self, session: &Session, counter: u64, list: &CleanupList) -> ObjectKey {
        let id = CleanupId { counter, random: [counter as u8; 8] };
        let key = ObjectKey::cleanup(id);
        self.store.put(&key, session.seal_cleanup(id, list).into()).await.expect("put");
        key
    }

    /// Begins a session of a reader.
    pub(super) fn session(&self) -> Arc<Session> {
        self.repository.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key")
    }

    /// Stores any bytes as the value of a segment.
    pub(super) async fn segment_of(&self, value: &[u8]) {
        let id = SegmentId([0xee; 16]);
        let object = self.session().seal_forged(INDEX, &id.0, value);
        self.store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
    }

    pub(super) async fn new(desk: &Desk) -> Self {
        let directory = desk.at("repository");
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&directory, OpenMode::Write).expect("opened"));
        let repository = Self::opened(desk.directory.path(), store.clone()).await;
        let honest = repository.snapshots().await.expect("listed").remove(0).1.expect("whole");
        Self { directory, store, repository, honest }
    }

    /// Stores a tree that `make` makes, and a snapshot of it a second later than the honest one, changed by `change`.
    pub(super) async fn snapshot(
        &self,
        make: impl FnOnce(&Nodes) -> (ChunkId, u8) + Send + 'static,
        change: impl FnOnce(&mut Snapshot),
    ) -> Option<SnapshotId> {
        let index = begin(&self.repository).await;
        let session = index.session().clone();
        let options = WriterOptions {
            pack_target_bytes: 32 << 20,
            packs_in_flight: 2,
            level: 1,
            dry_run: false,
            extra_check: false,
        };
        let nodes = Nodes(Writer::start(index, options, Arc::new(Collected::default())));
        let (nodes, root, depth) = tokio::task::spawn_blocking(move || {
            let (root, depth) = make(&nodes);
            nodes.0.flush().expect("stored");
            (nodes, root, depth)
        })
        .await
        .expect("made");
        nodes.0.finish().await.expect("stored");
        let claimed = |snapshot: &mut Snapshot| {
            snapshot.root = TreeRoot { id: root, depth };
            change(snapshot);
        };
        Some(self.claim(&session, claimed).await)
    }

    /// Returns all that honest segments tell of packs.
    pub(super) async fn told(&self) -> Vec<PackEntry> {
        let mut packs = Vec::new();
        for object in self.store.list(ObjectKind::Index.prefix()).await.expect("listed") {
            let id = object.key.segment_id().expect("ours");
            let bytes = self.store.get(&object.key).await.expect("there");
            packs.extend(open_segment(&self.repository, id, &bytes).expect("whole").packs().to_vec());
        }
        packs
    }

    /// Stores `count` segments that tell this of packs.
    pub(super) async fn segments(&self, count: u8, packs: Vec<PackEntry>) {
        let session = self.session();
        let packs = UploadedPack::indexed(IndexSegment::forged(packs));
        for number in 0..count {
            let id = SegmentId([number; 16]);
            let object = session.seal_segment(id, &packs);
            self.store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
        }
    }
}
