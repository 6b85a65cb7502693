//! Verifying heals: what it finds damaged is told to writers, the next backup stores again what its sources still have, and the
//! next verification says that it is healed.

use std::sync::{Arc, Mutex};

use coffre::model::cleanup::{CleanupId, CleanupList};
use coffre::model::id::PackId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::BackupOptions;
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::repository::writers::SlotPlace;
use coffre::store::StoreErrorKind;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};

use crate::cleanups::put_list;
use crate::support::kitchen::{Nights, STREAM};
use crate::support::{Bench, command, files_in, open, options, read_back, run_backup, verify_over};
use crate::writers::{Beaten, add, back_up, new};

async fn keys(bench: &Bench, kind: ObjectKind) -> Vec<ObjectKey> {
    bench.store().list(kind.prefix()).await.expect("listed").into_iter().map(|object| object.key).collect()
}

/// The packs that the lists doom.
async fn doomed(bench: &Bench) -> Vec<PackId> {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    repository.cleanups().await.expect("read").found_damaged().into_iter().collect()
}

fn reading_all() -> VerifyOptions {
    VerifyOptions { read_data: ReadData::All, ..VerifyOptions::default() }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Flip,
    Cut,
    Gone,
}

async fn harm(bench: &Bench, pack: &ObjectKey, harm: Harm) {
    match harm {
        Harm::Flip => bench.memory.tamper(pack, |bytes| bytes[300] ^= 1),
        Harm::Cut => bench.memory.tamper(pack, |bytes| bytes.truncate(bytes.len() / 2)),
        Harm::Gone => bench.store().delete(pack).await.expect("deleted"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_stored_again_by_the_next_backup_and_healed() {
    for how in [Harm::Flip, Harm::Cut, Harm::Gone] {
        let whole = Bench::new().await;
        let (snapshot, content) = whole.snapshot().await;
        let data = whole.data_packs().await;
        for pack in keys(&whole, ObjectKind::Pack).await {
            let about = format!("{how:?} {pack}");
            let bench = whole.fork();
            harm(&bench, &pack, how).await;
            let report = bench.verify(ReadData::All).await;
            assert_eq!((report.outcome(), report.healing.told, report.healing.waiting), (Outcome::Damaged, 1, 1));
            assert_eq!(doomed(&bench).await, [pack.pack_id().expect("a pack")], "{about}");
            // Once is enough.
            let again = bench.verify(ReadData::All).await;
            assert_eq!((again.outcome(), again.healing.told, again.healing.waiting), (Outcome::Damaged, 0, 1));
            assert_eq!(keys(&bench, ObjectKind::Cleanup).await.len(), 1, "{about}");

            let next = run_backup(bench.store(), bench.cache.path(), options(whole.source.path())).await;
            let next = next.expect("backed up").snapshot.expect("made");
            let report = bench.verify(ReadData::All).await;
            // Directories above the source are in the tree, and others write there: earlier nodes need not come back.
            let is_data = data.contains(&pack);
            let hit: Vec<_> = report.findings.iter().flat_map(|finding| &finding.snapshots).collect();
            assert!(hit.iter().all(|id| !is_data && **id == snapshot.id), "{about}: {:?}", report.findings);
            assert!(!is_data || report.outcome() == Outcome::Clean && report.healing.healed == 1, "{about}");
            for snapshot in [&next, &snapshot].into_iter().filter(|it| !hit.contains(&&it.id)) {
                let cache = tempfile::tempdir().expect("made");
                let entries = read_back(bench.store(), cache.path(), snapshot).await;
                let entries = entries.unwrap_or_else(|error| panic!("{about}: {error}"));
                assert_eq!(crate::support::contents(whole.source.path(), &entries), content, "{about}");
            }
            // It stays so, and nothing more is stored or told, however long ago it was.
            let later = run_backup(bench.store(), bench.cache.path(), options(whole.source.path())).await;
            let later = later.expect("backed up");
            assert!(later.counts.new_bytes < 10_000, "{about}: {:?}", later.counts);
            let report = bench.verify(ReadData::No).await;
            assert!(!is_data || report.outcome() == Outcome::Clean, "{about}: {:?}", report.findings);
            assert_eq!(keys(&bench, ObjectKind::Cleanup).await.len(), 1, "{about}");
        }
    }
}

/// What no source has any more stays damage, with the files that it hits; a pack serves what is whole in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_source_has_any_more_stays_lost_and_the_rest_of_its_pack_is_read() {
    let bench = Bench::new().await;
    std::fs::write(bench.source.path().join("a/unique"), crate::support::random_bytes(900, 900_000)).expect("writable");
    let (snapshot, mut content) = bench.snapshot().await;
    let packs = bench.data_packs().await;
    packs.iter().for_each(|pack| bench.memory.tamper(pack, |bytes| bytes[300] ^= 1));
    let told = bench.verify(ReadData::All).await;
    assert_eq!(told.healing.told, packs.len() as u64);
    let hit: Vec<&String> = told.findings.iter().flat_map(|finding| &finding.paths).collect();
    for file in files_in(bench.source.path()).keys() {
        std::fs::remove_file(bench.source.path().join(file)).expect("removed");
    }
    std::fs::write(bench.source.path().join("other"), "of today").expect("writable");
    bench.backup().await;
    let report = bench.verify(ReadData::All).await;
    assert_eq!((report.outcome(), report.healing.healed), (Outcome::Damaged, 0));
    let still: Vec<&String> = report.findings.iter().flat_map(|finding| &finding.paths).collect();
    assert_eq!(still, hit);
    // Every other file is there.
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let target = tempfile::tempdir().expect("made");
    let options = coffre::ops::restore::RestoreOptions::new(snapshot, target.path());
    let restored =
        coffre::ops::restore::restore(repository, options, Arc::new(Collected::default()), Cancel::default());
    let damaged = restored.await.expect("restored").damaged;
    content.retain(|name, _| !damaged.iter().any(|path| path.to_string().ends_with(name.as_str())));
    let back: Vec<Vec<u8>> =
        files_in(target.path()).into_iter().filter(|(name, _)| !name.ends_with(".damaged")).map(|it| it.1).collect();
    let mut wanted: Vec<Vec<u8>> = content.into_values().collect();
    let mut back = back;
    wanted.sort();
    back.sort();
    assert!(back == wanted && !wanted.is_empty(), "{} files of {}", back.len(), wanted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_cannot_read_heals_as_well_and_others_need_not() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    add(&repository, &new("web", &["web1"]), SlotPlace::Repository).await.expect("added");
    let first = back_up(&bench, "web", "web1").await.expect("backed up").snapshot.expect("made");
    bench.backup().await;
    let content = files_in(bench.source.path());
    for pack in bench.data_packs().await {
        bench.memory.tamper(&pack, |bytes| bytes[300] ^= 1);
    }
    assert_eq!(bench.verify(ReadData::All).await.outcome(), Outcome::Damaged);
    let next = back_up(&bench, "web", "web1").await.expect("backed up");
    assert!(next.counts.new_bytes > 3_000_000, "{:?}", next.counts);
    let report = bench.verify(ReadData::All).await;
    assert_eq!(report.findings.iter().filter(|finding| finding.snapshots.contains(&first.id)).count(), 0, "{report:?}");
    assert_eq!(bench.read(&next.snapshot.expect("made")).await.as_ref(), Ok(&content));
    assert_eq!((report.findings, report.healing.waiting), (vec![], 0));
    assert_eq!(bench.read(&first).await.as_ref(), Ok(&content));
}

fn stream_options(bytes: &[u8]) -> (tempfile::NamedTempFile, BackupOptions) {
    let file = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(file.path(), bytes).expect("written");
    let mut options = options(file.path());
    options.files = None;
    options.sources = vec![command(STREAM, &["cat", file.path().to_str().expect("plain")])];
    (file, options)
}

/// Windows that are made by recipes of damaged parts are stored again, and so are parts.
#[tokio::test(flavor = "multi_thread")]
async fn dumps_heal_whether_they_are_stored_plain_or_as_recipes() {
    let bench = Bench::new().await;
    let nights = Nights::written(bench.store(), bench.cache.path()).await;
    for pack in keys(&bench, ObjectKind::Pack).await {
        bench.memory.tamper(&pack, |bytes| bytes[20] ^= 1);
    }
    let report = bench.verify(ReadData::All).await;
    assert_eq!(report.outcome(), Outcome::Damaged);
    for dump in &nights.dumps {
        let (_file, options) = stream_options(dump);
        let made = run_backup(bench.store(), bench.cache.path(), options).await.expect("backed up");
        let snapshot = made.snapshot.expect("made");
        let cache = tempfile::tempdir().expect("made");
        let entries = read_back(bench.store(), cache.path(), &snapshot).await.expect("readable");
        assert!(entries.iter().any(|(_, bytes)| bytes == dump));
    }
    // Ours cuts windows otherwise than the kitchen does: what only the earlier snapshots name stays lost, and no more is told.
    let report = bench.verify(ReadData::All).await;
    let ours = bench.store().list(ObjectKind::Snapshot.prefix()).await.expect("listed").len() - nights.snapshots.len();
    assert_eq!(ours, 3);
    for finding in &report.findings {
        let theirs =
            |id: &coffre::model::snapshot::SnapshotId| nights.snapshots.iter().any(|snapshot| snapshot.id == *id);
        assert!(finding.snapshots.iter().all(theirs), "{finding:?}");
    }
    assert_eq!(report.healing.told, 0);
}

/// Windows are healed under their ids: by the same windows stored once more.
#[tokio::test(flavor = "multi_thread")]
async fn windows_of_lost_recipes_are_healed_by_the_same_windows() {
    let bench = Bench::new().await;
    let nights = Nights::written(bench.store(), bench.cache.path()).await;
    for pack in keys(&bench, ObjectKind::Pack).await {
        bench.memory.tamper(&pack, |bytes| bytes[20] ^= 1);
    }
    assert_eq!(bench.verify(ReadData::All).await.outcome(), Outcome::Damaged);
    let again = Nights::written(bench.store(), bench.cache.path()).await;
    let report = bench.verify(ReadData::All).await;
    assert_eq!((report.findings, report.healing.waiting), (vec![], 0));
    for (snapshot, dump) in nights.snapshots.iter().zip(&again.dumps) {
        let cache = tempfile::tempdir().expect("made");
        assert!(read_back(bench.store(), cache.path(), snapshot).await.expect("readable")[0].1 == *dump);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_or_is_not_to_says_so_and_changes_nothing() {
    let bench = Bench::new().await;
    bench.backup().await;
    let pack = bench.data_packs().await.remove(0);
    harm(&bench, &pack, Harm::Flip).await;
    let refusing = FaultStore::new(bench.store());
    refusing.plan(Fault::on(Operation::Put).always().fail_before(StoreErrorKind::Denied));
    let report = verify_over(Arc::new(refusing), reading_all()).await;
    assert_eq!((report.outcome(), report.healing.not_told, report.healing.told), (Outcome::Damaged, 1, 0));
    assert!(report.healing.why_not.is_some_and(|why| why.contains("cleanup/")));
    let report = verify_over(bench.store(), VerifyOptions { heal: false, ..reading_all() }).await;
    assert_eq!((report.healing.not_told, report.healing.why_not), (1, None));
    assert_eq!(keys(&bench, ObjectKind::Cleanup).await, []);
}

/// A store that was unreachable in part, or was put right: it is relied upon again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_again_is_relied_upon_again() {
    let bench = Bench::new().await;
    bench.backup().await;
    let packs = bench.data_packs().await;
    for pack in &packs {
        harm(&bench, pack, Harm::Flip).await;
    }
    let told = bench.verify(ReadData::All).await.healing.told;
    assert_eq!(told, packs.len() as u64);
    harm(&bench, &packs[0], Harm::Flip).await;
    let report = bench.verify(ReadData::No).await;
    assert_eq!((report.outcome(), report.healing.unread), (Outcome::Clean, told));
    let report = bench.verify(ReadData::All).await;
    assert_eq!((report.healing.right_again, report.healing.waiting), (1, told - 1));
    let left: Vec<PackId> = packs[1..].iter().filter_map(ObjectKey::pack_id).collect();
    assert_eq!(doomed(&bench).await, left);
    for pack in &packs[1..] {
        harm(&bench, pack, Harm::Flip).await;
    }
    assert_eq!(bench.verify(ReadData::All).await.healing.right_again, told - 1);
    assert_eq!(doomed(&bench).await, []);
    let stored = bench.backup().await;
    assert!(stored.counts.new_bytes < 10_000, "{:?}", stored.counts);
}

/// The way, refused rights, and what came wrong once say nothing about what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn only_damage_dooms() {
    let bench = Bench::new().await;
    bench.backup().await;
    for kind in [StoreErrorKind::Denied, StoreErrorKind::Unavailable, StoreErrorKind::TimedOut] {
        let faulty = FaultStore::new(bench.store());
        faulty.plan(Fault::on(Operation::Get).matching("packs/").always().fail_before(kind));
        let cache = tempfile::tempdir().expect("made");
        let repository = open(Arc::new(faulty), cache.path()).await.expect("opens");
        let ended = verify(repository, reading_all(), Arc::new(Collected::default()), Cancel::default()).await;
        assert!(ended.is_err(), "{kind:?}");
    }
    let faulty = FaultStore::new(bench.store());
    faulty.plan(Fault::on(Operation::Get).matching("packs/").corrupt(300));
    assert_eq!(verify_over(Arc::new(faulty), reading_all()).await.outcome(), Outcome::Clean);
    assert_eq!(keys(&bench, ObjectKind::Cleanup).await, []);
}

/// Of two who tell at once, or of one who tells while something is cleaned up, nobody's word is lost.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_lists_with_one_number_ours_is_made_anew() {
    let bench = Bench::new().await;
    bench.backup().await;
    let packs = bench.data_packs().await;
    // A rival's list, made aside.
    let rival = PackId([9; 16]);
    let aside = bench.fork();
    let list = CleanupList { packs: vec![rival], is_of_damage: true, ..CleanupList::default() };
    let theirs = put_list(&aside, 1, list).await;
    let object = aside.store().get(&ObjectKey::cleanup(theirs)).await.expect("there");
    harm(&bench, &packs[0], Harm::Flip).await;
    let first = Mutex::new(Some((ObjectKey::cleanup(theirs), object)));
    let beaten = Beaten { inner: bench.memory.clone(), first };
    let report = verify_over(Arc::new(beaten), reading_all()).await;
    assert_eq!(report.healing.told, 1);
    let mut both = vec![rival, packs[0].pack_id().expect("a pack")];
    both.sort();
    assert_eq!(doomed(&bench).await, both);
    let counters: Vec<u64> =
        keys(&bench, ObjectKind::Cleanup).await.iter().filter_map(|key| Some(key.cleanup_id()?.counter)).collect();
    assert_eq!(counters, [1, 1, 2], "and the newest is alone");
}

/// A list that nobody can open may have told anything: nothing is told behind it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_behind_a_list_that_cannot_be_opened() {
    let bench = Bench::new().await;
    bench.backup().await;
    put_list(&bench, 1, CleanupList::default()).await;
    let list = CleanupId { counter: 1, random: [1; 8] };
    bench.memory.tamper(&ObjectKey::cleanup(list), |bytes| *bytes.last_mut().expect("some") ^= 1);
    harm(&bench, &bench.data_packs().await[0], Harm::Flip).await;
    let report = bench.verify(ReadData::All).await;
    assert_eq!((report.healing.told, report.healing.not_told), (0, 1));
    assert!(report.healing.why_not.is_some_and(|why| why.contains("cannot be opened")));
    assert_eq!(keys(&bench, ObjectKind::Cleanup).await.len(), 1);
}

/// A month later it is honoured as on the first day, because nobody stores again what was never missed since.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_damaged_is_not_relied_upon_however_long_ago_that_was() {
    let bench = Bench::new().await;
    let made = bench.backup().await;
    let year_ago = Timestamp::from_seconds(Clock::System.now().seconds - 365 * 24 * 3600);
    for pack in bench.data_packs().await {
        harm(&bench, &pack, Harm::Flip).await;
    }
    let told = verify_over(bench.store(), VerifyOptions { clock: Clock::Fixed(year_ago), ..reading_all() }).await;
    assert!(told.healing.told > 0);
    let again = bench.backup().await;
    assert!(again.counts.new_bytes > made.counts.new_bytes / 2, "{:?}", again.counts);
    assert_eq!(bench.verify(ReadData::All).await.outcome(), Outcome::Clean);
}
