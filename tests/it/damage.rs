//! The damage table: each kind of object, each kind of damage; what reading, verifying and backing up then do.
//!
//! Whatever happens, no wrong data is ever returned, and nothing panics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffre::format::index::IndexSegment;
use coffre::model::id::SegmentId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::verify::{Damage as Found, ReadData};
use coffre::progress::Collected;
use coffre::repository::MAIN_DOMAIN;
use coffre::repository::index::open_segment;
use coffre::repository::objects::UploadedPack;

use crate::support::{Bench, files_in, open, options, random_bytes, run_backup};

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Delete,
    Truncate,
    FlipFirst,
    FlipMiddle,
    FlipLast,
    /// Its content is exchanged with that of another object of its kind.
    Swap,
}

const DAMAGES: [Damage; 6] =
    [Damage::Delete, Damage::Truncate, Damage::FlipFirst, Damage::FlipMiddle, Damage::FlipLast, Damage::Swap];

/// What is expected of opening, reading and verifying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The repository does not open, with an error.
    NoOpen,
    /// It opens; reading the snapshot fails with an error or gives the right data; verifying finds damage.
    Found,
    /// The object is beyond notice: everything works as if nothing had happened.
    Unnoticed,
    /// The snapshot is not there any more; the next one misses it.
    Gone,
}

fn expected(kind: ObjectKind, damage: Damage) -> Expected {
    match (kind, damage) {
        // There is one of each, so there is nothing to exchange it with.
        (ObjectKind::Config | ObjectKind::Key | ObjectKind::Keyring, Damage::Swap) => Expected::Unnoticed,
        (ObjectKind::Config | ObjectKind::Key | ObjectKind::Keyring, _) => Expected::NoOpen,
        (ObjectKind::Snapshot, Damage::Delete) => Expected::Gone,
        _ => Expected::Found,
    }
}

async fn objects(bench: &Bench, kind: ObjectKind) -> Vec<ObjectKey> {
    let listed = bench.store().list(kind.prefix()).await.expect("listed");
    listed.into_iter().map(|object| object.key).collect()
}

async fn apply(bench: &Bench, kind: ObjectKind, key: &ObjectKey, damage: Damage) {
    let store = bench.store();
    match damage {
        Damage::Delete => store.delete(key).await.expect("deleted"),
        Damage::Truncate => bench.memory.tamper(key, |bytes| bytes.truncate(bytes.len() / 2)),
        Damage::FlipFirst => bench.memory.tamper(key, |bytes| bytes[0] ^= 1),
        Damage::FlipMiddle => bench.memory.tamper(key, |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 0x10;
        }),
        Damage::FlipLast => bench.memory.tamper(key, |bytes| *bytes.last_mut().expect("not empty") ^= 0x80),
        Damage::Swap => {
            let other = objects(bench, kind).await.into_iter().find(|other| other != key);
            if let Some(other) = other {
                let (mine, theirs) = (store.get(key).await.expect("there"), store.get(&other).await.expect("there"));
                store.put(key, theirs).await.expect("put");
                store.put(&other, mine).await.expect("put");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_every_kind_of_object_is_met_as_expected() {
    let whole = Bench::new().await;
    let (first, before) = whole.snapshot().await;
    std::fs::write(whole.source.path().join("a/text"), "another state").expect("writable");
    let (second, now) = whole.snapshot().await;
    let states: [(&Snapshot, &BTreeMap<String, Vec<u8>>); 2] = [(&first, &before), (&second, &now)];

    let kinds = [
        ObjectKind::Config,
        ObjectKind::Key,
        ObjectKind::Keyring,
        ObjectKind::Pack,
        ObjectKind::Index,
        ObjectKind::Snapshot,
    ];
    for kind in kinds {
        for key in objects(&whole, kind).await {
            for damage in DAMAGES {
                let case = format!("{damage:?} {key}");
                let bench = whole.fork();
                apply(&bench, kind, &key, damage).await;
                check(&whole, &bench, expected(kind, damage), &states, &case).await;
            }
        }
    }
}

async fn check(
    whole: &Bench,
    bench: &Bench,
    expected: Expected,
    states: &[(&Snapshot, &BTreeMap<String, Vec<u8>>); 2],
    case: &str,
) {
    let opened = open(bench.store(), bench.cache.path()).await;
    assert_eq!(opened.is_err(), expected == Expected::NoOpen, "{case}: {:?}", opened.err());
    if opened.is_err() {
        return;
    }
    // Reading gives the right data or an error, never anything else.
    let mut unreadable = 0;
    for (snapshot, content) in states {
        let present = bench.store().head(&ObjectKey::snapshot(snapshot.id)).await.is_ok();
        match crate::support::read_back(bench.store(), bench.cache.path(), snapshot).await {
            Ok(entries) => assert_eq!(crate::support::contents(whole.source.path(), &entries), **content, "{case}"),
            Err(_) => unreadable += 1,
        }
        assert!(present || expected == Expected::Gone || case.contains("Swap"), "{case}");
    }
    check_restore(whole, bench, expected, states[1], case).await;
    let report = bench.verify(ReadData::All).await;
    match expected {
        Expected::Found => assert!(!report.findings.is_empty(), "{case}: nothing found"),
        Expected::Unnoticed => assert_eq!((report.findings, unreadable), (vec![], 0), "{case}"),
        Expected::Gone => {
            // The newest is not missed by who never saw it, an earlier one is by the next.
            let missed = usize::from(case.ends_with(ObjectKey::snapshot(states[0].0.id).as_str()));
            let vanished = report.findings.iter().filter(|finding| matches!(finding.damage, Found::Vanished(_)));
            assert_eq!((vanished.count(), report.findings.len(), unreadable), (missed, missed, 0), "{case}");
        }
        Expected::NoOpen => unreachable!("returned above"),
    }
    // A backup succeeds, and what it stores reads back whole: it relies on nothing that is known to be gone.
    let next = run_backup(bench.store(), bench.cache.path(), options(whole.source.path())).await;
    let next = next.unwrap_or_else(|error| panic!("{case}: the next backup fails: {error:?}"));
    let snapshot = next.snapshot.expect("made");
    let fresh = tempfile::tempdir().expect("a temporary directory");
    match crate::support::read_back(bench.store(), fresh.path(), &snapshot).await {
        Ok(entries) => assert_eq!(crate::support::contents(whole.source.path(), &entries), *states[1].1, "{case}"),
        // Changed bytes inside a pack are found by reading the data, which a backup does not do.
        Err(error) => assert!(case.contains("packs/") && !case.starts_with("Delete"), "{case}: {error}"),
    }
}

/// A restore puts right files under their names, and tells of every other one.
async fn check_restore(
    whole: &Bench,
    bench: &Bench,
    expected: Expected,
    (snapshot, content): (&Snapshot, &BTreeMap<String, Vec<u8>>),
    case: &str,
) {
    let (cache, target) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let snapshot = match repository.snapshot(snapshot.id).await {
        Ok(snapshot) => snapshot,
        Err(_) => return assert!(matches!(expected, Expected::Found | Expected::Gone), "{case}"),
    };
    let options = restore_options(whole.source.path(), snapshot, target.path());
    let monitor = Arc::new(Collected::default());
    let report = match restore(repository, options, monitor.clone(), Cancel::default()).await {
        Ok(report) => report,
        // Nothing of the tree that leads to the source can be read, or the index not at all.
        Err(_) => return assert_eq!(expected, Expected::Found, "{case}"),
    };
    let found = files_in(target.path());
    for (name, bytes) in &found {
        match name.strip_suffix(".damaged") {
            Some(name) => assert!(report.damaged.iter().any(|lost| lost.to_string().ends_with(name)), "{case}: {name}"),
            None => assert!(Some(bytes) == content.get(name), "{case}: {name} is wrong"),
        }
    }
    let lost = content.keys().filter(|name| !found.contains_key(*name)).count();
    let told = !report.damaged.is_empty();
    assert!(lost == 0 || told, "{case}: {lost} files are missing and nobody says so");
    assert_eq!(told, !monitor.problems().is_empty(), "{case}");
}

fn restore_options(source: &Path, snapshot: Snapshot, target: &Path) -> RestoreOptions {
    let within = source.to_str().expect("plain").trim_start_matches('/').to_owned();
    let mut options = RestoreOptions::new(snapshot, target);
    options.within = Some(EntryPath::new(within).expect("safe"));
    options
}

/// The provider puts back an older state of the store while this host remembers a newer one: index, last tree, packs.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_rolled_back_under_a_newer_cache_loses_no_later_backup() {
    let bench = Bench::new().await;
    bench.backup().await;
    let older = bench.memory.fork();
    std::fs::write(bench.source.path().join("a/new"), random_bytes(77, 2_000_000)).expect("writable");
    let (lost, now) = bench.snapshot().await;

    let rolled_back = Bench { memory: older, source: tempfile::tempdir().expect("made"), cache: bench.cache };
    let error = open(rolled_back.store(), rolled_back.cache.path()).await.expect("opens").snapshot(lost.id).await;
    assert!(error.is_err(), "the newer snapshot is gone, which no cache can hide");
    let next = run_backup(rolled_back.store(), rolled_back.cache.path(), options(bench.source.path())).await;
    let next = next.expect("the next backup succeeds").snapshot.expect("made");
    let fresh = tempfile::tempdir().expect("made");
    let entries = crate::support::read_back(rolled_back.store(), fresh.path(), &next).await.expect("readable");
    assert_eq!(crate::support::contents(bench.source.path(), &entries), now);
    // Nothing but the one that was taken away is missed, by the one that was made after it.
    let findings = rolled_back.verify(ReadData::All).await.findings;
    let [missed] = &findings[..] else { panic!("{findings:?}") };
    assert!(
        matches!(missed.damage, Found::Vanished(_)) && missed.object.to_string().starts_with("snapshot number 1 of "),
        "{missed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_keyring_is_refused_by_who_saw_the_newer_one() {
    let bench = Bench::new().await;
    let seen = bench.cache.path();
    let repository = open(bench.store(), seen).await.expect("opens");
    let reader = repository.keys().reader_key().expect("a reader").clone();
    let store = bench.store();
    let old_key = objects(&bench, ObjectKind::Keyring).await.remove(0);
    let old = store.get(&old_key).await.expect("there");
    let keyring = coffre::format::keyring::Keyring::decode(&old, repository.id(), &repository.keys().verifying_key());
    let newer = coffre::format::keyring::Keyring { counter: 2, ..keyring.expect("valid") };
    let newer_key = ObjectKey::keyring(2, [1; 8]);
    store.put(&newer_key, newer.encode(&reader).into()).await.expect("put");
    open(bench.store(), seen).await.expect("opens with the newer keyring");

    store.delete(&newer_key).await.expect("deleted");
    let error = open(bench.store(), seen).await.expect_err("the roll-back is noticed");
    assert!(error.to_string().contains("rolled back"), "{error}");
    let fresh = tempfile::tempdir().expect("a temporary directory");
    open(bench.store(), fresh.path()).await.expect("who never saw the newer one cannot know");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_names_the_snapshots_and_files_that_it_hits() {
    let bench = Bench::new().await;
    let (snapshot, _) = bench.snapshot().await;
    let packs = objects(&bench, ObjectKind::Pack).await;
    let largest = {
        let listed = bench.store().list("packs/").await.expect("listed");
        listed.into_iter().max_by_key(|object| object.size).expect("some").key
    };
    assert!(packs.len() > 2);
    bench.store().delete(&largest).await.expect("deleted");
    let report = bench.verify(ReadData::No).await;
    let finding = report.findings.iter().find(|finding| finding.object == largest).expect("found");
    assert_eq!(finding.damage, coffre::ops::verify::Damage::Missing);
    assert_eq!(finding.snapshots, [snapshot.id]);
    assert!(
        finding.paths.iter().any(|path| path.ends_with("/a/b/large") || path.ends_with("/a/b/copy")),
        "{finding:?}"
    );
}

/// Returns `bytes` with two parts of equal length exchanged, each of which is in them once.
fn swapped(bytes: &[u8], one: &[u8], two: &[u8]) -> Vec<u8> {
    let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part).expect("it is there");
    let (at_one, at_two) = (find(one), find(two));
    let mut swapped = bytes.to_vec();
    swapped[at_one..at_one + one.len()].copy_from_slice(two);
    swapped[at_two..at_two + two.len()].copy_from_slice(one);
    swapped
}

/// A host with the writer key lies about where chunks are, and nobody else tells: only whoever reads the data can tell, does, and
/// names the segment; a reader asks the pack itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_names_chunks_which_a_pack_does_not_hold_is_found() {
    let bench = Bench::new().await;
    for name in ["twin-a", "twin-b"] {
        std::fs::write(
            bench.source.path().join(name),
            random_bytes(name.len() as u64 + name.as_bytes()[5] as u64, 901),
        )
        .expect("writable");
    }
    let (snapshot, before) = bench.snapshot().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let key = objects(&bench, ObjectKind::Index).await.remove(0);
    let object = bench.store().get(&key).await.expect("there");
    let segment = open_segment(&repository, key.segment_id().expect("a segment"), &object).expect("ours");
    let chunks = segment.packs().iter().flat_map(|pack| &pack.directory.frames).flat_map(|frame| &frame.chunks);
    let twins: Vec<_> = chunks.filter(|(_, length)| *length == 901).map(|(key, _)| key.0).collect();
    let [one, two] = &twins[..] else { panic!("the twins are two chunks") };
    let lie = swapped(&segment.encode(), one, two);
    let packs =
        UploadedPack::indexed(IndexSegment::decode(coffre::model::author::Author::Reader, &lie).expect("a segment"));
    let id = SegmentId([9; 16]);
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    bench.store().put(&ObjectKey::segment(id), session.seal_segment(id, &packs).into()).await.expect("put");
    bench.store().delete(&key).await.expect("deleted");

    assert_eq!(bench.verify(ReadData::No).await.findings, []);
    let report = bench.verify(ReadData::All).await;
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    let told = finding.damage.to_string();
    assert!(told.starts_with("lies about pack ") && told.ends_with(", which is as it was written"), "{told}");
    assert_eq!(finding.object, ObjectKey::segment(id));
    assert_eq!((finding.snapshots.len(), finding.path_count), (0, 0), "nothing is lost by it: {finding:?}");
    assert_eq!(bench.read(&snapshot).await, Ok(before), "the pack itself tells where its chunks are");
}
