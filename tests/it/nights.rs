//! Streams night after night, as backups store them by default: what a night costs, that every night comes back, and that nothing that
//! happens to the cache, to packs or to the run itself makes anything wrong.

use std::collections::{BTreeMap, HashSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use coffre::format::pack::PackKind;
use coffre::model::id::ChunkKey;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, BackupOptions, BackupReport, backup};
use coffre::ops::prune::{MaxUnused, PruneOptions};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::index::Index;
use coffre::repository::index::table::ChunkPlace;
use coffre::repository::reader::Reader;
use coffre::repository::reader::windows::WindowAt;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::writers::SlotPlace;
use coffre::source::given::Given;
use coffre::store::layer::fault::FaultStore;
use coffre::windows::pieces::PieceRule;

use crate::prune::{at_once, packs, pruned, remove};
use crate::support::desk::{Desk, Run};
use crate::support::{Bench, begin, dumped, files_in, open, random_bytes, run_verify};
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

/// Whoever has the secrets of a domain knows where its hosts cut, and not by what another one tells rows apart.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_a_domain_cut_alike_and_compare_by_hashes_of_their_own() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let bytes = Dump::of(100_000).bytes();
    let mut cut = Vec::new();
    for host in ["db1", "web1"] {
        add(&repository, &new(host, &[host]), SlotPlace::Repository).await.expect("added");
        let cache = tempfile::tempdir().expect("made");
        let index = begin(&open_as(host, bench.store(), cache.path()).await).await;
        let options = WriterOptions {
            pack_target_bytes: 1 << 20,
            packs_in_flight: 1,
            level: 3,
            dry_run: false,
            extra_check: true,
        };
        let writer = Writer::start(index, options, Arc::new(Collected::default()));
        let mut gatherer = writer.window_gatherer(PieceRule::Rows);
        let (mut lengths, mut hashes, mut at) = (Vec::new(), HashSet::new(), 0);
        while let Some(length) = gatherer.advance(&bytes[at..], true) {
            lengths.push(gatherer.pieces().iter().map(|piece| piece.length).collect::<Vec<_>>());
            hashes.extend(gatherer.pieces().iter().map(|piece| piece.hash));
            gatherer.clear();
            at += length;
        }
        cut.push((lengths, hashes));
    }
    let [(lengths, hashes), (others_lengths, others_hashes)] = &cut[..] else { unreachable!("two hosts") };
    assert!(lengths.len() > 1 && lengths == others_lengths);
    assert!(hashes.is_disjoint(others_hashes));
}

/// A recipe may be damaged because what the last night left was wrong: the next night does not go on from that, and the one after does again.
#[tokio::test(flavor = "multi_thread")]
async fn what_led_to_recipes_that_were_found_damaged_is_not_gone_on_from_once() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    add(&repository, &new("db1", &["db1"]), SlotPlace::Repository).await.expect("added");
    let cache = tempfile::tempdir().expect("made");
    let night = async |bytes: &[u8]| {
        let repository = open_as("db1", bench.store(), cache.path()).await;
        let mut options = night_options(bytes.to_vec());
        options.host = "db1".into();
        let done = backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
        done.expect("backed up")
    };
    let packs = async || {
        let packs = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
        packs.into_iter().map(|pack| pack.key).collect::<Vec<_>>()
    };
    let mut dump = Dump::of(20_000);
    night(&dump.bytes()).await;
    let before = packs().await;
    dump.pass_day(1);
    night(&dump.bytes()).await;
    let data = bench.data_packs().await;
    let recipes: Vec<_> =
        packs().await.into_iter().filter(|pack| !before.contains(pack) && !data.contains(pack)).collect();
    assert_eq!(recipes.len(), 1);
    bench.memory.tamper(&recipes[0], |bytes| bytes[30] ^= 1);
    assert!(!run_verify(bench.store(), bench.cache.path(), ReadData::All).await.findings.is_empty());
    for (number, is_whole) in [(2, true), (3, false), (4, false)] {
        dump.pass_day(number);
        let bytes = dump.bytes();
        let report = night(&bytes).await;
        let told = report.problems.first.iter().any(|problem| problem.message.contains("stored whole"));
        let cost = report.counts.new_bytes;
        assert_eq!((told, cost > bytes.len() as u64 / 2), (is_whole, is_whole), "{number}: {cost} of {}", bytes.len());
        assert!(read(&bench, &report.snapshot.expect("made")).await == bytes, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_job_at_the_same_time_leave_what_one_of_them_made() {
    let bench = Bench::new().await;
    let mut dump = Dump::of(20_000);
    night(&bench, &dump.bytes()).await;
    dump.pass_day(1);
    let bytes = dump.bytes();
    let (one, other) = tokio::join!(night(&bench, &bytes), night(&bench, &bytes));
    let left = left_in(bench.cache.path()).expect("there");
    assert_eq!(std::fs::read_dir(left.parent().expect("in a directory")).expect("there").count(), 1);
    dump.pass_day(2);
    let next = night(&bench, &dump.bytes()).await;
    assert!(next.counts.new_bytes < 50_000, "{:?}", next.counts);
    for (report, bytes) in [(one, &bytes), (other, &bytes), (next, &dump.bytes())] {
        assert!(read(&bench, &report.snapshot.expect("made")).await == *bytes);
    }
}

/// What each stream leaves waits for the snapshot, and no file stays open for it.
#[test]
fn hundreds_of_streams_are_stored_with_few_open_files() {
    const STREAMS: usize = 300;
    let desk = Desk::with_repository();
    for night in 0..2 {
        let words: Vec<[String; 2]> =
            (0..STREAMS).map(|i| [format!("s{i}.sql"), format!("rows of {i} in night {night}\\n")]).collect();
        let mut arguments = vec!["-q", "backup", "--jobs", "4"];
        for [name, text] in &words {
            arguments.extend(["--command", name, "--", "printf", text]);
        }
        let program = desk.command(&arguments);
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
        limited.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let run: Run = limited.current_dir(desk.directory.path()).output().expect("runs").into();
        assert_eq!(run.code, 0, "{run:?}");
        let left = files_in(&desk.at(".cache/coffre"));
        assert_eq!(left.keys().filter(|name| name.ends_with(".night")).count(), STREAMS);
        assert!(!left.keys().any(|name| name.contains(".next")), "nothing waits any more");
    }
}

/// Rows of a kilobyte that compress well, numbered.
fn wide_rows(numbers: &[u64]) -> Vec<u8> {
    let words: String = random_bytes(5, 8 << 10).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut rows = Vec::with_capacity(numbers.len() * 1020);
    for number in numbers {
        let at = *number as usize * 7919 % (words.len() - 1000);
        rows.extend_from_slice(format!("{number}\t{}\n", &words[at..at + 1000]).as_bytes());
    }
    rows
}

/// Returns how much plaintext of frames each window needs that is stored as a recipe; each frame counts for 512 KiB at least.
async fn frames_needed(bench: &Bench) -> BTreeMap<ChunkKey, u64> {
    let (there, cache) = (packs(&*bench.store()).await, tempfile::tempdir().expect("made"));
    let repository = open(bench.store(), cache.path()).await.expect("opened");
    let monitor = Arc::new(Collected::default());
    let index = Arc::new(Index::load(&repository, &*monitor).await.expect("loaded"));
    let reading = repository.reading().expect("may be read");
    let reader = Arc::new(Reader::new(reading, index.clone(), 128 << 20, monitor));
    let is_there = |place: &ChunkPlace| there.contains(&ObjectKey::pack(place.pack));
    let mut needed = BTreeMap::new();
    for table in index.tables() {
        for row in table.rows() {
            let location = table.location(&row).expect("sound");
            if location.codec.holds_recipes() && is_there(&location) {
                let window = WindowAt { key: row.key, id: None, length: None, location };
                let resolved = reader.resolve(&window, &is_there).await.expect("no reader refuses it");
                let frames = resolved.places_used().map(|at| ((at.pack, at.frame), at.plain_len.max(512 << 10)));
                let bytes = frames.collect::<BTreeMap<_, _>>().into_values().map(u64::from).sum::<u64>();
                let most = needed.entry(row.key).or_insert(0);
                *most = bytes.max(*most);
            }
        }
    }
    needed
}

/// A table in another order, of which each window is made of runs from everywhere: one that needs 256 MiB of frames no reader takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_in_another_order_makes_no_window_need_more_than_it_may() {
    let bench = Bench::new().await;
    let rows: Vec<u64> = (0..95_000).collect();
    night(&bench, &wide_rows(&rows)).await;
    let mut runs: Vec<&[u64]> = rows.chunks(128).collect();
    runs.sort_by_key(|run| random_bytes(run[0], 8));
    let bytes = wide_rows(&runs.concat());
    let report = night(&bench, &bytes).await;
    let needed = frames_needed(&bench).await;
    let most = *needed.values().max().expect("some windows are recipes");
    assert!((32 << 20..=64 << 20).contains(&most), "{most}");
    let cost = report.counts.new_bytes;
    assert!(cost < bytes.len() as u64, "{cost} of {}", bytes.len());
    assert!(read(&bench, &report.snapshot.expect("made")).await == bytes);
}

/// Frames of new rows become one another's, windows stay alone, and no window needs more than it did.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_brought_together_make_no_window_need_more() {
    let bench = Bench::new().await;
    let mut rows: Vec<u64> = (0..14_500).collect();
    let mut kept = Vec::new();
    for number in 0..10u64 {
        let bytes = wide_rows(&rows);
        kept.push((night(&bench, &bytes).await.snapshot.expect("made"), bytes));
        if number == 0 {
            // The longest window is one of 8 MiB: the first one is of the first night alone.
            rows.drain(..8_500);
        }
        rows.iter_mut().skip(number as usize).step_by(50).for_each(|row| *row += (number + 1) << 32);
    }
    let (first, _) = kept.remove(0);
    remove(&bench, &first).await;
    let (old, before) = (packs(&*bench.store()).await, frames_needed(&bench).await);
    let options = PruneOptions { max_unused: MaxUnused::Bytes(0), ..at_once() };
    let report = pruned(&bench, options).await.expect("cleaned up");
    assert!(report.rewritten_packs > 9, "{report:?}");

    let after = frames_needed(&bench).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (window, needed) in &after {
        assert!(*needed <= before[window], "{needed} where it was {}", before[window]);
    }
    let there = packs(&*bench.store()).await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let mut frames = BTreeMap::new();
    for table in index.tables() {
        for row in table.rows() {
            let place = table.location(&row).expect("sound");
            let pack = ObjectKey::pack(place.pack);
            if place.kind == PackKind::Data && there.contains(&pack) && !old.contains(&pack) {
                frames.entry((place.pack, place.frame)).or_insert((place.plain_len, 0)).1 += 1;
            }
        }
    }
    let (together, alone): (Vec<_>, Vec<_>) = frames.into_values().partition(|(_, chunks)| *chunks > 1);
    assert!(alone.iter().any(|(bytes, _)| *bytes >= 2 << 20), "a window was rewritten: {alone:?}");
    assert!((2..9).contains(&together.len()), "rows of nine nights: {together:?}");
    assert!(together.iter().all(|(bytes, _)| *bytes <= 512 << 10), "{together:?}");
    for (snapshot, bytes) in &kept {
        assert!(read(&bench, snapshot).await == *bytes);
    }
    let report = bench.verify(ReadData::All).await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
