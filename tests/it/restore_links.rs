//! Files with several names: what is one file comes back as one, and nothing else is joined.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use coffre::model::entry::Entry;
use coffre::model::snapshot::Snapshot;
use coffre::ops::open_reader;
use coffre::progress::Collected;

use crate::support::dumped::dumped;
use crate::support::open;
use crate::support::place::Place;

/// Two files with two names each, and a snapshot in which all four have one inode number: that of `a` was freed and used
/// again for `z` while the backup ran.
async fn number_used_again(place: &Place) -> Snapshot {
    for (first, second, content) in [("a", "b", "old content"), ("y", "z", "new content, and longer")] {
        place.plant(first, content);
        fs::hard_link(place.source().join(first), place.source().join(second)).expect("linked");
    }
    let snapshot = place.backup().await;
    place.changed(&snapshot, |entries| entries.iter_mut().for_each(|entry| entry.metadata.inode = 42)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inode_number_that_was_used_again_joins_nothing_at_a_restore() {
    let place = Place::new().await;
    let snapshot = number_used_again(&place).await;
    for _ in 0..2 {
        let (report, problems) = place.restore(place.options(&snapshot)).await;
        assert_eq!((problems, report.damaged), (vec![], vec![]));
        for (first, second, content) in [("a", "b", "old content"), ("y", "z", "new content, and longer")] {
            assert_eq!(place.restored(first), content.as_bytes());
            assert_eq!(place.restored(second), content.as_bytes());
            let inode = |name: &str| fs::metadata(place.target().join(name)).expect("there").ino();
            assert_eq!(inode(first), inode(second), "what is one file is still one");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_contents_of_one_number_with_other_rights_are_two_files() {
    let place = Place::new().await;
    place.plant("public", "same");
    place.plant("secret", "same");
    let snapshot = place.backup().await;
    let join = |entries: &mut Vec<Entry>| {
        for entry in entries.iter_mut().filter(|entry| entry.content().is_some()) {
            (entry.metadata.inode, entry.metadata.links) = (42, 2);
            entry.metadata.mode = if entry.path.name() == b"secret" { 0o600 } else { 0o644 };
        }
    };
    let snapshot = place.changed(&snapshot, join).await;
    place.restore(place.options(&snapshot)).await;
    let mode = |name: &str| fs::metadata(place.target().join(name)).expect("there").mode() & 0o777;
    assert_eq!((mode("public"), mode("secret")), (0o644, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inode_number_that_was_used_again_joins_nothing_in_an_archive() {
    let place = Place::new().await;
    let snapshot = number_used_again(&place).await;
    let repository = open(place.store(), &place.cache()).await.expect("opened");
    let reader = open_reader(repository, 64 << 20, Arc::new(Collected::default())).await.expect("opened");
    let archive = dumped(reader, &snapshot, Some(place.source_path())).await.expect("dumped");
    fs::create_dir(place.target()).expect("made");
    let mut tar =
        Command::new("tar").arg("-x").current_dir(place.target()).stdin(Stdio::piped()).spawn().expect("started");
    tar.stdin.take().expect("piped").write_all(&archive).expect("written");
    assert!(tar.wait().expect("ended").success());
    for (first, second, content) in [("a", "b", "old content"), ("y", "z", "new content, and longer")] {
        assert_eq!(place.restored(first), content.as_bytes());
        assert_eq!(place.restored(second), content.as_bytes());
        let inode = |name: &str| fs::metadata(place.target().join(name)).expect("there").ino();
        assert_eq!(inode(first), inode(second), "what is one file is still one");
    }
}
