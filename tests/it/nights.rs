//! Streams night after night, as backups store them by default: what a night costs, that every night comes back, and that nothing that
//! happens to the cache, to packs or to the run itself makes anything wrong.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffre::model::key::ObjectKind;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, BackupOptions, BackupReport, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::index::Index;
use coffre::repository::reader::Reader;
use coffre::repository::writers::SlotPlace;
use coffre::source::given::Given;
use coffre::store::layer::fault::FaultStore;

use crate::prune::{at_once, pruned, remove};
use crate::support::{Bench, dumped, files_in, open, random_bytes, run_verify};
use crate::writers::{add, new, open_as};

const STREAM: &str = "db/shop.sql";

/// A dump: rows of some 100 bytes that do not compress well, numbered.
struct Dump(Vec<Vec<u8>>);

impl Dump {
    fn of(rows: usize) -> Self {
        Self((0..rows).map(|row| Self::row(row as u64)).collect())
    }

    fn row(seed: u64) -> Vec<u8> {
        let noise = random_bytes(seed, 40);
        let text: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{seed}\t{text}\tsome words\n").into_bytes()
    }

    /// Changes some rows, takes some away and appends some, as the night's number says.
    fn pass_day(&mut self, night: u64) {
        let draws = random_bytes(night + 1_000_000, 400);
        for draw in draws.chunks(4) {
            let at = u32::from_le_bytes(draw.try_into().expect("4 bytes")) as usize % self.0.len();
            match draw[0] % 4 {
                0 => drop(self.0.remove(at)),
                _ => self.0[at] = Self::row((night << 32) + at as u64),
            }
        }
        self.0.extend((0..50).map(|i| Self::row((night << 32) + (1 << 31) + i)));
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.concat()
    }
}

fn night_options(bytes: Vec<u8>) -> BackupOptions {
    let mut options = BackupOptions::default();
    options.sources = vec![Arc::new(Given::reader(STREAM, Cursor::new(bytes)))];
    options.host = "host".into();
    options.job = "nightly".into();
    options.threads = 2;
    options
}

async fn try_night(bench: &Bench, cache: &Path, options: BackupOptions) -> Result<BackupReport, BackupError> {
    let repository = open(bench.store(), cache).await.expect("opened");
    backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await
}

async fn night(bench: &Bench, bytes: &[u8]) -> BackupReport {
    try_night(bench, bench.cache.path(), night_options(bytes.to_vec())).await.expect("backed up")
}

async fn read(bench: &Bench, snapshot: &Snapshot) -> Vec<u8> {
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opened");
    let monitor = Arc::new(Collected::default());
    let index = Arc::new(Index::load(&repository, &*monitor).await.expect("loaded"));
    let reader = Arc::new(Reader::new(repository.reading().expect("may be read"), index, 128 << 20, monitor));
    dumped::dumped(reader, snapshot, Some(EntryPath::new(STREAM).expect("safe"))).await.expect("readable")
}

/// The file that a night left for the next.
fn left_in(cache: &Path) -> Option<PathBuf> {
    let repositories = std::fs::read_dir(cache).ok()?.flatten().map(|it| it.path().join("nights"));
    let mut files = repositories.filter_map(|it| std::fs::read_dir(it).ok()).flat_map(|files| files.flatten());
    files.find(|file| file.path().extension().is_some_and(|it| it == "night")).map(|file| file.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_stores_what_changed_and_every_night_comes_back() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(60_000);
    let mut nights = Vec::new();
    for number in 0..9 {
        let bytes = dump.bytes();
        let report = night(&bench, &bytes).await;
        let cost = report.counts.new_bytes;
        match number {
            0 => assert_eq!(cost, bytes.len() as u64, "the first night is stored whole"),
            _ => assert!((1..40_000).contains(&cost), "night {number}: {cost} of {}", bytes.len()),
        }
        nights.push((report.snapshot.expect("made"), bytes));
        dump.pass_day(number);
    }
    for (snapshot, bytes) in &nights {
        assert!(read(&bench, snapshot).await == *bytes);
    }
    let report = bench.verify(ReadData::All).await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    // The same dump again costs nothing.
    let again = night(&bench, &nights[8].1).await;
    assert_eq!(again.counts.new_bytes, 0);
    assert!(read(&bench, &again.snapshot.expect("made")).await == nights[8].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_night_left_is_small_sealed_and_for_its_user_alone() {
    let bench = Bench::new().await;
    let dump = Dump::of(30_000);
    night(&bench, &dump.bytes()).await;
    let left = left_in(bench.cache.path()).expect("there");
    let metadata = std::fs::metadata(&left).expect("there");
    assert!(metadata.len() < dump.bytes().len() as u64 / 10, "{} of {}", metadata.len(), dump.bytes().len());
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
    // Hashes and lengths of rows of the same length, and nothing of it shows.
    let bytes = std::fs::read(&left).expect("readable");
    let mut counts = [0usize; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let even = bytes.len() / 256;
    assert!(counts.iter().all(|count| (even / 2..even * 2).contains(count)), "{counts:?}");
    // A dry run leaves it as it was, and leaves nothing else.
    let mut options = night_options(Dump::of(10).bytes());
    options.dry_run = true;
    try_night(&bench, bench.cache.path(), options).await.expect("done");
    assert!(std::fs::read(&left).expect("readable") == bytes);
    assert_eq!(std::fs::read_dir(left.parent().expect("in a directory")).expect("there").count(), 1);
}

/// Whatever becomes of the file, the night is stored as it is; where it can be read, or made anew, it costs what changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_lost_old_foreign_cut_off_or_damaged_costs_bytes_and_nothing_else() {
    for may_read in [false, true] {
        spoil_cache(may_read).await;
    }
}

async fn spoil_cache(may_read: bool) {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    add(&repository, &new("db1", &["db1"]), SlotPlace::Repository).await.expect("added");
    let cache = tempfile::tempdir().expect("made");
    let night = async |bytes: &[u8]| {
        let repository = match may_read {
            true => open(bench.store(), cache.path()).await.expect("opened"),
            false => open_as("db1", bench.store(), cache.path()).await,
        };
        let mut options = night_options(bytes.to_vec());
        options.host = "db1".into();
        let done = backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
        done.expect("backed up")
    };
    let mut dump = Dump::of(40_000);
    night(&dump.bytes()).await;
    let left = left_in(cache.path()).expect("there");
    let first = std::fs::read(&left).expect("readable");
    dump.pass_day(1);
    night(&dump.bytes()).await;
    let second = std::fs::read(&left).expect("readable");
    let other = {
        let (bench, mut dump) = (Bench::new().await, Dump::of(40_000));
        self::night(&bench, &dump.bytes()).await;
        dump.pass_day(9);
        std::fs::read(left_in(bench.cache.path()).expect("there")).expect("readable")
    };
    let cut = |length: usize| second[..length].to_vec();
    let flipped = |at: usize| {
        let mut bytes = second.clone();
        bytes[at] ^= 1;
        bytes
    };
    let len = second.len();
    // What is left, whether something of it can be used, and whether that is told.
    let mut cases = vec![
        (None, false, false),
        (Some(second.clone()), true, false),
        (Some(first), true, false),
        (Some(other), false, true),
        (Some(Vec::new()), false, true),
        (Some(cut(len / 2)), false, true),
        (Some(cut(len - 1)), false, true),
        (Some(flipped(3)), false, true),
        (Some(flipped(20)), false, true),
        (Some(flipped(len - 1)), false, true),
        (Some(flipped(len - 10)), false, true),
    ];
    // Some block, of which there are ten.
    cases.extend((0..5).map(|nth| (Some(flipped(100 + nth * len / 6)), true, false)));
    for (number, (file, can_be_used, is_told)) in cases.into_iter().enumerate() {
        match file {
            Some(bytes) => std::fs::write(&left, bytes).expect("written"),
            None => std::fs::remove_file(&left).expect("there"),
        }
        dump.pass_day(100 + number as u64);
        let bytes = dump.bytes();
        let report = night(&bytes).await;
        let cost = report.counts.new_bytes;
        let told = |text: &str| report.problems.first.iter().any(|problem| problem.message.contains(text));
        assert_eq!(told("stored whole"), is_told && !may_read, "{number}");
        assert_eq!(told("made anew"), !can_be_used && may_read, "{number}");
        let is_small = cost < bytes.len() as u64 / if can_be_used { 2 } else { 20 };
        assert_eq!(is_small, can_be_used || may_read, "{number}: {cost} of {}", bytes.len());
        assert!(read(&bench, &report.snapshot.expect("made")).await == bytes, "{number}");
    }
    let report = bench.verify(ReadData::All).await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// A month in which nights are forgotten and cleaned up, and the cache is lost now and then: what is kept comes back.
#[tokio::test(flavor = "multi_thread")]
async fn nights_that_are_kept_come_back_whatever_was_forgotten_and_cleaned_up_between_them() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(20_000);
    let mut kept: Vec<(Snapshot, Vec<u8>)> = Vec::new();
    for number in 0..17u64 {
        let bytes = dump.bytes();
        kept.push((night(&bench, &bytes).await.snapshot.expect("made"), bytes));
        dump.pass_day(number);
        let draw = random_bytes(number + 77, 2);
        if draw[0].is_multiple_of(5) {
            std::fs::remove_file(left_in(bench.cache.path()).expect("there")).expect("ours");
        }
        if number % 3 == 2 {
            for _ in 0..2 {
                let (snapshot, _) = kept.remove(usize::from(draw[1]) % (kept.len() - 1));
                remove(&bench, &snapshot).await;
            }
            pruned(&bench, at_once()).await.expect("cleaned up");
        }
    }
    for (snapshot, bytes) in &kept {
        assert!(read(&bench, snapshot).await == *bytes);
    }
    let report = bench.verify(ReadData::All).await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reads_nothing_stores_what_changed_as_well() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    add(&repository, &new("db1", &["db1"]), SlotPlace::Repository).await.expect("added");
    let (cache, mut dump) = (tempfile::tempdir().expect("made"), Dump::of(20_000));
    for number in 0..3u64 {
        let bytes = dump.bytes();
        let repository = open_as("db1", bench.store(), cache.path()).await;
        let mut options = night_options(bytes.clone());
        options.host = "db1".into();
        let report = backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
        let report = report.expect("backed up");
        assert_eq!(report.counts.new_bytes < 50_000, number > 0, "{number}: {}", report.counts.new_bytes);
        assert!(read(&bench, &report.snapshot.expect("made")).await == bytes);
        dump.pass_day(number);
    }
}

/// A chunk that tonight would name is in a pack that is gone: what lay in it is new.
#[tokio::test(flavor = "multi_thread")]
async fn what_lay_in_a_pack_that_vanished_is_stored_again() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(80_000);
    night(&bench, &dump.bytes()).await;
    let packs = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    let largest = packs.iter().max_by_key(|pack| pack.size).expect("there are some");
    bench.store().delete(&largest.key).await.expect("deleted");
    dump.pass_day(1);
    let bytes = dump.bytes();
    let report = night(&bench, &bytes).await;
    let cost = report.counts.new_bytes;
    assert!(cost > 1_000_000 && cost < bytes.len() as u64, "{cost} of {}", bytes.len());
    assert!(read(&bench, &report.snapshot.expect("made")).await == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_recipes_streams_are_cut_fine_and_found_again_without_a_cache() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(20_000);
    for number in 0..2u64 {
        let mut options = night_options(dump.bytes());
        options.stream_options.recipes = false;
        let cache = tempfile::tempdir().expect("made");
        let report = try_night(&bench, cache.path(), options).await.expect("backed up");
        assert_eq!(left_in(cache.path()), None);
        let cost = report.counts.new_bytes;
        assert_eq!(cost < dump.bytes().len() as u64 * 3 / 4, number > 0, "{cost} of {}", dump.bytes().len());
        assert!(read(&bench, &report.snapshot.expect("made")).await == dump.bytes());
        dump.pass_day(number);
    }
}

/// A SQLite file and noise, whose pages are rewritten in place.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_rewritten_in_place_cost_these_pages() {
    let bench = Bench::new().await;
    let mut pages = random_bytes(1, 6 << 20);
    pages[..18].copy_from_slice(b"SQLite format 3\0\x10\0");
    night(&bench, &pages).await;
    for page in random_bytes(2, 30) {
        let at = usize::from(page) * 4096 * 5;
        pages[at..at + 100].copy_from_slice(&random_bytes(u64::from(page), 100));
    }
    let report = night(&bench, &pages).await;
    assert!(report.counts.new_bytes <= 30 * 4096, "{}", report.counts.new_bytes);
    assert!(read(&bench, &report.snapshot.expect("made")).await == pages);
}

/// The store dies after each change of a night: the night before stays, and the next night goes on from it.
#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_store_dies_the_next_night_goes_on_from_the_last_that_is_stored() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(30_000);
    let before = dump.bytes();
    let first = night(&bench, &before).await.snapshot.expect("made");
    let left = left_in(bench.cache.path()).expect("there");
    let of_first = std::fs::read(&left).expect("readable");
    dump.pass_day(1);
    let bytes = dump.bytes();
    for k in 0.. {
        std::fs::write(&left, &of_first).expect("written");
        let after =
            Bench { memory: bench.memory.fork(), source: tempfile::tempdir().expect("made"), cache: clone_of(&bench) };
        let dying = Arc::new(FaultStore::new(after.store()));
        dying.die_after_mutations(k);
        let repository = open(dying.clone(), after.cache.path()).await.expect("opened");
        let monitor = Arc::new(Collected::default());
        let outcome = backup(repository, night_options(bytes.clone()), monitor, Cancel::default()).await;
        let kept = std::fs::read(left_in(after.cache.path()).expect("there")).expect("readable");
        let snapshots = after.store().list(ObjectKind::Snapshot.prefix()).await.expect("listed").len();
        assert_eq!(kept == of_first, snapshots == 1, "k = {k}: {outcome:?}");
        let next = night(&after, &bytes).await;
        assert!(next.counts.new_bytes < 40_000, "k = {k}: {:?}", next.counts);
        assert!(read(&after, &next.snapshot.expect("made")).await == bytes, "k = {k}");
        assert!(read(&after, &first).await == before, "k = {k}");
        assert_eq!(after.verify(ReadData::All).await.findings, [], "k = {k}");
        if !dying.died() {
            assert!(k >= 5, "a night makes several changes, this one {k}");
            return;
        }
    }
}

/// Copies the cache of a bench to a directory of its own.
fn clone_of(bench: &Bench) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("made");
    for (name, bytes) in files_in(bench.cache.path()) {
        let path = copy.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    copy
}

/// New rows that are damaged are told by verifying, and stored again by the next night, which names them nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_are_stored_again_by_the_night_after_they_were_found() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(30_000);
    night(&bench, &dump.bytes()).await;
    let before = bench.data_packs().await;
    dump.pass_day(1);
    night(&bench, &dump.bytes()).await;
    let rows: Vec<_> = bench.data_packs().await.into_iter().filter(|pack| !before.contains(pack)).collect();
    assert_eq!(rows.len(), 1);
    bench.memory.tamper(&rows[0], |bytes| bytes[30] ^= 1);
    let found = run_verify(bench.store(), bench.cache.path(), ReadData::All).await;
    assert!(!found.findings.is_empty());
    dump.pass_day(2);
    let bytes = dump.bytes();
    let report = night(&bench, &bytes).await;
    let cost = report.counts.new_bytes;
    assert!((20_000..60_000).contains(&cost), "the rows of two nights: {cost}");
    assert!(read(&bench, &report.snapshot.expect("made")).await == bytes);
}
