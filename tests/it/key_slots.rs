//! Key slots are looked at before they are needed: the keyring knows which there must be, whichever one opens.

use std::path::Path;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::model::id::SlotId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::time::Timestamp;
use coffre::ops::verify::{ReadData, VerifyReport};
use coffre::repository::{OpenError, Repository};
use coffre::store::OpenMode;
use coffre::store::Store;
use coffre::store::local::LocalStore;
use coffre::store::memory::MemoryStore;

use crate::support::{Bench, open, options, passphrase, run_backup, run_verify, small_options};

const OTHER: &str = "the passphrase in the safe";

/// A repository with two slots; returns the store and the slot that the tests do not open.
async fn two_slots(cache: &Path) -> (MemoryStore, ObjectKey) {
    let memory = MemoryStore::default();
    let locks =
        [(SlotLock::Recovery(passphrase()), "test"), (SlotLock::Recovery(Passphrase::new(OTHER.into())), "safe")];
    let now = Timestamp::from_seconds(1_800_000_000);
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    Repository::init(store, &locks, &small_options(), now, cache).await.expect("made");
    for object in memory.list(ObjectKind::Key.prefix()).await.expect("listed") {
        let alone = MemoryStore::default();
        for kind in [ObjectKind::Config, ObjectKind::Keyring] {
            for object in memory.list(kind.prefix()).await.expect("listed") {
                alone.put(&object.key, memory.get(&object.key).await.expect("there")).await.expect("put");
            }
        }
        alone.put(&object.key, memory.get(&object.key).await.expect("there")).await.expect("put");
        if matches!(open(Arc::new(alone), cache).await, Err(OpenError::WrongKey { .. })) {
            return (memory, object.key);
        }
    }
    panic!("one of the slots is not that of the tests");
}

fn findings(report: &VerifyReport) -> Vec<(String, String)> {
    report.findings.iter().map(|finding| (finding.object.to_string(), finding.damage.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_opens_is_verified_with_the_others() {
    let cache = tempfile::tempdir().expect("made");
    let (whole, other) = two_slots(cache.path()).await;
    assert_eq!(findings(&run_verify(Arc::new(whole.clone()), cache.path(), ReadData::No).await), []);

    let foreign = two_slots(tempfile::tempdir().expect("made").path()).await;
    let foreign = foreign.0.get(&foreign.1).await.expect("there").to_vec();
    type Harm = Box<dyn Fn(&mut Vec<u8>)>;
    let harms: [(&str, Harm); 5] = [
        ("a bit of the header", Box::new(|bytes| bytes[60] ^= 1)),
        ("the last bit", Box::new(|bytes| *bytes.last_mut().expect("some") ^= 1)),
        ("cut", Box::new(|bytes| bytes.truncate(bytes.len() / 2))),
        ("longer", Box::new(|bytes| bytes.push(0))),
        ("another repository's", Box::new(move |bytes| foreign.clone_into(bytes))),
    ];
    for (harm, apply) in harms {
        let memory = whole.fork();
        memory.tamper(&other, apply);
        let report = run_verify(Arc::new(memory), cache.path(), ReadData::No).await;
        let problem = "is not what was written: the passphrase or recovery identity of this key slot opens nothing";
        assert_eq!(findings(&report), [(other.to_string(), problem.to_owned())], "{harm}");
    }

    let memory = whole.fork();
    memory.delete(&other).await.expect("deleted");
    let report = run_verify(Arc::new(memory), cache.path(), ReadData::No).await;
    let problem = "is missing: the passphrase or recovery identity of this key slot opens nothing";
    assert_eq!(findings(&report), [(other.to_string(), problem.to_owned())]);

    // One too many is odd and harms nothing.
    let memory = whole.fork();
    let surplus = ObjectKey::slot(SlotId([7; 8]));
    memory.put(&surplus, whole.get(&other).await.expect("there")).await.expect("put");
    let report = run_verify(Arc::new(memory), cache.path(), ReadData::No).await;
    assert_eq!(findings(&report), []);
    assert!(report.notes.iter().any(|note| note.starts_with(surplus.as_str())), "{:?}", report.notes);
}

/// restic/restic#2199: what a NAS or a desktop drops into the repository's directories is no damage, nor is another
/// repository below one of its prefixes.
#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_leave_beside_the_objects_is_a_note_and_never_damage() {
    let bench = Bench::new().await;
    let (root, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(root.path(), OpenMode::Write).expect("opens"));
    crate::support::init(store.clone(), cache.path()).await;
    run_backup(store.clone(), cache.path(), options(bench.source.path())).await.expect("backed up");
    for prefix in ["", "packs/", "index/", "snapshots/", "sessions/", "keys/", "keyring/", "config/"] {
        let junk = root.path().join(prefix);
        std::fs::create_dir_all(junk.join("@eaDir")).expect("made");
        std::fs::write(junk.join(".DS_Store"), "junk").expect("written");
        std::fs::write(junk.join("@eaDir/x"), "junk").expect("written");
        let nested: Arc<dyn Store> = Arc::new(LocalStore::open(&junk.join("old"), OpenMode::Create).expect("made"));
        crate::support::init(nested, cache.path()).await;

        run_backup(store.clone(), cache.path(), options(bench.source.path())).await.expect("backed up");
        let report = run_verify(store.clone(), cache.path(), ReadData::All).await;
        assert_eq!(findings(&report), [], "{prefix}");
        let told = report.notes.iter().filter(|note| note.contains(&format!("below {prefix}"))).count();
        let is_listed = !["", "sessions/"].contains(&prefix);
        assert_eq!(told, usize::from(is_listed), "{prefix}: {:?}", report.notes);
        for left in ["@eaDir", "old"] {
            std::fs::remove_dir_all(junk.join(left)).expect("removed");
        }
        std::fs::remove_file(junk.join(".DS_Store")).expect("removed");
    }
}
