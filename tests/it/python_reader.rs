//! The independent reader in Python, `examples/reader.py`, against repositories that this library writes.
//!
//! It needs its libraries in `target/reader-venv`, which `tests/all` makes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coffre::crypto::identity::Recipient;
use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::format::keyring::SlotName;
use coffre::format::writer::WriterName;
use coffre::model::cleanup::CleanupList;
use coffre::model::id::ChunkId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::snapshot::{MissingStream, Snapshot, SnapshotId, TreeRoot};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::forget::{WantedForgotten, apply, plan, undo};
use coffre::ops::prune::{PruneOptions, prune};
use coffre::progress::Collected;
use coffre::repository::retention::{RetentionChange, ToldBy};
use coffre::repository::writers::{NewWriter, SlotPlace};
use coffre::repository::{MAIN_DOMAIN, Repository};
use coffre::store::local::LocalStore;
use coffre::store::{OpenMode, Store};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::cleanups::put_list_of;
use crate::support::kitchen::{Nights, STREAM};
use crate::support::{PASSPHRASE, command, init, open, options, random_bytes, run_backup};

/// Returns the Python that has the reader's libraries, `None` where a machine without it may do without this test.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/reader-venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    let required = std::env::var_os("COFFRE_REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(!required, "{} is missing; tests/all makes it", python.display());
    eprintln!("skipped: {} is missing; tests/all makes it", python.display());
    None
}

/// A repository in a directory, what was backed up into it, and a place for what comes back.
struct Backed {
    python: PathBuf,
    source: tempfile::TempDir,
    work: tempfile::TempDir,
    fingerprint: String,
}

impl Backed {
    /// Backs up a tree with awkward entries and a stream.
    async fn new(python: PathBuf) -> Self {
        let temporary = || tempfile::tempdir().expect("a temporary directory");
        let mut backed = Self { python, source: temporary(), work: temporary(), fingerprint: String::new() };
        make_source(backed.source.path());
        let cache = temporary();
        let store = LocalStore::open(&backed.repository(), OpenMode::Create).expect("made");
        let store: Arc<dyn Store> = Arc::new(store);
        backed.fingerprint = init(store.clone(), cache.path()).await.fingerprint().to_string();
        let mut options = options(backed.source.path());
        options.sources = vec![command("db/numbers.sql", &["sh", "-c", "seq 1 200000"])];
        run_backup(store, cache.path(), options).await.expect("backed up");
        fs::write(backed.work.path().join("password"), format!("{PASSPHRASE}\n")).expect("writable");
        backed
    }

    fn repository(&self) -> PathBuf {
        self.work.path().join("repository")
    }

    /// Where the reader puts what was below the source, when it restores into `target`.
    fn restored(&self, target: &str) -> PathBuf {
        let source = self.source.path().strip_prefix("/").expect("temporary directories have absolute paths");
        self.work.path().join(target).join(source)
    }

    /// Runs the reader with `arguments` behind those that every command needs.
    fn read(&self, arguments: &[&OsStr]) -> Output {
        let password = self.work.path().join("password");
        self.read_with(&[&["--password-file".as_ref(), password.as_os_str()], arguments].concat())
    }

    /// Runs it with `arguments` alone.
    fn read_with(&self, arguments: &[&OsStr]) -> Output {
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/reader.py");
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(reader).arg("--repo").arg(self.repository()).args(arguments);
        command.output().expect("Python starts")
    }

    fn restore(&self, target: &str) -> Output {
        self.read(&[OsStr::new("restore"), OsStr::new("latest"), self.work.path().join(target).as_os_str()])
    }
}

fn make_source(source: &Path) {
    let at = |name: &str| source.join(name);
    fs::create_dir_all(at("a/b")).expect("writable");
    fs::create_dir(at("empty directory")).expect("writable");
    fs::write(at("a/empty"), b"").expect("writable");
    fs::write(at("a/text"), "some text\n".repeat(1000)).expect("writable");
    fs::write(at("a/b/large"), random_bytes(1, 3_000_000)).expect("writable");
    // These stand before and behind what `a` holds, in the order of paths.
    fs::write(at("a-b"), "hyphen").expect("writable");
    fs::write(at("a.b"), "dot").expect("writable");
    fs::write(source.join(OsStr::from_bytes(b"line\nand \xff")), "not text").expect("writable");
    fs::hard_link(at("a/b/large"), at("again")).expect("linked");
    symlink("../nowhere", at("a/dangling")).expect("linked");
    symlink("a/b", at("to a directory")).expect("linked");
    let sparse = File::create(at("sparse")).expect("writable");
    sparse.set_len(10 << 20).expect("sized");
    sparse.write_all_at(b"in the middle", 5 << 20).expect("written");
    for i in 0..400u64 {
        fs::write(at(&format!("a/b/small{i:03}")), random_bytes(100 + i, 10 + i as usize)).expect("writable");
    }
    for (name, mode) in [("a/text", 0o4755), ("a-b", 0o400), ("a/b", 0o750), ("empty directory", 0o555)] {
        fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("may");
    }
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["a/empty", "a"] {
        File::open(at(name)).expect("there").set_modified(long_ago).expect("may");
    }
}

/// What is compared of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Kind and permissions.
    mode: u32,
    mtime: (i64, i64),
    /// Names of the inode; 0 for directories, whose number is the file system's own affair.
    links: u64,
    /// Hash of a file's bytes or of a link's target.
    content: Option<blake3::Hash>,
}

/// Everything below a directory, and itself, by relative path.
fn found_in(directory: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().expect("there");
        let mut links = metadata.nlink();
        let content = if metadata.is_dir() {
            links = 0;
            pending.extend(fs::read_dir(&path).expect("readable").map(|item| item.expect("readable").path()));
            None
        } else if metadata.is_symlink() {
            Some(blake3::hash(fs::read_link(&path).expect("readable").as_os_str().as_bytes()))
        } else {
            Some(blake3::hash(&fs::read(&path).expect("readable")))
        };
        let name = path.strip_prefix(directory).expect("below").to_path_buf();
        let mtime = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(name, Found { mode: metadata.mode(), mtime, links, content });
    }
    found
}

/// Changes the first byte of an object.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[0] ^= 1;
    fs::write(path, bytes).expect("writable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_gets_everything_back() {
    let Some(python) = python() else { return };
    let backed = Backed::new(python).await;

    let listed = backed.read(&[OsStr::new("list")]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 1);
    let told = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(told.contains(&format!("with the fingerprint {}\n", backed.fingerprint)), "{told}");
    let with = |fingerprint: &str| {
        backed.read(&["--fingerprint".as_ref(), OsStr::new(fingerprint), "list".as_ref()]).status.success()
    };
    assert!(with(&backed.fingerprint.to_lowercase().replace('-', " ")) && !with("0123-4567-89AB-CDEF"));

    let output = backed.restore("target");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restored = backed.restored("target");
    assert_eq!(found_in(&restored), found_in(backed.source.path()));
    let numbers: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert!(fs::read(backed.work.path().join("target/db/numbers.sql")).expect("readable") == numbers.as_bytes());

    // One inode with two names, and holes where the file system has them.
    let inode = |name: &str| restored.join(name).metadata().expect("there").ino();
    assert_eq!(inode("a/b/large"), inode("again"));
    let has_holes = |directory: &Path| {
        let metadata = directory.join("sparse").metadata().expect("there");
        metadata.blocks() * 512 < metadata.len()
    };
    assert_eq!(has_holes(&restored), has_holes(backed.source.path()));
}

/// A repository with three more runs, its store, and both opened with a cache of their own.
async fn with_more_runs(python: PathBuf) -> (Backed, Arc<dyn Store>, Arc<Repository>, TempDir) {
    let backed = Backed::new(python).await;
    let cache = tempfile::tempdir().expect("made");
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&backed.repository(), OpenMode::Write).expect("it is there"));
    for _ in 0..3 {
        run_backup(store.clone(), cache.path(), options(backed.source.path())).await.expect("backed up");
    }
    let repository = open(store.clone(), cache.path()).await.expect("opens");
    (backed, store, repository, cache)
}

/// What was removed, and what a run that was given up put afterwards, is not there for either reader.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_knows_which_snapshots_count() {
    let Some(python) = python() else { return };
    let (backed, store, repository, _cache) = with_more_runs(python).await;
    let both = async || {
        let listed = backed.read(&[OsStr::new("list")]);
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let ours = repository.snapshots().await.expect("listed");
        let ours: Vec<_> = ours.into_iter().map(|(_, snapshot)| snapshot.expect("whole")).collect();
        let theirs = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(theirs.lines().count(), ours.len(), "{theirs}");
        assert!(ours.iter().all(|it| theirs.contains(&it.id.to_string())), "{theirs}");
        ours
    };
    let [first, second, third, fourth] = both().await.try_into().expect("four");
    let gone = vec![ObjectKey::snapshot(first.id).to_string()];
    put_list_of(&repository, &*store, 1, CleanupList { gone, ..CleanupList::default() }).await;
    assert_eq!(both().await.len(), 3);
    let given_up = vec![second.session, third.session];
    let object = store.get(&ObjectKey::snapshot(second.id)).await.expect("there");
    let accounted = vec![(second.id, Sha256::digest(object).into())];
    let list = CleanupList { given_up, accounted, is_deleting: true, ..CleanupList::default() };
    put_list_of(&repository, &*store, 2, list).await;
    assert_eq!(both().await.iter().map(|it| it.id).collect::<Vec<_>>(), [second.id, fourth.id]);
    // One list tells again what these and others tell, and they go.
    for number in 3..12 {
        put_list_of(&repository, &*store, number, CleanupList::default()).await;
    }
    for days in [1, 3] {
        let clock = Clock::Fixed(Timestamp::from_seconds(Clock::System.now().seconds + days * 86_400));
        let options = PruneOptions { clock, ..crate::prune::at_once() };
        prune(repository.clone(), options, Arc::new(Collected::default()), Cancel::default()).await.expect("done");
    }
    let left = store.list(ObjectKind::Cleanup.prefix()).await.expect("listed");
    assert!(left.len() < 8 && left[0].key.cleanup_id().is_some_and(|list| list.counter == 12), "{left:?}");
    assert_eq!(both().await.iter().map(|it| it.id).collect::<Vec<_>>(), [second.id, fourth.id]);
    let output = backed.restore("target");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whatever stands behind the newest snapshot that counts, foreign, incomplete or damaged, changes nothing about `latest`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_tells_apart_what_does_not_count() {
    let Some(python) = python() else { return };
    let backed = Backed::new(python).await;
    let cache = tempfile::tempdir().expect("made");
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&backed.repository(), OpenMode::Write).expect("it is there"));
    let repository = open(store.clone(), cache.path()).await.expect("opens");
    let ours = repository.snapshots().await.expect("listed").remove(0).1.expect("whole");
    let (words, made) = (Passphrase::new("the words of web".into()), Timestamp::default());
    let name = WriterName { name: "web".into(), hosts: vec!["web".into()] };
    let new = NewWriter { name, domains: vec![MAIN_DOMAIN.into()], group: None, made };
    repository.add_writer(&new, &SlotLock::Recovery(words.clone()), SlotPlace::Repository).await.expect("added");
    let others = tempfile::tempdir().expect("made");
    let web = Arc::new(Repository::open(store.clone(), &words, others.path()).await.expect("opens"));
    let repository = open(store.clone(), cache.path()).await.expect("opens");
    let begin = |of: &Arc<Repository>| of.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
    let missing = || vec![MissingStream { name: "db/shop.sql".into(), why: "no server".into() }];
    let root = ours.root;
    for (nth, session, host, missing) in [
        (1, begin(&repository), "host", missing()),
        (2, begin(&web), "host", Vec::new()),
        (3, begin(&web), "web", missing()),
    ] {
        let started = Timestamp::from_seconds(ours.started.seconds + nth);
        let id = SnapshotId::new(started, [nth as u8; 8]);
        let root = TreeRoot { id: ChunkId([nth as u8; 32]), ..root };
        let planted = Snapshot { id, started, session: session.id(), host: host.into(), missing, root, ..ours.clone() };
        store.put(&ObjectKey::snapshot(id), session.seal_snapshot(&planted).into()).await.expect("put");
    }
    let listed = backed.read(&[OsStr::new("list")]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ends: Vec<&str> = listed.lines().map(|line| line.rsplit("  ").next().unwrap_or_default()).collect();
    let apart = "(by a writer that may not back up this host)";
    assert_eq!((ends.len(), &ends[1..]), (5, &["(incomplete)", "(incomplete)", "", apart][..]), "{listed}");
    let output = backed.restore("target");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What cannot be read is told, and the one before is the latest.
    let rubbish = ObjectKey::from_listed("snapshots/22000101T000000Z-0000000000000000");
    store.put(&rubbish, vec![7; 64].into()).await.expect("put");
    let output = backed.restore("again");
    assert_eq!(output.status.code(), Some(1), "what is damaged is told");
    assert_eq!(found_in(&backed.restored("again")), found_in(backed.source.path()));
}

/// What was forgotten is apart and no `latest`, what was brought back is not, and a record that is missing is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_knows_what_is_forgotten() {
    let Some(python) = python() else { return };
    let (backed, store, repository, _cache) = with_more_runs(python).await;
    let ids: Vec<_> = repository.snapshots().await.expect("listed").into_iter().map(|(id, _)| id.to_string()).collect();
    let deleting = repository.deleting().expect("may");
    let told_by = ToldBy { now: Timestamp::from_seconds(1_900_000_000), host: "h".into(), program: "p" };
    let forget = async |nth: &[usize]| {
        let wanted = WantedForgotten::Named(nth.iter().map(|nth| ids[*nth].clone()).collect(), false);
        let planned = plan(&deleting, &wanted, told_by.now, &Collected::default()).await.expect("planned");
        apply(&deleting, &planned, &told_by).await.expect("forgotten");
    };
    forget(&[1, 3]).await;
    // Two who do not know of each other: one brings it back, the other forgets one more.
    let before = deleting.retention().await.expect("read");
    undo(&deleting, &ids[1..2], &told_by).await.expect("back");
    let first = before.all_forgotten().find(|(removed, _)| removed.id.to_string() == ids[1]).expect("one of them").0;
    let again = RetentionChange { forget: vec![(first, "why".into())], ..RetentionChange::default() };
    deleting.tell_retention(&before, again, &told_by).await.expect("told");
    let listed = || {
        let output = backed.read(&[OsStr::new("list")]);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let place = |line: &str| ids.iter().position(|id| line.contains(id)).expect("one of them");
        let (stay, apart) = shown.split_once("\n\n").expect("some are apart");
        let apart: Vec<_> = apart.lines().map(|line| (place(line), line.ends_with("(forgotten)"))).collect();
        (output.status.code(), stay.lines().map(place).collect::<BTreeSet<_>>(), apart)
    };
    assert_eq!(listed(), (Some(0), [0, 1, 2].into(), vec![(3, true)]));
    let output = backed.restore("target");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = store.list(ObjectKind::Retention.prefix()).await.expect("listed");
    store.delete(&records[0].key).await.expect("deleted");
    let output = backed.read(&[OsStr::new("list")]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("a record before it is missing"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_refuses_what_was_changed() {
    let Some(python) = python() else { return };
    let backed = Backed::new(python).await;
    let before = found_in(backed.source.path());

    // The largest pack holds contents; its first byte is one of its first frame.
    let packs = found_in(&backed.repository().join("packs"));
    let paths = packs.iter().filter(|(_, found)| found.content.is_some());
    let paths = paths.map(|(name, _)| backed.repository().join("packs").join(name));
    let pack = paths.max_by_key(|path| path.metadata().expect("there").len()).expect("there are packs");
    damage(&pack);
    let output = backed.restore("damaged");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let name = pack.file_name().expect("packs have names").to_string_lossy();
    assert!(message.contains(&*name) && message.contains("frame 0"), "{message}");
    let restored = found_in(&backed.restored("damaged"));
    assert!(restored.len() < before.len(), "something was left out");
    for (name, found) in restored {
        assert_eq!(found.content, before[&name].content, "{}", name.display());
    }

    // Nothing is believed without the configuration's signature.
    for configuration in found_in(&backed.repository().join("config")).into_keys().filter(|name| name != Path::new(""))
    {
        damage(&backed.repository().join("config").join(configuration));
    }
    let output = backed.restore("nothing");
    assert_eq!(output.status.code(), Some(1));
    assert!(!backed.work.path().join("nothing").exists());
}

/// What `age -d` gives of a slot for a public key opens the repository that is meant, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn the_payload_of_a_slot_for_a_public_key_is_taken_where_the_fingerprint_is_given() {
    let Some(python) = python() else { return };
    let backed = Backed::new(python).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let store = LocalStore::open(&backed.repository(), OpenMode::Write).expect("opened");
    let repository = open(Arc::new(store), cache.path()).await.expect("opens");
    let identity = age::x25519::Identity::generate();
    let recipient = Recipient::parse(&identity.to_public().to_string()).expect("a key");
    let added = repository.add_slot(&SlotLock::Recipient(recipient), &SlotName::default()).await.expect("added");
    let slot = fs::read(backed.repository().join(format!("keys/{added}.age"))).expect("stored");
    let payload = backed.work.path().join("payload");
    fs::write(&payload, age::decrypt(&identity, &slot).expect("made for it")).expect("writable");
    for (fingerprint, succeeds) in
        [(Some(&*backed.fingerprint), true), (Some("0000-0000-0000-0000"), false), (None, false)]
    {
        let mut arguments = vec!["--slot".as_ref(), payload.as_os_str()];
        arguments.extend(fingerprint.iter().flat_map(|it| [OsStr::new("--fingerprint"), OsStr::new(*it)]));
        arguments.push("list".as_ref());
        let output = backed.read_with(&arguments);
        assert_eq!(output.status.success(), succeeds, "{fingerprint:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // A passphrase is not held up by it.
    let output = backed.read(&["list".as_ref()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Windows that are stored as recipes, and what is told of a part that is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_written_from_the_specification_resolves_recipes() {
    let Some(python) = python() else { return };
    let backed = Backed::new(python).await;
    let cache = tempfile::tempdir().expect("a temporary directory");
    let store = LocalStore::open(&backed.repository(), OpenMode::Write).expect("opened");
    let nights = Nights::written(Arc::new(store), cache.path()).await;
    for (nth, (snapshot, dump)) in nights.snapshots.iter().zip(&nights.dumps).enumerate() {
        let target = backed.work.path().join(format!("night{nth}"));
        let name = snapshot.id.object_name();
        let output = backed.read(&[OsStr::new("restore"), OsStr::new(&name), target.as_os_str()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(target.join(STREAM)).expect("restored") == *dump, "night {nth}");
    }
}

#[test]
fn the_reader_agrees_with_every_vector_and_reads_the_stored_repository() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |arguments: &[&OsStr]| {
        let output = Command::new(&python).arg("-B").args(arguments).output().expect("Python starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.into_owned()
    };
    let agreed = run(&[root.join("tests/tools/check-vectors").as_os_str()]);
    let count: u32 = agreed.split(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(count >= 78, "{agreed}");

    let work = tempfile::tempdir().expect("a temporary directory");
    let (password, target) = (work.path().join("password"), work.path().join("target"));
    fs::write(&password, PASSPHRASE).expect("writable");
    let (reader, kept) = (root.join("examples/reader.py"), root.join("tests/data/repositories/v1"));
    let given =
        [reader.as_os_str(), "--repo".as_ref(), kept.as_os_str(), "--password-file".as_ref(), password.as_os_str()];
    run(&[&given[..], &["restore".as_ref(), "latest".as_ref(), target.as_os_str()]].concat());
    let numbers: String = (1..=20_000).map(|i| format!("{i}\n")).collect();
    assert!(fs::read_to_string(target.join("db/numbers.sql")).expect("restored") == numbers);
    assert_eq!(fs::read_to_string(target.join("tmp/coffre-stored-source/a-b")).expect("restored"), "changed");
    // The first snapshot is a stream of which a part is stored as a recipe.
    let listed = run(&[&given[..], &["list".as_ref()]].concat());
    let first = listed.split(' ').next().expect("its id");
    let target = work.path().join("first");
    run(&[&given[..], &["restore".as_ref(), first.as_ref(), target.as_os_str()]].concat());
    let kept = fs::read_to_string(kept.with_extension("json")).expect("beside it");
    let hash = blake3::hash(&fs::read(target.join(STREAM)).expect("restored")).to_hex().to_string();
    assert!(kept.contains(&hash), "{listed}");
}
