//! Restoring into a file system that takes capital and small letters for the same: exFAT, as memory cards have it.

use std::fs;

use coffre::ops::restore::RestoreOptions;

use crate::support::files_in;
use crate::support::mount::Mount;
use crate::support::place::Place;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_names_that_are_one_there_the_first_stays_and_the_second_is_told() {
    let place = Place::new().await;
    for (name, content) in [
        ("ReadMe", "capital"),
        ("readme", "small"),
        ("Dir/a", "in Dir"),
        ("dir/a", "in dir"),
        ("dir/b", "b"),
        ("plain", "plain"),
    ] {
        place.plant(name, content);
    }
    let snapshot = place.backup().await;
    let Some(_mount) = Mount::exfat(&place.target(), 8) else { return };
    let wanted: Vec<(String, Vec<u8>)> = [("Dir/a", "in Dir"), ("ReadMe", "capital"), ("plain", "plain")]
        .map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()))
        .into();
    for (run, written) in [(1, 3), (2, 0)] {
        let (report, problems) = place.restore(RestoreOptions { find_extras: true, ..place.options(&snapshot) }).await;
        let files: Vec<(String, Vec<u8>)> = files_in(&place.target()).into_iter().collect();
        assert_eq!(files, wanted, "run {run}: {problems:?}");
        assert_eq!((report.written_files, report.unchanged_files, report.failed_files), (written, 3 - written, 3));
        let told: Vec<&str> = problems.iter().map(|problem| problem.subject.as_str()).collect();
        assert_eq!(told, ["dir", "readme"], "{problems:?}");
        assert!(problems.iter().all(|problem| problem.message.contains("has the same name here")), "{problems:?}");
        assert_eq!(report.extras, Vec::<Vec<u8>>::new(), "run {run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_the_name_in_other_letters_is_not_replaced() {
    let place = Place::new().await;
    place.plant("notes", "from the snapshot");
    let snapshot = place.backup().await;
    let Some(_mount) = Mount::exfat(&place.target(), 8) else { return };
    fs::write(place.target().join("NOTES"), "precious").expect("written");
    let (report, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!((report.written_files, report.failed_files, problems.len()), (0, 1, 1), "{problems:?}");
    let files: Vec<(String, Vec<u8>)> = files_in(&place.target()).into_iter().collect();
    assert_eq!(files, [("NOTES".to_owned(), b"precious".to_vec())]);
}
