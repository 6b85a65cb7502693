//! What `--delete` may take, and what a restore replaces: what the snapshot speaks of, and nothing beside it.

use std::fs;

use coffre::model::path::EntryPath;
use coffre::ops::restore::{RestoreOptions, Selection, remove_extras};
use coffre::progress::Collected;

use crate::support::desk::Desk;
use crate::support::files_in;
use crate::support::mount::Mount;
use crate::support::place::Place;
use crate::support::{options, run_backup};

/// Restores, and removes what is too much. Returns what that was.
async fn restore_and_delete(place: &Place, restoring: RestoreOptions) -> Vec<String> {
    let target = restoring.target.clone();
    let (report, problems) = place.restore(RestoreOptions { find_extras: true, ..restoring }).await;
    assert_eq!(problems, vec![]);
    let removed = remove_extras(&target, &report.extras, &Collected::default()).expect("removed");
    assert_eq!(removed, report.extras.len() as u64);
    report.extras.iter().map(|extra| String::from_utf8_lossy(extra).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beside_a_source_is_not_too_much() {
    let place = Place::new().await;
    place.plant("srv/data/d", "d");
    place.plant("srv/other/o", "o");
    let only_data = options(&place.source().join("srv/data"));
    let snapshot = run_backup(place.store(), &place.cache(), only_data).await.expect("stored").snapshot.expect("made");
    let above = |text: &str| Some(EntryPath::new(format!("{}{text}", place.source_path())).expect("safe"));
    let prefix = format!("{}/", place.source_path());
    // The whole snapshot, and then only what is in a directory above the source.
    for (within, prefix) in [(None, prefix.as_str()), (above("/srv"), "")] {
        let at = |name: &str| {
            let name = if within.is_some() { name.trim_start_matches("srv/") } else { name };
            place.target().join(format!("{prefix}{name}"))
        };
        for name in ["srv/data/extra/x", "srv/data/d", "srv/other/o", "home/h"] {
            fs::create_dir_all(at(name).parent().expect("below")).expect("made");
            fs::write(at(name), "there").expect("written");
        }
        fs::set_permissions(
            at("srv/other").parent().expect("srv"),
            std::os::unix::fs::PermissionsExt::from_mode(0o711),
        )
        .expect("set");
        let extras =
            restore_and_delete(&place, RestoreOptions { within: within.clone(), ..place.options(&snapshot) }).await;
        let data = if within.is_some() { "data" } else { "srv/data" };
        assert_eq!(extras, [format!("{prefix}{data}/extra")]);
        assert!(at("srv/other/o").exists() && at("home/h").exists() && !at("srv/data/extra").exists());
        assert_eq!(fs::read(at("srv/data/d")).expect("there"), b"d");
        let mode =
            std::os::unix::fs::MetadataExt::mode(&fs::metadata(at("srv/other").parent().expect("srv")).expect("there"));
        assert_eq!(mode & 0o777, 0o711, "a directory on the way keeps its mode");
        fs::remove_dir_all(place.target()).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_patterns_leave_out_is_neither_restored_nor_removed() {
    let place = Place::new().await;
    place.plant("kept", "x");
    place.plant("cache/old", "x");
    let snapshot = place.backup().await;
    for name in ["cache/new", "more/cache/x", "more/y", "gone/z", "top.log"] {
        let path = place.target().join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, "there").expect("written");
    }
    let selection = Selection::new(&[], &["cache/".into(), "*.log".into()]).expect("patterns");
    let extras = restore_and_delete(&place, RestoreOptions { selection, ..place.options(&snapshot) }).await;
    assert_eq!(extras, ["gone", "more/y"]);
    let names: Vec<String> = files_in(&place.target()).into_keys().collect();
    assert_eq!(names, ["cache/new", "kept", "more/cache/x", "top.log"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_system_is_not_too_much() {
    let place = Place::new().await;
    place.plant("sub/file", "x");
    fs::create_dir(place.source().join("mnt")).expect("made");
    let snapshot = place.backup().await;
    let Some(_in_snapshot) = Mount::tmpfs(&place.target().join("mnt"), 1000) else { return };
    let Some(_foreign) = Mount::tmpfs(&place.target().join("sub/foreign"), 1000) else { return };
    let Some(_deeper) = Mount::tmpfs(&place.target().join("extra/deep/mount"), 1000) else { return };
    for name in ["sub/foreign/precious", "extra/deep/mount/precious", "extra/x"] {
        fs::write(place.target().join(name), "precious").expect("written");
    }
    let looking = RestoreOptions { find_extras: true, ..place.options(&snapshot) };
    let (report, _) = place.restore(looking).await;
    assert_eq!(report.extras, [b"extra".to_vec()]);
    let monitor = Collected::default();
    assert_eq!(remove_extras(&place.target(), &report.extras, &monitor).expect("tried"), 0);
    assert_eq!(monitor.problems().len(), 1, "it is told: {:?}", monitor.problems());
    for name in ["sub/foreign/precious", "extra/deep/mount/precious"] {
        assert!(place.target().join(name).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_called_like_an_unfinished_one_is_the_users() {
    let place = Place::new().await;
    place.plant(".coffre-restore-x", "the source has one, too");
    let snapshot = place.backup().await;
    fs::create_dir(place.target()).expect("made");
    fs::write(place.target().join(".coffre-restore-y"), "precious").expect("written");
    let looking = RestoreOptions { find_extras: true, dry_run: true, ..place.options(&snapshot) };
    let (report, _) = place.restore(looking.clone()).await;
    assert_eq!(report.extras, [b".coffre-restore-y".to_vec()]);
    let (report, _) = place.restore(RestoreOptions { dry_run: false, ..looking }).await;
    assert_eq!(report.extras, [b".coffre-restore-y".to_vec()]);
    assert_eq!(place.restored(".coffre-restore-y"), b"precious");
    assert_eq!(place.restored(".coffre-restore-x"), b"the source has one, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_leaves_the_time_of_its_directory() {
    let place = Place::new().await;
    place.plant("d/x", "x");
    crate::support::tree::set_mtime(&place.source().join("d"), 1_000_000_000, 7);
    let snapshot = place.backup().await;
    place.restore(place.options(&snapshot)).await;
    fs::write(place.target().join("d/extra"), "x").expect("written");
    assert_eq!(restore_and_delete(&place, place.options(&snapshot)).await, ["d/extra"]);
    crate::support::place::assert_same(&place.source(), &place.target());
}

#[test]
fn a_filled_directory_in_the_place_of_a_file_goes_only_with_delete() {
    let desk = Desk::with_repository();
    std::os::unix::fs::symlink("a.txt", desk.at("source/other link")).expect("linked");
    desk.backup();
    let spot = format!("latest:{}", desk.at("source").display());
    for name in ["a.txt", "other link"] {
        fs::create_dir_all(desk.at("out").join(name).join("sub")).expect("made");
        fs::write(desk.at("out").join(name).join("sub/precious"), "precious").expect("written");
    }
    let run = desk.run(&["restore", &spot, "--target", "out"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains("could not restore it: a directory with something in it has this name, 2 times:\n  a.txt\n"),
        "{run:?}"
    );
    assert!(run.out.contains("1 file could NOT be restored\n"), "{run:?}");
    let precious = |name: &str| desk.at("out").join(name).join("sub/precious").exists();
    assert!(precious("a.txt") && precious("other link"));

    let run = desk.run(&["restore", &spot, "--target", "out", "--delete", "--dry-run"]);
    let told = "not in the snapshot: a.txt\nnot in the snapshot: other link\nwhat a backup was told to exclude is not in its \
                snapshot and may be among these: give its patterns to --exclude, and it stays\n";
    assert!(run.err.contains(told), "{run:?}");
    assert!(run.out.contains("2 entries would take the place of directories with something in them\n"), "{run:?}");
    assert!(precious("a.txt") && precious("other link"));

    let run = desk.run(&["restore", &spot, "--target", "out", "--delete", "--yes"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("2 extra entries removed\n"), "{run:?}");
    assert_eq!(crate::support::tree::describe(&desk.at("out")), crate::support::tree::describe(&desk.at("source")));
}

#[test]
fn what_the_backup_excluded_is_told_before_it_would_go_and_stays_when_named() {
    let desk = Desk::with_repository();
    fs::create_dir(desk.at("source/cache")).expect("made");
    fs::write(desk.at("source/cache/x"), "x").expect("written");
    assert_eq!(desk.run(&["backup", "source", "--exclude", "cache/"]).code, 0);
    let (source, spot) = (desk.at("source").display().to_string(), format!("latest:{}", desk.at("source").display()));
    let restore = |flags: &[&str]| desk.run(&[&["restore", &spot, "--target", &source, "--delete"], flags].concat());
    let run = restore(&["--dry-run"]);
    assert!(
        run.err.contains("not in the snapshot: cache\n") && run.err.contains("give its patterns to --exclude"),
        "{run:?}"
    );
    let run = restore(&["--yes", "--exclude", "cache/"]);
    assert!(run.code == 0 && !run.err.contains("--exclude") && desk.at("source/cache/x").exists(), "{run:?}");
    let run = restore(&["--yes"]);
    assert!(run.code == 0 && !desk.at("source/cache").exists(), "{run:?}");
}
