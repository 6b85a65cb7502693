//! A sector that a disk cannot read damages the object that it is of, and nothing else; a disk that does not answer damages
//! nothing. Both give the same error, `EIO`; what is behind it shows on a real file system alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffre::model::key::ObjectKey;
use coffre::store::local::LocalStore;
use coffre::store::{OpenMode, Store, StoreErrorKind};

use crate::support::desk::{Desk, Run};
use crate::support::mount::Disk;
use crate::support::random_bytes;

/// A repository on a disk of its own, with one snapshot of a large file and small ones.
struct Bench {
    desk: Desk,
    disk: Disk,
}

impl Bench {
    fn new() -> Option<Self> {
        let desk = Desk::with_repository();
        fs::write(desk.at("source/large"), random_bytes(7, 8_000_000)).expect("written");
        // One thread, so that the small files do not share a frame with the middle of the large one.
        let source = desk.at("source");
        let made = desk.run(&["backup", "--threads", "1", source.to_str().expect("plain")]);
        assert_eq!(made.code, 0, "{made:?}");
        let disk = Disk::new(&desk.at("disk"), &desk.at("image"))?;
        let copied = Command::new("cp").arg("-a").arg(desk.at("repository")).arg(desk.at("disk/repo")).status();
        assert!(copied.expect("runs").success());
        Some(Self { desk, disk })
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let cache = tempfile::tempdir().expect("made");
        let cache = cache.path().to_str().expect("plain");
        self.desk.run(&[&["--repo", "disk/repo", "--cache-dir", cache], arguments].concat())
    }

    /// Returns the largest pack.
    fn pack(&self) -> PathBuf {
        let mut packs = Vec::new();
        for shard in fs::read_dir(self.desk.at("disk/repo/packs")).expect("there") {
            packs.extend(fs::read_dir(shard.expect("readable").path()).expect("there").flatten());
        }
        packs
            .into_iter()
            .map(|pack| pack.path())
            .max_by_key(|pack| fs::metadata(pack).expect("there").len())
            .expect("one")
    }
}

fn key(desk: &Desk, object: &Path) -> ObjectKey {
    let name = object.strip_prefix(desk.at("disk/repo")).expect("below").to_str().expect("plain");
    ObjectKey::from_listed(name)
}

#[test]
fn a_bad_sector_damages_its_object_and_the_rest_comes_back() {
    let Some(bench) = Bench::new() else { return };
    let pack = bench.pack();
    bench.disk.break_page(&pack, 4_000_000);
    bench.disk.forget_all();
    let name = key(&bench.desk, &pack).to_string();

    let run = bench.run(&["restore", "latest", "--target", "target"]);
    assert_eq!(run.code, 4, "{run:?}");
    let source = bench.desk.at("source");
    let restored = bench.desk.at("target").join(source.strip_prefix("/").expect("absolute"));
    for file in ["a.txt", "sub/b.txt"] {
        assert_eq!(fs::read(restored.join(file)).expect("there"), fs::read(source.join(file)).expect("there"));
    }
    assert!(!restored.join("large").exists(), "{run:?}");
    let (whole, salvaged) = (random_bytes(7, 8_000_000), fs::read(restored.join("large.damaged")).expect("there"));
    let lost = whole.iter().zip(&salvaged).filter(|(one, other)| one != other).count();
    assert!(salvaged.len() == whole.len() && lost < whole.len() / 2, "{lost} bytes lost");

    let run = bench.run(&["verify", "--read-data"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.out.contains(&name) && run.out.contains("the disk cannot read it"), "{run:?}");
    assert!(run.out.contains("/large") && !run.out.contains("/b.txt"), "{run:?}");
    assert_eq!(bench.run(&["dump", &format!("latest:{}/a.txt", source.display())]).out, "first file\n");
}

#[test]
fn a_disk_that_is_gone_damages_nothing_whatever_the_kernel_remembers_of_it() {
    let Some(bench) = Bench::new() else { return };
    let pack = bench.pack();
    bench.disk.unplug();
    // Only the pack has to be asked for; everything else is in memory and still comes.
    bench.disk.forget(&pack);
    for arguments in [&["restore", "latest", "--target", "target"][..], &["verify", "--read-data"]] {
        let run = bench.run(&[&["--give-up-after", "1s"], arguments].concat());
        assert_eq!(run.code, 7, "{run:?}");
        assert!(!run.out.contains("DAMAGED"), "{run:?}");
    }
    let source = bench.desk.at("source");
    let restored = bench.desk.at("target").join(source.strip_prefix("/").expect("absolute"));
    assert!(!restored.join("large.damaged").exists());
}

#[tokio::test]
async fn each_kind_of_object_says_what_is_wrong_with_it() {
    let Some(bench) = Bench::new() else { return };
    let root = bench.desk.at("disk/repo");
    let pack = bench.pack();
    bench.disk.break_page(&pack, 0);
    bench.disk.forget_all();
    let store = LocalStore::open(&root, OpenMode::Read).expect("opened");
    let key = key(&bench.desk, &pack);
    let error = store.get(&key).await.expect_err("it cannot be read");
    assert_eq!(error.kind, StoreErrorKind::Unreadable, "{error}");
    assert!(error.clause().contains("(os error 5)"), "{}", error.clause());
    assert_eq!(store.get_range(&key, 0..10).await.expect_err("bad").kind, StoreErrorKind::Unreadable);
    // What lies beside it in the same object can be read, and whatever else there is.
    assert_eq!(store.get_range(&key, 8192..8200).await.expect("good").len(), 8);
    let there = store.list("").await.expect("listed");
    for object in there.into_iter().filter(|object| object.key != key) {
        assert_eq!(store.get(&object.key).await.expect("good").len() as u64, object.size);
    }
    // The same failure of a disk that has gone meanwhile.
    bench.disk.unplug();
    bench.disk.forget_all();
    assert_eq!(store.get_range(&key, 0..10).await.expect_err("gone").kind, StoreErrorKind::Unavailable);
}
