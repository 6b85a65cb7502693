//! What the tests share: a repository in memory, a source directory, and reading a snapshot back without a target.

pub mod at_phase;
pub mod at_request;
pub mod bucket;
pub mod ceph;
pub mod daemon;
pub mod dead_mount;
pub mod desk;
pub mod dumped;
pub mod kitchen;
pub mod mariadb;
pub mod mount;
pub mod peak;
pub mod pgbouncer;
pub mod place;
pub mod postgres;
pub mod proxy;
pub mod s3_server;
pub mod terminal;
pub mod tree;
pub mod versioned_server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::format::config::ChunkerProfile;
use coffre::format::keyring::Keyring;
use coffre::format::pack::PackKind;
use coffre::model::entry::{Entry, EntryKind};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::snapshot::Snapshot;
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, BackupOptions, BackupReport, backup};
use coffre::ops::verify::{ReadData, VerifyOptions, VerifyReport, verify};
use coffre::progress::Collected;
use coffre::repository::index::Index;
use coffre::repository::index::checked::CheckedIndex;
use coffre::repository::reader::Reader;
use coffre::repository::{InitOptions, MAIN_DOMAIN, OpenError, Repository};
use coffre::source::Source;
use coffre::source::files::WalkOptions;
use coffre::source::given::Given;
use coffre::store::Store;
use coffre::store::memory::MemoryStore;

/// A repository in memory with a source directory and a cache of its own.
pub struct Bench {
    pub memory: MemoryStore,
    pub source: tempfile::TempDir,
    pub cache: tempfile::TempDir,
}

/// The passphrase of every test repository, as it is typed.
pub const PASSPHRASE: &str = "a passphrase for tests";

/// The passphrase of every test repository; its slot is cheap to open.
pub fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE.into())
}

/// Small chunks and packs, so that little data makes many of both.
pub fn small_options() -> InitOptions {
    let profile =
        |min, avg, max| ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min, avg, max, normalization: 2 };
    InitOptions { files: profile(1024, 4096, 16384), streams: profile(1024, 4096, 16384), pack_target_bytes: 1 << 20 }
}

/// Bytes that look random and depend on `seed` alone.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub async fn init(store: Arc<dyn Store>, cache: &Path) -> Repository {
    let locks = [(SlotLock::Recovery(passphrase()), "test")];
    Repository::init(store, &locks, &small_options(), Timestamp::from_seconds(1_800_000_000), cache)
        .await
        .expect("an empty store takes a repository")
}

pub async fn open(store: Arc<dyn Store>, cache: &Path) -> Result<Arc<Repository>, OpenError> {
    Repository::open(store, &passphrase(), cache).await.map(Arc::new)
}

pub fn options(source: &Path) -> BackupOptions {
    let mut options = BackupOptions::default();
    options.files = Some(WalkOptions { roots: vec![source.to_path_buf()], ..WalkOptions::default() });
    options.host = "host".into();
    options.user = "user".into();
    options.threads = 2;
    options
}

/// The same with a clock of the test's own.
pub fn options_at(source: &Path, clock: Clock) -> BackupOptions {
    let mut options = options(source);
    options.clock = clock;
    options
}

/// What a command prints, as the stream `name` of a backup.
pub fn command(name: &str, words: &[&str]) -> Arc<dyn Source> {
    Arc::new(Given::command(name, words))
}

/// Backs up, after files that were just written have come to rest.
pub async fn run_backup(store: Arc<dyn Store>, cache: &Path, options: BackupOptions) -> Result<BackupReport, Failure> {
    at_rest().await;
    let repository = open(store, cache).await.map_err(Failure::Open)?;
    let monitor = Arc::new(Collected::default());
    backup(repository, options, monitor, Cancel::default()).await.map_err(Failure::Backup)
}

#[derive(Debug)]
pub enum Failure {
    Open(#[expect(dead_code, reason = "shown by Debug")] OpenError),
    Backup(BackupError),
}

pub async fn run_verify(store: Arc<dyn Store>, cache: &Path, read_data: ReadData) -> VerifyReport {
    let options = VerifyOptions { read_data, memory_bytes: 256 << 20, ..VerifyOptions::default() };
    verify_with(store, cache, options).await
}

/// Verifies with an empty cache.
pub async fn verify_over(store: Arc<dyn Store>, options: VerifyOptions) -> VerifyReport {
    let cache = tempfile::tempdir().expect("made");
    verify_with(store, cache.path(), options).await
}

async fn verify_with(store: Arc<dyn Store>, cache: &Path, options: VerifyOptions) -> VerifyReport {
    let repository = open(store, cache).await.expect("the repository opens");
    verify(repository, options, Arc::new(Collected::default()), Cancel::default()).await.expect("it can be verified")
}

/// The newest keyring that is stored.
pub async fn keyring_of(repository: &Repository, store: &dyn Store) -> Keyring {
    let newest = store.list(ObjectKind::Keyring.prefix()).await.expect("listed").pop().expect("there is one");
    let object = store.get(&newest.key).await.expect("there");
    Keyring::decode(&object, repository.id(), &repository.keys().verifying_key()).expect("valid")
}

/// Waits until files that were just written have come to rest: younger ones are read again the next time.
pub async fn at_rest() {
    tokio::time::sleep(std::time::Duration::from_millis(25)).await;
}

/// Reads everything in a snapshot: entries, and the content of files and streams with holes filled in.
pub async fn read_back(
    store: Arc<dyn Store>,
    cache: &Path,
    snapshot: &Snapshot,
) -> Result<Vec<(Entry, Vec<u8>)>, String> {
    read_all(open(store, cache).await.map_err(|error| error.to_string())?, snapshot).await
}

/// Reads everything in a snapshot of an open repository.
pub async fn read_all(repository: Arc<Repository>, snapshot: &Snapshot) -> Result<Vec<(Entry, Vec<u8>)>, String> {
    let monitor = Arc::new(Collected::default());
    let index = Index::load(&repository, &*monitor).await.map_err(|error| error.to_string())?;
    let reader = Arc::new(Reader::new(repository.reading().expect("may be read"), Arc::new(index), 256 << 20, monitor));
    let mut walk = reader.walk(snapshot.root, None);
    let mut found = Vec::new();
    while let Some(entry) = walk.next().await {
        let entry = entry.map_err(|damaged| damaged.error.to_string())?;
        let mut bytes = Vec::new();
        if let Some(content) = entry.content() {
            let mut chunks = reader.chunks(&content.chunks, content.stored_length());
            let mut holes = content.holes.iter().peekable();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|damaged| damaged.to_string())?;
                let mut data = &reader.chunk(&chunk.id).await.map_err(|error| error.to_string())?[..];
                while !data.is_empty() {
                    while let Some(hole) = holes.next_if(|hole| hole.offset == bytes.len() as u64) {
                        bytes.resize(bytes.len() + hole.length as usize, 0);
                    }
                    let room =
                        holes.peek().map_or(data.len(), |hole| (hole.offset as usize - bytes.len()).min(data.len()));
                    bytes.extend_from_slice(&data[..room]);
                    data = &data[room..];
                }
            }
            bytes.resize(content.size as usize, 0);
        }
        found.push((entry, bytes));
    }
    Ok(found)
}

/// Begins a session of the main domain, with the index as it may rely on it.
pub async fn begin(repository: &Arc<Repository>) -> Arc<CheckedIndex> {
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    Arc::new(CheckedIndex::load(&session, 0, Clock::System.now(), &Collected::default()).await.expect("loaded"))
}

/// Counts the chunks that the index locates, and how many of them are different.
pub async fn chunk_counts(store: Arc<dyn Store>, cache: &Path) -> (usize, usize) {
    let repository = open(store, cache).await.expect("opened");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let keys: Vec<_> =
        index.tables().iter().flat_map(|table| table.rows().map(|row| row.key).collect::<Vec<_>>()).collect();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    (keys.len(), distinct.len())
}

/// The files below `source` in a read-back snapshot, by their path relative to it.
pub fn contents(source: &Path, entries: &[(Entry, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let prefix = format!("{}/", source.display()).trim_start_matches('/').to_owned();
    entries
        .iter()
        .filter(|(entry, _)| matches!(entry.kind, EntryKind::File(_)))
        .filter_map(|(entry, bytes)| Some((entry.path.to_string().strip_prefix(&prefix)?.to_owned(), bytes.clone())))
        .collect()
}

/// The files below a directory, by their relative path.
pub fn files_in(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory_now) = pending.pop() {
        for item in std::fs::read_dir(directory_now).expect("readable") {
            let path = item.expect("readable").path();
            let kind = path.symlink_metadata().expect("there").file_type();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(directory).expect("below").display().to_string();
                found.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
    found
}

impl Bench {
    /// Copies the repository, to another source and cache, which are empty.
    pub fn fork(&self) -> Self {
        let [source, cache] = [(); 2].map(|()| tempfile::tempdir().expect("made"));
        Self { memory: self.memory.fork(), source, cache }
    }

    /// Makes a repository and a source with files small and large, equal and different.
    pub async fn new() -> Self {
        let bench = Self {
            memory: MemoryStore::default(),
            source: tempfile::tempdir().expect("a temporary directory"),
            cache: tempfile::tempdir().expect("a temporary directory"),
        };
        init(bench.store(), bench.cache.path()).await;
        let at = |name: &str| bench.source.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("writable");
        std::fs::write(at("a/empty"), b"").expect("writable");
        std::fs::write(at("a/text"), "some text\n".repeat(1000)).expect("writable");
        std::fs::write(at("a/b/large"), random_bytes(1, 3_000_000)).expect("writable");
        std::fs::write(at("a/b/copy"), random_bytes(1, 3_000_000)).expect("writable");
        for i in 0..40u64 {
            std::fs::write(at(&format!("a/small{i:02}")), random_bytes(100 + i, 700 + 40 * i as usize))
                .expect("writable");
        }
        bench
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.memory.clone())
    }

    pub async fn backup(&self) -> BackupReport {
        run_backup(self.store(), self.cache.path(), options(self.source.path())).await.expect("the backup succeeds")
    }

    /// Backs up and returns the snapshot with what was in the source.
    pub async fn snapshot(&self) -> (Snapshot, BTreeMap<String, Vec<u8>>) {
        let before = files_in(self.source.path());
        (self.backup().await.snapshot.expect("not a dry run"), before)
    }

    /// The packs that hold data and no trees.
    pub async fn data_packs(&self) -> Vec<ObjectKey> {
        let repository = open(self.store(), self.cache.path()).await.expect("opens");
        let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
        let data = index.packs().into_iter().filter(|pack| pack.kind == PackKind::Data);
        let mut keys: Vec<ObjectKey> = data.map(|pack| ObjectKey::pack(pack.id)).collect();
        keys.sort();
        keys
    }

    /// Reads a snapshot's files back with an empty cache.
    pub async fn read(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let entries = read_back(self.store(), cache.path(), snapshot).await?;
        Ok(contents(self.source.path(), &entries))
    }

    pub async fn verify(&self, read_data: ReadData) -> VerifyReport {
        let cache = tempfile::tempdir().expect("a temporary directory");
        run_verify(self.store(), cache.path(), read_data).await
    }
}
