//! Repositories of every format version are kept as they were written: they open, read and verify, and go on.
//!
//! A stored repository is never edited; a change of the format adds one. `COFFRE_WRITE_REPOSITORY=1` makes the one of the
//! current version when it is missing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::model::entry::{Entry, EntryKind};
use coffre::model::path::display_bytes;
use coffre::model::time::Timestamp;
use coffre::ops::verify::ReadData;
use coffre::repository::Repository;
use coffre::store::local::LocalStore;
use coffre::store::{OpenMode, Store};
use serde_json::{Value, json};

use crate::support::kitchen::{STREAM, Window, night_at, rows};
use crate::support::{
    PASSPHRASE, command, options, passphrase, random_bytes, read_back, run_backup, run_verify, small_options,
};

/// A recovery identity of twenty bytes of 0x5a; its slot stands beside that of the passphrase.
const RECOVERY: &str = "COFFRE-RECOVERY-B9D5-MPJT-B9D5-MPJT-B9D5-MPJT-B9D5-MPJT-861K";

fn stored(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/repositories").join(version)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for item in fs::read_dir(from).expect("readable") {
        let item = item.expect("readable");
        match item.file_type().expect("known").is_dir() {
            true => copy(&item.path(), &to.join(item.file_name())),
            false => drop(fs::copy(item.path(), to.join(item.file_name())).expect("copied")),
        }
    }
}

/// What is compared of an entry, below the directory that was backed up.
fn describe(entry: &Entry, content: &[u8]) -> Value {
    let kind = match &entry.kind {
        EntryKind::File(_) => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink(target) => return json!({ "link": display_bytes(target).to_string() }),
        EntryKind::Fifo => "fifo",
        EntryKind::Stream(..) => "stream",
        other => panic!("{other:?} is not in the stored repository"),
    };
    let m = &entry.metadata;
    let hash = blake3::hash(content).to_hex().to_string();
    let hash =
        entry.content().map(|content| json!({ "bytes": content.size, "holes": content.holes.len(), "blake3": hash }));
    // A stream is as old as its run, and directories made up for it have no other age.
    let mtime = matches!(kind, "file").then_some([m.mtime.seconds, i64::from(m.mtime.nanos)]);
    json!({ "kind": kind, "mode": format!("{:o}", m.mode), "mtime": mtime, "links": m.links, "content": hash })
}

async fn describe_all(store: Arc<dyn Store>, cache: &Path) -> Value {
    let repository = Repository::open(store.clone(), &passphrase(), cache).await.expect("opens");
    let mut all = BTreeMap::new();
    for (id, snapshot) in Arc::new(repository).snapshots().await.expect("listed") {
        let snapshot = snapshot.expect("opened");
        let entries = read_back(store.clone(), cache, &snapshot).await.expect("readable");
        let described: BTreeMap<String, Value> =
            entries.iter().map(|(entry, content)| (entry.path.to_string(), describe(entry, content))).collect();
        all.insert(id.object_name(), json!({ "host": snapshot.host, "tags": snapshot.tags, "entries": described }));
    }
    json!(all)
}

fn make_source(source: &Path) {
    let at = |name: &str| source.join(name);
    fs::create_dir_all(at("a/b")).expect("writable");
    fs::write(at("a/empty"), b"").expect("writable");
    fs::write(at("a/text"), "some text\n".repeat(50)).expect("writable");
    fs::write(at("a/b/random"), random_bytes(1, 60_000)).expect("writable");
    fs::write(at("a-b"), "hyphen").expect("writable");
    fs::hard_link(at("a/text"), at("again")).expect("linked");
    symlink("a/text", at("link")).expect("linked");
    fs::File::create(at("sparse")).expect("writable").set_len(1 << 20).expect("sized");
    fs::set_permissions(at("a-b"), fs::Permissions::from_mode(0o640)).expect("may");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["a/empty", "a/text", "a/b/random", "a-b", "sparse"] {
        fs::File::open(at(name)).expect("there").set_modified(long_ago).expect("may");
    }
}

/// Writes the repository of the current version, with what it holds beside it.
async fn write(repository: &Path) {
    let (source, cache) = (Path::new("/tmp/coffre-stored-source"), tempfile::tempdir().expect("made"));
    let _ = fs::remove_dir_all(source);
    make_source(source);
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(repository, OpenMode::Create).expect("made"));
    let recovery = SlotLock::Recovery(Passphrase::new(RECOVERY.into()));
    let locks = [(SlotLock::Recovery(passphrase()), "test"), (recovery, "recovery identity")];
    let now = Timestamp::from_seconds(1_790_000_000);
    Repository::init(store.clone(), &locks, &small_options(), now, cache.path()).await.expect("made");
    let (rows, new) = (rows(1, 20_000), rows(2, 500));
    let cuts = [(rows.clone(), 0, 9_000), (new.clone(), 0, 500), (rows.clone(), 9_000, 11_000), (rows.clone(), 3, 40)];
    let windows = vec![Window::plain(rows.to_vec()), Window::cut(1, &cuts, &[])];
    let started = Timestamp::from_seconds(1_790_000_001);
    night_at(store.clone(), cache.path(), started, &[new], vec![(STREAM, windows)]).await;
    let mut first = options(source);
    first.tags = vec!["first".into()];
    run_backup(store.clone(), cache.path(), first).await.expect("backed up");
    // Snapshots of one second have no order.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::write(source.join("a-b"), "changed").expect("writable");
    let mut second = options(source);
    second.sources = vec![command("db/numbers.sql", &["seq", "1", "20000"])];
    run_backup(store.clone(), cache.path(), second).await.expect("backed up");
    let described = describe_all(store, cache.path()).await;
    let text = serde_json::to_string_pretty(&described).expect("JSON") + "\n";
    fs::write(repository.with_extension("json"), text).expect("written");
    fs::remove_dir_all(source).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_version_1_opens_reads_verifies_and_goes_on() {
    let kept = stored("v1");
    if !kept.exists() && std::env::var_os("COFFRE_WRITE_REPOSITORY").is_some() {
        write(&kept).await;
    }
    let (work, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    copy(&kept, work.path());
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(work.path(), OpenMode::Write).expect("opens"));
    let recovery = Passphrase::new(RECOVERY.to_lowercase());
    Repository::open(store.clone(), &recovery, cache.path()).await.expect("the recovery identity opens it");

    let text = fs::read_to_string(kept.with_extension("json")).expect("stored beside it");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(describe_all(store.clone(), cache.path()).await, expected);
    assert_eq!(run_verify(store.clone(), cache.path(), ReadData::All).await.findings, []);

    let source = tempfile::tempdir().expect("made");
    make_source(source.path());
    let report =
        run_backup(store.clone(), cache.path(), options(source.path())).await.expect("the next backup succeeds");
    assert!(report.counts.new_bytes < 10_000, "what is stored is found: {:?}", report.counts);
    let after = run_verify(store, cache.path(), ReadData::All).await;
    assert_eq!((after.findings, after.snapshots), (vec![], 4));
}

#[test]
fn the_passphrase_of_the_stored_repository_is_that_of_the_tests() {
    // The Python reader and people use it: see tests/data/README.md.
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/README.md")).expect("there");
    assert!(readme.contains(PASSPHRASE) && readme.contains(RECOVERY));
}
