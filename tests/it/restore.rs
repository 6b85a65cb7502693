//! Restoring: everything comes back, only what differs is written, and nothing is written elsewhere.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre::format::pack::PackKind;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::path::EntryPath;
use coffre::ops::restore::{RestoreError, RestoreOptions, Selection, remove_extras, restore};
use coffre::ops::{Cancel, LookError};
use coffre::progress::{Collected, Counter, Monitor, Problem, Totals};
use coffre::repository::index::Index;
use proptest::prelude::*;

use crate::support::place::{Place, assert_same};
use crate::support::tree::{describe, plant_awkward, set_mtime};
use crate::support::{Bench, open, random_bytes};

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_file_system_holds_comes_back() {
    let place = Place::new().await;
    plant_awkward(&place.source());
    let snapshot = place.backup().await;
    let (report, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!((problems, report.damaged), (vec![], vec![]));
    assert_same(&place.source(), &place.target());
    let sparse = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(place.target().join("sparse")).expect("there"));
    assert!(sparse * 512 < 1_000_000, "the holes take no space: {sparse} blocks");

    // Again, into what is there: nothing is written.
    let (again, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!((problems, again.written_files, again.written_bytes), (vec![], 0, 0));
    assert_same(&place.source(), &place.target());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_written_and_extras_are_shown_before_they_go() {
    let place = Place::new().await;
    plant_awkward(&place.source());
    let snapshot = place.backup().await;
    place.restore(place.options(&snapshot)).await;

    let at = |name: &str| place.target().join(name);
    fs::write(at("extra"), "x").expect("written");
    fs::create_dir_all(at("deep/extra directory/with")).expect("made");
    fs::write(at("deep/er/random"), random_bytes(2, 700_000)).expect("written");
    fs::remove_file(at("link")).expect("removed");
    fs::remove_file(at("empty")).expect("removed");
    fs::create_dir(at("empty")).expect("a directory in a file's place");
    fs::remove_dir(at("empty directory")).expect("removed");
    fs::write(at("empty directory"), "a file in a directory's place").expect("written");

    let mut options = place.options(&snapshot);
    options.find_extras = true;
    options.dry_run = true;
    let before = describe(&place.target());
    let (dry, _) = place.restore(options.clone()).await;
    assert!(describe(&place.target()) == before, "a dry run changes nothing");
    assert_eq!(dry.extras, [b"deep/extra directory".to_vec(), b"extra".to_vec()]);
    assert_eq!(dry.written_files, 2);

    options.dry_run = false;
    let (report, problems) = place.restore(options).await;
    assert_eq!((problems, report.written_files), (vec![], 2));
    assert_eq!(report.extras, dry.extras);
    assert!(at("extra").exists(), "extras are only told");
    let removed = remove_extras(&place.target(), &report.extras, &Collected::default()).expect("removed");
    assert_eq!(removed, 2);
    // Removing changed the time of the directories that held them.
    for name in ["deep", ""] {
        let stat = fs::metadata(place.source().join(name)).expect("there").modified().expect("known");
        fs::File::open(place.target().join(name)).expect("there").set_modified(stat).expect("set");
    }
    assert_same(&place.source(), &place.target());
}

/// Asks to end after so many bytes.
struct Impatient {
    left: AtomicU64,
    cancel: Cancel,
}

impl Monitor for Impatient {
    fn add(&self, counter: Counter, amount: u64) {
        if counter == Counter::Bytes && self.left.fetch_sub(amount, Ordering::Relaxed) < amount {
            self.cancel.cancel();
        }
    }
    fn phase(&self, _: &str) {}
    fn totals(&self, _: Totals) {}
    fn problem(&self, problem: Problem) {
        panic!("{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_where_it_was() {
    let place = Place::new().await;
    for i in 0..30 {
        fs::write(place.source().join(format!("f{i}")), random_bytes(i, 1_500_000)).expect("written");
    }
    let snapshot = place.backup().await;
    let cancel = Cancel::default();
    let monitor = Arc::new(Impatient { left: AtomicU64::new(20_000_000), cancel: cancel.clone() });
    let repository = open(place.store(), &place.cache()).await.expect("opened");
    let mut options = place.options(&snapshot);
    options.memory_bytes = 128 << 20;
    let stopped = restore(repository, options, monitor, cancel).await;
    assert!(matches!(stopped, Err(RestoreError::Cancelled)), "{stopped:?}");
    let (report, _) = place.restore(place.options(&snapshot)).await;
    assert!(report.unchanged_files > 0 && report.written_files > 0, "{report:?}");
    assert_same(&place.source(), &place.target());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_named_and_the_rest_comes_back() {
    let place = Place::new().await;
    for i in 0..20 {
        fs::write(place.source().join(format!("f{i:02}")), random_bytes(i, 300_000)).expect("written");
    }
    let snapshot = place.backup().await;
    // The packs of file contents are the large ones.
    let packs = place.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    let data: Vec<ObjectKey> = packs.into_iter().filter(|pack| pack.size > 500_000).map(|pack| pack.key).collect();
    assert!(data.len() >= 3, "{data:?}");
    place.memory.tamper(&data[0], |bytes| bytes[1000] ^= 1);
    place.store().delete(&data[1]).await.expect("deleted");

    let (report, problems) = place.restore(place.options(&snapshot)).await;
    assert!(!report.damaged.is_empty() && report.damaged.len() < 20, "{:?}", report.damaged);
    for i in 0..20 {
        let name = format!("f{i:02}");
        let (whole, partial) = (place.target().join(&name), place.target().join(format!("{name}.damaged")));
        let wanted = fs::read(place.source().join(&name)).expect("there");
        if report.damaged.iter().any(|lost| lost.to_string().ends_with(&name)) {
            assert!(!whole.exists(), "a damaged file does not take the name of a good one");
            let found = fs::read(&partial).expect("what could be had is there");
            assert_eq!(found.len(), wanted.len());
            assert!(found.iter().zip(&wanted).all(|(found, wanted)| found == wanted || *found == 0), "no wrong data");
            assert!(problems.iter().any(|problem| problem.subject.ends_with(&name)), "{problems:?}");
        } else {
            assert_eq!(fs::read(&whole).expect("there"), wanted);
            assert!(!partial.exists());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_counts_as_too_much_while_a_part_of_the_tree_cannot_be_read() {
    let place = Place::new().await;
    for i in 0..2000 {
        fs::write(place.source().join(format!("f{i:04}")), format!("content {i}")).expect("written");
    }
    place.backup().await;
    let packs = place.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    fs::write(place.source().join("f0000"), "changed").expect("written");
    let snapshot = place.backup().await;
    let repository = open(place.store(), &place.cache()).await.expect("opened");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let is_tree = |key: &ObjectKey| index.pack(key.pack_id()?).first().map(|pack| pack.kind == PackKind::Tree);
    for old in packs.iter().filter(|object| is_tree(&object.key) == Some(true)) {
        place.store().delete(&old.key).await.expect("deleted");
    }

    fs::create_dir(place.target()).expect("made");
    fs::write(place.target().join("f1999"), "content 1999").expect("written");
    fs::write(place.target().join("foreign"), "not in the snapshot").expect("written");
    let options = RestoreOptions { find_extras: true, ..place.options(&snapshot) };
    let (report, problems) = place.restore(options).await;
    assert!(!report.damaged.is_empty() && report.written_files > 0, "a part is lost, a part is not: {report:?}");
    assert_eq!(report.extras, Vec::<Vec<u8>>::new());
    assert!(problems.iter().any(|problem| problem.message.contains("counts as too much")), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lie_in_the_target_lead_nowhere() {
    let place = Place::new().await;
    fs::create_dir_all(place.source().join("d")).expect("made");
    fs::write(place.source().join("d/file"), "content").expect("written");
    fs::write(place.source().join("file"), "content").expect("written");
    let snapshot = place.backup().await;
    let outside = place.directory.path().join("outside");
    fs::create_dir_all(&outside).expect("made");
    fs::write(outside.join("file"), "precious").expect("written");
    fs::create_dir(place.target()).expect("made");
    std::os::unix::fs::symlink(&outside, place.target().join("d")).expect("linked");
    std::os::unix::fs::symlink(outside.join("file"), place.target().join("file")).expect("linked");
    place.restore(place.options(&snapshot)).await;
    assert_same(&place.source(), &place.target());
    assert_eq!(fs::read(outside.join("file")).expect("there"), b"precious");
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_other_names_is_not_written_through() {
    let place = Place::new().await;
    fs::write(place.source().join("file"), "new content").expect("written");
    let snapshot = place.backup().await;
    fs::create_dir(place.target()).expect("made");
    let precious = place.directory.path().join("precious");
    fs::write(&precious, "old content").expect("written");
    fs::hard_link(&precious, place.target().join("file")).expect("linked");
    place.restore(place.options(&snapshot)).await;
    assert_eq!(fs::read(&precious).expect("there"), b"old content");
    assert_eq!(fs::read(place.target().join("file")).expect("there"), b"new content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_restored_by_path_and_by_pattern() {
    let bench = Bench::new().await;
    let (snapshot, _) = bench.snapshot().await;
    let source = bench.source.path().to_str().expect("plain").trim_start_matches('/').to_owned();
    let place = Place { memory: bench.memory.clone(), directory: tempfile::tempdir().expect("made") };
    let within = |path: &str| Some(EntryPath::new(format!("{source}/{path}")).expect("safe"));

    let one = RestoreOptions { within: within("a/text"), ..place.options(&snapshot) };
    place.restore(one).await;
    assert_eq!(fs::read(place.target().join("text")).expect("there"), "some text\n".repeat(1000).as_bytes());
    fs::remove_dir_all(place.target()).expect("removed");

    let selection = Selection::new(&["small0*".into()], &["small03".into()]).expect("patterns");
    place.restore(RestoreOptions { within: within("a"), selection, ..place.options(&snapshot) }).await;
    let names: Vec<Vec<u8>> = describe(&place.target()).into_keys().filter(|name| !name.is_empty()).collect();
    let wanted = (0..10).filter(|i| *i != 3).map(|i| format!("small0{i}").into_bytes());
    assert_eq!(names, wanted.collect::<Vec<_>>());

    let repository = open(place.store(), &place.cache()).await.expect("opened");
    let absent = RestoreOptions { within: within("absent"), ..place.options(&snapshot) };
    let error = restore(repository, absent, Arc::new(Collected::default()), Cancel::default()).await;
    assert!(matches!(error, Err(RestoreError::Look(LookError::NoSuchPath { .. }))), "{error:?}");
}

/// A change to a tree.
#[derive(Debug, Clone)]
enum Edit {
    Write { name: usize, seed: u64, length: usize },
    Append { name: usize, seed: u64, length: usize },
    Remove { name: usize },
    Link { name: usize, other: usize },
    Symlink { name: usize, to: String },
    Mode { name: usize, mode: u32 },
    Time { name: usize, seconds: u64, nanos: u32 },
    Hole { name: usize, offset: u64, length: u64 },
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..24usize;
    prop_oneof![
        4 => (name.clone(), any::<u64>(), 0..200_000usize).prop_map(|(name, seed, length)| Edit::Write { name, seed, length }),
        2 => (name.clone(), any::<u64>(), 0..50_000usize).prop_map(|(name, seed, length)| Edit::Append { name, seed, length }),
        1 => name.clone().prop_map(|name| Edit::Remove { name }),
        1 => (name.clone(), name.clone()).prop_map(|(name, other)| Edit::Link { name, other }),
        1 => (name.clone(), "[a-z./]{1,20}").prop_map(|(name, to)| Edit::Symlink { name, to }),
        1 => (name.clone(), 0..0o1000u32).prop_map(|(name, mode)| Edit::Mode { name, mode: mode | 0o400 }),
        1 => (name.clone(), 0..4_000_000_000u64, 0..1_000_000_000u32)
            .prop_map(|(name, seconds, nanos)| Edit::Time { name, seconds, nanos }),
        1 => (name, 0..3_000_000u64, 1..3_000_000u64).prop_map(|(name, offset, length)| Edit::Hole { name, offset, length }),
    ]
}

fn apply(root: &Path, edit: &Edit) {
    // Three levels of directories; a name is a place in one of them.
    let at = |name: usize| {
        let path = root.join(["", "a", "a/b", "c"][name % 4]).join(format!("n{name}"));
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        path
    };
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|stat| stat.is_file());
    match edit {
        Edit::Write { name, seed, length } => {
            let _ = fs::remove_file(at(*name));
            fs::write(at(*name), random_bytes(*seed, *length)).expect("written");
        }
        Edit::Append { name, seed, length } if is_file(&at(*name)) => {
            let mut content = fs::read(at(*name)).expect("readable");
            content.extend(random_bytes(*seed, *length));
            let _ = fs::remove_file(at(*name));
            fs::write(at(*name), content).expect("written");
        }
        Edit::Remove { name } => drop(fs::remove_file(at(*name))),
        Edit::Link { name, other } if is_file(&at(*name)) && name != other => {
            let _ = fs::remove_file(at(*other));
            fs::hard_link(at(*name), at(*other)).expect("linked");
        }
        Edit::Symlink { name, to } => {
            let _ = fs::remove_file(at(*name));
            std::os::unix::fs::symlink(to, at(*name)).expect("linked");
        }
        Edit::Mode { name, mode } if is_file(&at(*name)) => {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(*mode);
            fs::set_permissions(at(*name), permissions).expect("set");
        }
        Edit::Time { name, seconds, nanos } if is_file(&at(*name)) => set_mtime(&at(*name), *seconds, *nanos),
        Edit::Hole { name, offset, length } if is_file(&at(*name)) => {
            let file = fs::File::options().write(true).open(at(*name));
            // Where the mode forbids writing even to its owner there is no hole.
            if let Ok(file) = file {
                let end = offset + length;
                if file.metadata().expect("there").len() < end {
                    file.set_len(end).expect("set");
                }
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a tree holds and however it changes, each snapshot restores what was there when it was made, and no
    /// chunk is stored twice.
    #[test]
    fn random_trees_and_edits_round_trip(runs in prop::collection::vec(prop::collection::vec(edit(), 1..30), 1..4)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("made");
        runtime.block_on(async {
            let place = Place::new().await;
            let mut made = Vec::new();
            for edits in &runs {
                edits.iter().for_each(|edit| apply(&place.source(), edit));
                let wanted = describe(&place.source());
                made.push((place.backup().await, wanted));
            }
            for (snapshot, wanted) in &made {
                let (report, problems) = place.restore(place.options(snapshot)).await;
                assert_eq!((problems, report.damaged), (vec![], vec![]));
                let mut options = place.options(snapshot);
                options.find_extras = true;
                let (report, _) = place.restore(options.clone()).await;
                remove_extras(&place.target(), &report.extras, &Collected::default()).expect("removed");
                place.restore(options).await;
                assert!(describe(&place.target()) == *wanted, "snapshot {} of {runs:?}", snapshot.id);
            }
            let (stored, distinct) = crate::support::chunk_counts(place.store(), &place.cache()).await;
            assert_eq!(stored, distinct, "no chunk is stored twice");
        });
    }
}
