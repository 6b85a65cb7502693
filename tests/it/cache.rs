//! The cache is a help and nothing more: whatever is in it or wrong with it, every verb does what it does without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffre::ops::verify::ReadData;

use crate::support::desk::Desk;
use crate::support::{Bench, command, contents, files_in, options, read_back, run_backup, run_verify};

/// Every file of a cache but its tag, by its path below it.
fn cache_files(cache: &Path) -> BTreeMap<String, Vec<u8>> {
    files_in(cache).into_iter().filter(|(name, _)| !name.ends_with("CACHEDIR.TAG")).collect()
}

/// Flipped bits in every cached file: reading, verifying and backing up are right and blame nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_cache_is_never_believed() {
    let bench = Bench::new().await;
    let mut both = options(bench.source.path());
    both.sources = vec![command("dump.txt", &["sh", "-c", "seq 1 50000"])];
    let first = run_backup(bench.store(), bench.cache.path(), both.clone()).await.expect("backed up");
    let snapshot = first.snapshot.expect("made");
    let (want, whole) = (files_in(bench.source.path()), cache_files(bench.cache.path()));
    let names: Vec<&str> = whole.keys().map(|name| name.split_once('/').expect("below the id").1).collect();
    assert!(names.iter().any(|name| name.ends_with(".table")) && names.len() >= 5, "{names:?}");

    for (name, bytes) in &whole {
        let path = bench.cache.path().join(name);
        let step = (bytes.len() / 7).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let case = format!("{name} at {at}");
            let flip = || {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                std::fs::write(&path, flipped).expect("writable");
            };
            flip();
            let report = run_verify(bench.store(), bench.cache.path(), ReadData::No).await;
            assert_eq!(report.findings, [], "{case}");
            flip();
            let entries = read_back(bench.store(), bench.cache.path(), &snapshot).await;
            assert_eq!(contents(bench.source.path(), &entries.expect(&case)), want, "{case}");
            flip();
            let fork = Bench {
                memory: bench.memory.fork(),
                source: tempfile::tempdir().expect("made"),
                cache: tempfile::tempdir().expect("made"),
            };
            let next = run_backup(fork.store(), bench.cache.path(), both.clone()).await.expect(&case);
            let entries = read_back(fork.store(), fork.cache.path(), &next.snapshot.expect("made")).await;
            assert_eq!(contents(bench.source.path(), &entries.expect(&case)), want, "{case}");
            assert!(next.suspicious.is_empty(), "{case}: {:?}", next.suspicious);
            // What the fork's run left belongs to another store.
            for (name, bytes) in &whole {
                std::fs::write(bench.cache.path().join(name), bytes).expect("writable");
            }
        }
    }
}

type Harm = (&'static str, fn(&Path));

/// All verbs that a cache could hinder, as they are typed.
fn every_verb_works(desk: &Desk, case: &str, change: &dyn Fn(&mut std::process::Command), harm: &dyn Fn()) {
    let source = desk.at("source");
    let source = source.to_str().expect("plain");
    let place = format!("latest:{source}");
    let target = desk.at("out");
    let verbs: [&[&str]; 9] = [
        &["snapshots"],
        &["ls", "-R", "latest"],
        &["verify"],
        &["verify", "--read-data"],
        &["restore", &place, "--target", target.to_str().expect("plain")],
        &["dump", &format!("{place}/a.txt")],
        &["find", "b.txt"],
        &["stats"],
        &["backup", source],
    ];
    for verb in verbs {
        harm();
        let _ = std::fs::remove_dir_all(&target);
        let mut command = desk.command(verb);
        change(&mut command);
        let run: crate::support::desk::Run = command.output().expect("runs").into();
        assert_eq!(run.code, 0, "{case}: {verb:?}: {run:?}");
        assert!(run.err.matches("cannot be used as a cache").count() <= 1, "{case}: {verb:?}: {}", run.err);
        match verb[0] {
            "restore" => assert_eq!(files_in(&target), files_in(&desk.at("source")), "{case}"),
            "dump" => assert_eq!(run.out, "first file\n", "{case}"),
            "ls" | "find" => assert!(run.out.contains("b.txt"), "{case}: {}", run.out),
            _ => {}
        }
    }
}

#[test]
fn a_cache_file_that_is_cut_replaced_or_a_directory_hinders_no_verb() {
    let desk = Desk::with_repository();
    desk.backup();
    desk.backup();
    let cache = desk.at(".cache/coffre");
    let harms: [Harm; 5] = [
        ("cut", |path| std::fs::write(path, &std::fs::read(path).expect("there")[..1]).expect("writable")),
        ("empty", |path| std::fs::write(path, b"").expect("writable")),
        ("zeros", |path| std::fs::write(path, vec![0; 5000]).expect("writable")),
        ("a directory", |path| {
            std::fs::remove_file(path).expect("there");
            std::fs::create_dir(path).expect("made");
        }),
        ("a full directory", |path| {
            std::fs::remove_file(path).expect("there");
            std::fs::create_dir_all(path.join("inside")).expect("made");
        }),
    ];
    for (what, harm) in harms {
        let harm_all = || {
            let good: Vec<PathBuf> = cache_files(&cache).into_keys().map(|name| cache.join(name)).collect();
            good.iter().for_each(|path| harm(path));
        };
        every_verb_works(&desk, what, &|_| {}, &harm_all);
        let _ = std::fs::remove_dir_all(&cache);
        desk.backup();
    }
}

#[test]
fn without_a_place_for_the_cache_every_verb_works() {
    let desk = Desk::with_repository();
    desk.backup();
    std::fs::write(desk.at("taken"), b"a file").expect("written");
    let taken = desk.at("taken");
    let homeless = |command: &mut std::process::Command| {
        command.env("HOME", "/dev/null/nonexistent");
    };
    every_verb_works(&desk, "no home", &homeless, &|| {});
    let mut command = desk.command(&["ls", "latest"]);
    homeless(&mut command);
    let run: crate::support::desk::Run = command.output().expect("runs").into();
    assert!(run.err.contains("cannot be used as a cache"), "{run:?}");
    let misplaced = |command: &mut std::process::Command| {
        command.env("COFFRE_CACHE_DIR", &taken);
    };
    every_verb_works(&desk, "a file in its place", &misplaced, &|| {});
    let neither = |command: &mut std::process::Command| {
        command.env("COFFRE_CACHE_DIR", "/dev/null/cache").env("TMPDIR", "/dev/null/tmp");
    };
    every_verb_works(&desk, "neither cache nor temporary files", &neither, &|| {});
    assert_eq!(std::fs::read(desk.at("taken")).expect("there"), b"a file");
}

/// The directories of the cache are there, and nothing can be made in them.
#[test]
fn a_read_only_cache_hinders_no_verb() {
    use std::os::unix::fs::PermissionsExt;
    // As nobody, for whom read-only means something.
    crate::as_nobody(|| {
        let desk = Desk::with_repository();
        let cache = desk.at(".cache/coffre");
        let set = |mode: u32| {
            let id = std::fs::read_dir(&cache).expect("there").next().expect("one").expect("readable").path();
            for directory in [id.join("index"), id.join("trees"), id] {
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).expect("ours");
            }
        };
        set(0o500);
        desk.backup();
        every_verb_works(&desk, "read-only and empty", &|_| {}, &|| {});
        set(0o700);
        desk.backup();
        set(0o500);
        desk.backup();
        every_verb_works(&desk, "read-only and old", &|_| {}, &|| {});
        set(0o700);
    });
}

#[test]
fn the_first_of_systemds_cache_directories_is_used_and_marked() {
    let desk = Desk::with_repository();
    let (one, two) = (desk.at("one"), desk.at("two"));
    let both = format!("{}:{}", one.display(), two.display());
    let run: crate::support::desk::Run =
        desk.command(&["snapshots"]).env("CACHE_DIRECTORY", both).output().expect("runs").into();
    assert_eq!(run.code, 0, "{run:?}");
    let names: Vec<String> = files_in(&one).into_keys().collect();
    assert!(names.iter().any(|name| name.ends_with("CACHEDIR.TAG")), "{names:?}");
    assert!(!two.exists() && !desk.at("one:").exists());
}

/// Runs that were killed leave half-written files; the next day's run removes them, and nothing that is being written.
#[test]
fn what_killed_runs_left_in_the_cache_is_removed() {
    let desk = Desk::with_repository();
    desk.backup();
    let cache = desk.at(".cache/coffre");
    let trees = std::fs::read_dir(&cache).expect("there").next().expect("one").expect("readable").path().join("trees");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in ["abc.tmp4711", "abc.tmp0123456789abcdef", "live.tmp99"] {
        std::fs::File::create(trees.join(name)).expect("made").set_modified(old).expect("ours");
    }
    let live = std::fs::File::open(trees.join("live.tmp99")).expect("there");
    live.lock().expect("locked");
    desk.backup();
    let left: Vec<String> = files_in(&trees).into_keys().filter(|name| name.contains("tmp")).collect();
    assert_eq!(left, ["live.tmp99"]);
}
