//! Large files, stored by what changed since they were last read: what each kind of change costs, that every snapshot comes back, and that
//! nothing that happens to a file while it is read, to the cache or to packs makes anything wrong.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use coffre::crypto::slot::SlotLock;
use coffre::format::config::ChunkerProfile;
use coffre::model::key::ObjectKind;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::model::time::Timestamp;
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupOptions, BackupReport, ParentChoice, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::{Collected, Counter, EntryEvent, Monitor, Problem, Totals};
use coffre::repository::writers::SlotPlace;
use coffre::repository::{InitOptions, Repository};
use coffre::source::given::Given;
use coffre::store::layer::fault::FaultStore;
use coffre::store::memory::MemoryStore;

use crate::prune::{at_once, pruned, remove};
use crate::support::dumped::dumped_afresh;
use crate::support::{Bench, at_rest, files_in, open, options, passphrase, random_bytes, run_verify};
use crate::writers::{add, new, open_as};

/// Files from here on are large in these tests.
const LARGE: u64 = 3 << 20;

/// A repository whose chunks of files are some dozen in a window, as they usually are.
async fn bench() -> Bench {
    let [source, cache] = [(); 2].map(|()| tempfile::tempdir().expect("made"));
    let bench = Bench { memory: MemoryStore::default(), source, cache };
    let profile =
        |min, avg, max| ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min, avg, max, normalization: 2 };
    let options = InitOptions {
        files: profile(16 << 10, 64 << 10, 256 << 10),
        streams: profile(1024, 4096, 16384),
        ..InitOptions::default()
    };
    let (locks, now) = ([(SlotLock::Recovery(passphrase()), "test")], Timestamp::from_seconds(1_800_000_000));
    Repository::init(bench.store(), &locks, &options, now, bench.cache.path()).await.expect("made");
    bench
}

fn large_options(bench: &Bench) -> BackupOptions {
    let mut options = options(bench.source.path());
    options.large_file_bytes = LARGE;
    options
}

/// Backs up, once what was just written has come to rest.
async fn run(bench: &Bench, options: BackupOptions) -> (BackupReport, Arc<Collected>) {
    at_rest().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let monitor = Arc::new(Collected::default());
    let report = backup(repository, options, monitor.clone(), Cancel::default()).await.expect("backed up");
    (report, monitor)
}

async fn night(bench: &Bench) -> BackupReport {
    run(bench, large_options(bench)).await.0
}

fn path(bench: &Bench, name: &str) -> PathBuf {
    bench.source.path().join(name)
}

fn write(bench: &Bench, name: &str, bytes: &[u8]) {
    fs::write(path(bench, name), bytes).expect("written");
}

/// What nights left for the next.
fn left_in(bench: &Bench) -> Vec<PathBuf> {
    let all = files_in(bench.cache.path()).into_keys().filter(|name| name.contains("nights/"));
    all.map(|name| bench.cache.path().join(name)).collect()
}

/// Snapshots and what the files were then.
#[derive(Default)]
struct Kept(Vec<(Snapshot, BTreeMap<String, Vec<u8>>)>);

impl Kept {
    fn keep(&mut self, bench: &Bench, report: BackupReport) {
        self.0.push((report.snapshot.expect("made"), files_in(bench.source.path())));
    }

    /// Reads every snapshot back, chunk by chunk and what is not small as a dump, and verifies the repository.
    async fn check(&self, bench: &Bench) {
        for (snapshot, files) in &self.0 {
            assert!(bench.read(snapshot).await.expect("readable") == *files, "it comes back as it was");
            for (name, bytes) in files.iter().filter(|(_, bytes)| bytes.len() > 1 << 20) {
                let path = EntryPath::new(format!("{}/{name}", bench.source.path().display()).trim_start_matches('/'));
                let dumped = dumped_afresh(bench.store(), snapshot, Some(path.expect("safe"))).await.expect("dumped");
                assert!(dumped == *bytes, "{name} is dumped as it was");
            }
        }
        let report = bench.verify(ReadData::All).await;
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// An image of a disk of which 3 % of the pages change each night.
fn change_pages(image: &mut [u8], night: u64) {
    let pages = image.len() / 4096;
    for (nth, draw) in random_bytes(night + 500, pages * 3 / 100 * 4).chunks(4).enumerate() {
        let page = 1 + u32::from_le_bytes(draw.try_into().expect("4 bytes")) as usize % (pages - 1);
        image[page * 4096..][..4096].copy_from_slice(&random_bytes((night << 32) + nth as u64, 4096));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_costs_its_changed_pages_night_after_night() {
    let (bench, mut kept) = (bench().await, Kept::default());
    // Neither a boot sector nor anything else tells that there are pages.
    let mut image = random_bytes(1, 12 << 20);
    image[..1024].fill(0);
    for number in 0..9u64 {
        write(&bench, "disk.img", &image);
        write(&bench, "small", &random_bytes(number, 1000));
        let report = night(&bench).await;
        let cost = report.counts.new_bytes as usize;
        let changed = image.len() * 3 / 100;
        match number {
            0 => assert_eq!(cost, image.len() + 1000),
            _ => assert!((changed / 2..changed + 6000).contains(&cost), "night {number}: {cost} of {changed} changed"),
        }
        kept.keep(&bench, report);
        change_pages(&mut image, number);
    }
    kept.check(&bench).await;
    assert_eq!(left_in(&bench).len(), 1, "of one file");
}

/// Text with a number in each line.
fn lines(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|line| format!("{line:08} {:x?}\n", random_bytes(line as u64, 12)).into_bytes()).collect()
}

/// Headers as tar writes them, each with a file of text behind.
fn archive(files: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (nth, bytes) in files.iter().enumerate() {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("file{nth}"), &bytes[..]).expect("appended");
    }
    builder.into_inner().expect("complete")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_a_database_and_an_archive_cost_what_changed_in_each() {
    let (bench, mut kept) = (bench().await, Kept::default());
    let mut database = random_bytes(1, 6 << 20);
    database[..18].copy_from_slice(b"SQLite format 3\0\x10\0");
    let mut files: Vec<Vec<u8>> = (0..60).map(|nth| random_bytes(nth, 90_001)).collect();
    let mut log = lines(0, 80_000);
    for number in 0..3usize {
        write(&bench, "app.log", &log);
        write(&bench, "app.db", &database);
        write(&bench, "all.tar", &archive(&files));
        let report = night(&bench).await;
        let whole = log.len() + database.len() + archive(&files).len();
        let cost = report.counts.new_bytes as usize;
        match number {
            0 => assert!(cost > whole * 9 / 10, "{cost} of {whole}"),
            // 1000 lines, 30 pages, 2 kB of a file and the headers around it.
            _ => assert!(cost < 65_000 + 30 * 4096 + 30_000, "night {number}: {cost} of {whole}"),
        }
        kept.keep(&bench, report);
        log.extend(lines(80_000 + 1000 * number, 81_000 + 1000 * number));
        for page in random_bytes(number as u64, 30) {
            database[usize::from(page) * 4096 * 6 + 4096..][..80].copy_from_slice(&random_bytes(page.into(), 80));
        }
        // All that follows is shifted.
        files[number + 2].splice(1000..1000, random_bytes(number as u64 + 70, 2003));
    }
    kept.check(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renamed_shrinks_to_nothing_or_is_small_for_a_night_comes_back() {
    let (bench, mut kept) = (bench().await, Kept::default());
    let image = random_bytes(1, 6 << 20);
    write(&bench, "a", &image);
    kept.keep(&bench, night(&bench).await);
    // Under another name it is what is stored already.
    fs::rename(path(&bench, "a"), path(&bench, "b")).expect("renamed");
    let renamed = night(&bench).await;
    assert_eq!(renamed.counts.new_bytes, 0);
    kept.keep(&bench, renamed);
    let mut changed = image.clone();
    change_pages(&mut changed, 1);
    for (bytes, most) in [(&[][..], 0), (&changed, 300_000), (&changed[..1000], 1000), (&image, 300_000)] {
        write(&bench, "b", bytes);
        let report = night(&bench).await;
        assert!(report.counts.new_bytes <= most, "{} of {}", report.counts.new_bytes, bytes.len());
        kept.keep(&bench, report);
    }
    kept.check(&bench).await;
}

/// Reads nothing of a file that did not change, whether its windows are recipes or not, however much was cleaned up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_file_of_recipes_is_not_read_again() {
    let (bench, mut kept) = (bench().await, Kept::default());
    let mut image = random_bytes(1, 12 << 20);
    for number in 0..3 {
        write(&bench, "disk.img", &image);
        kept.keep(&bench, night(&bench).await);
        change_pages(&mut image, number);
    }
    let no_cache = tempfile::tempdir().expect("made");
    for (number, what) in
        ["the last tree", "a tree of the repository", "one that was cleaned up"].into_iter().enumerate()
    {
        if number == 2 {
            remove(&bench, &kept.0.remove(0).0).await;
            remove(&bench, &kept.0.remove(0).0).await;
            pruned(&bench, at_once()).await.expect("cleaned up");
        }
        at_rest().await;
        let cache = if number == 1 { no_cache.path() } else { bench.cache.path() };
        let repository = open(bench.store(), cache).await.expect("opened");
        let monitor = Arc::new(Collected::default());
        let report = backup(repository, large_options(&bench), monitor, Cancel::default()).await.expect("backed up");
        assert_eq!((report.unchanged_files, report.read_bytes), (1, 0), "{what}");
        kept.keep(&bench, report);
    }
    // And what was not read is still known by what it was made of.
    write(&bench, "disk.img", &image);
    let report = night(&bench).await;
    assert!(report.counts.new_bytes < 1 << 19, "{}", report.counts.new_bytes);
    kept.keep(&bench, report);
    kept.check(&bench).await;
}

/// A recipe of an unchanged file names what is gone: the file is read and stored again.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_a_part_is_gone_is_stored_again() {
    let bench = bench().await;
    let mut image = random_bytes(1, 12 << 20);
    write(&bench, "disk.img", &image);
    night(&bench).await;
    let before = bench.data_packs().await;
    change_pages(&mut image, 1);
    write(&bench, "disk.img", &image);
    night(&bench).await;
    let pages: Vec<_> = bench.data_packs().await.into_iter().filter(|pack| !before.contains(pack)).collect();
    assert_eq!(pages.len(), 1);
    bench.store().delete(&pages[0]).await.expect("deleted");
    let report = night(&bench).await;
    assert_eq!((report.unchanged_files, report.read_bytes), (0, image.len() as u64));
    assert!((200_000..1 << 19).contains(&report.counts.new_bytes), "{}", report.counts.new_bytes);
    let snapshot = report.snapshot.expect("made");
    assert!(bench.read(&snapshot).await.expect("readable") == files_in(bench.source.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_told_and_stored_again() {
    let bench = bench().await;
    let mut image = random_bytes(1, 12 << 20);
    write(&bench, "disk.img", &image);
    night(&bench).await;
    let before = bench.data_packs().await;
    change_pages(&mut image, 1);
    write(&bench, "disk.img", &image);
    night(&bench).await;
    let pages: Vec<_> = bench.data_packs().await.into_iter().filter(|pack| !before.contains(pack)).collect();
    bench.memory.tamper(&pages[0], |bytes| bytes[30] ^= 1);
    let found = run_verify(bench.store(), bench.cache.path(), ReadData::All).await;
    assert!(!found.findings.is_empty());
    let report = night(&bench).await;
    assert!(bench.read(&report.snapshot.expect("made")).await.expect("readable") == files_in(bench.source.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_lost_damaged_or_anothers_costs_bytes_and_nothing_else() {
    let (bench, mut kept) = (bench().await, Kept::default());
    let mut image = random_bytes(1, 9 << 20);
    write(&bench, "disk.img", &image);
    kept.keep(&bench, night(&bench).await);
    let left = left_in(&bench).pop().expect("one");
    let first = fs::read(&left).expect("readable");
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let length = first.len();
    let cases: Vec<(Option<Change>, bool)> = vec![
        (None, false),
        (Some(Box::new(|bytes: &mut Vec<u8>| bytes.clear())), true),
        (Some(Box::new(move |bytes: &mut Vec<u8>| bytes.truncate(length / 2))), true),
        (Some(Box::new(|bytes: &mut Vec<u8>| *bytes.last_mut().expect("some") ^= 1)), true),
        (Some(Box::new(move |bytes: &mut Vec<u8>| *bytes = first.clone())), false),
    ];
    for (number, (change, is_told)) in cases.into_iter().enumerate() {
        change_pages(&mut image, number as u64);
        write(&bench, "disk.img", &image);
        match change {
            None => fs::remove_file(&left).expect("there"),
            Some(change) => {
                let mut bytes = fs::read(&left).expect("there");
                change(&mut bytes);
                fs::write(&left, bytes).expect("written");
            }
        }
        let report = night(&bench).await;
        let told = report.problems.first.iter().any(|problem| problem.message.contains("stored whole"));
        assert_eq!(told, is_told, "{number}");
        kept.keep(&bench, report);
    }
    kept.check(&bench).await;
}

/// Does something when the first bytes were read.
struct Meddling {
    inner: Collected,
    meddle: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Monitor for Meddling {
    fn add(&self, counter: Counter, amount: u64) {
        self.inner.add(counter, amount);
        if counter == Counter::ReadBytes
            && let Some(meddle) = self.meddle.lock().expect("whole").take()
        {
            meddle();
        }
    }

    fn phase(&self, phase: &str) {
        self.inner.phase(phase);
    }

    fn totals(&self, totals: Totals) {
        self.inner.totals(totals);
    }

    fn entry(&self, path: &[u8], event: EntryEvent) {
        self.inner.entry(path, event);
    }

    fn problem(&self, problem: Problem) {
        self.inner.problem(problem);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_changed_cut_or_grows_while_it_is_read_is_some_state_of_it_and_the_next_night_is_right() {
    let bench = bench().await;
    let mut image = random_bytes(1, 12 << 20);
    write(&bench, "disk.img", &image);
    night(&bench).await;
    type Meddle = fn(PathBuf);
    let meddles: [Meddle; 3] = [
        |path| {
            let file = OpenOptions::new().write(true).open(path).expect("there");
            file.write_all_at(&random_bytes(9, 50_000), 10 << 20).expect("written");
        },
        |path| OpenOptions::new().write(true).open(path).expect("there").set_len(7 << 20).expect("cut"),
        |path| {
            let mut file = OpenOptions::new().append(true).open(path).expect("there");
            file.write_all(&random_bytes(8, 1 << 20)).expect("written");
        },
    ];
    for (number, meddle) in meddles.into_iter().enumerate() {
        change_pages(&mut image, number as u64);
        write(&bench, "disk.img", &image);
        at_rest().await;
        let at = path(&bench, "disk.img");
        let meddle: Box<dyn FnOnce() + Send> = Box::new(move || meddle(at));
        let monitor = Arc::new(Meddling { inner: Collected::default(), meddle: Some(meddle).into() });
        let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
        let report = backup(repository, large_options(&bench), monitor, Cancel::default()).await.expect("backed up");
        assert_eq!(report.changed_while_read, 1, "{number}");
        let read = bench.read(&report.snapshot.expect("made")).await.expect("readable");
        assert!(read["disk.img"][..1 << 20] == image[..1 << 20], "{number}");
        let mut kept = Kept::default();
        kept.keep(&bench, night(&bench).await);
        kept.check(&bench).await;
    }
}

/// The store dies after each change of a run: the snapshot before stays, and what it left for the next.
#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_store_dies_the_next_run_goes_on_from_the_last_that_is_stored() {
    let bench = bench().await;
    let mut image = random_bytes(1, 6 << 20);
    write(&bench, "disk.img", &image);
    let first = night(&bench).await.snapshot.expect("made");
    let before = files_in(bench.source.path());
    let left = left_in(&bench).pop().expect("one");
    let of_first = fs::read(&left).expect("readable");
    change_pages(&mut image, 1);
    write(&bench, "disk.img", &image);
    let caches = files_in(bench.cache.path());
    at_rest().await;
    for k in 0.. {
        for (name, bytes) in &caches {
            fs::write(bench.cache.path().join(name), bytes).expect("written");
        }
        let memory = bench.memory.fork();
        let dying = Arc::new(FaultStore::new(Arc::new(memory.clone())));
        dying.die_after_mutations(k);
        let repository = open(dying.clone(), bench.cache.path()).await.expect("opened");
        let outcome =
            backup(repository, large_options(&bench), Arc::new(Collected::default()), Cancel::default()).await;
        assert_eq!(left_in(&bench), std::slice::from_ref(&left), "k = {k}");
        let store: Arc<dyn coffre::store::Store> = Arc::new(memory.clone());
        let snapshots = store.list(ObjectKind::Snapshot.prefix()).await.expect("listed").len();
        assert_eq!(fs::read(&left).expect("there") == of_first, snapshots == 1, "k = {k}: {outcome:?}");
        let repository = open(store.clone(), bench.cache.path()).await.expect("opened");
        let next = backup(repository, large_options(&bench), Arc::new(Collected::default()), Cancel::default()).await;
        let next = next.expect("backed up");
        assert!(next.counts.new_bytes < 1 << 19, "k = {k}: {}", next.counts.new_bytes);
        let after =
            Bench { memory, source: tempfile::tempdir().expect("made"), cache: tempfile::tempdir().expect("made") };
        let read = |snapshot: Snapshot| {
            let (store, source) = (after.store(), bench.source.path());
            async move {
                let cache = tempfile::tempdir().expect("made");
                let entries = crate::support::read_back(store, cache.path(), &snapshot).await.expect("readable");
                crate::support::contents(source, &entries)
            }
        };
        assert!(read(next.snapshot.expect("made")).await == files_in(bench.source.path()), "k = {k}");
        assert!(read(first.clone()).await == before, "k = {k}");
        if !dying.died() {
            assert!(k >= 5, "a run makes several changes, this one {k}");
            return;
        }
    }
}

/// Several at once wait for each other; other files do not.
#[tokio::test(flavor = "multi_thread")]
async fn many_large_files_beside_small_ones_come_back() {
    let (bench, mut kept) = (bench().await, Kept::default());
    let mut images: Vec<Vec<u8>> = (0..6).map(|nth| random_bytes(nth, 4 << 20)).collect();
    for number in 0..3 {
        for (nth, image) in images.iter_mut().enumerate() {
            change_pages(image, number * 100 + nth as u64);
            write(&bench, &format!("{nth}.img"), image);
            (0..50).for_each(|small| write(&bench, &format!("{nth}-{small}"), &random_bytes(number + small, 9000)));
        }
        let mut options = large_options(&bench);
        options.threads = 4;
        let report = run(&bench, options).await.0;
        assert_eq!(number == 0, report.counts.new_bytes > 10 << 20, "{number}: {}", report.counts.new_bytes);
        kept.keep(&bench, report);
    }
    assert_eq!(left_in(&bench).len(), 6);
    kept.check(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_compressed_ones_and_all_without_recipes_leave_nothing_for_the_next_night() {
    let bench = bench().await;
    write(&bench, "small", &random_bytes(1, LARGE as usize - 1));
    write(&bench, "all.gz", &[b"\x1f\x8b\x08\0", &random_bytes(2, 5 << 20)[..]].concat());
    night(&bench).await;
    assert_eq!(left_in(&bench), Vec::<PathBuf>::new());
    let (mut image, mut kept) = (random_bytes(1, 6 << 20), Kept::default());
    for number in 0..2 {
        write(&bench, "disk.img", &image);
        let mut options = large_options(&bench);
        options.stream_options.recipes = false;
        let report = run(&bench, options).await.0;
        assert!(report.counts.new_bytes > 1 << 20, "{number}: {}", report.counts.new_bytes);
        kept.keep(&bench, report);
        change_pages(&mut image, number);
    }
    assert_eq!(left_in(&bench), Vec::<PathBuf>::new());
    kept.check(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reads_nothing_stores_what_changed_as_well() {
    let bench = bench().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    add(&repository, &new("db1", &["db1"]), SlotPlace::Repository).await.expect("added");
    let (cache, mut image) = (tempfile::tempdir().expect("made"), random_bytes(1, 6 << 20));
    for number in 0..4u64 {
        // In the last night it is as it was.
        if number < 3 {
            write(&bench, "disk.img", &image);
        }
        at_rest().await;
        let repository = open_as("db1", bench.store(), cache.path()).await;
        let mut options = large_options(&bench);
        options.host = "db1".into();
        let report = backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
        let report = report.expect("backed up");
        assert_eq!(report.counts.new_bytes < 300_000, number > 0, "{number}: {}", report.counts.new_bytes);
        assert_eq!(report.unchanged_files, u64::from(number == 3));
        assert!(bench.read(&report.snapshot.expect("made")).await.expect("readable") == files_in(bench.source.path()));
        if number < 2 {
            change_pages(&mut image, number);
        }
    }
}

/// Gives bytes and then fails.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the line is dead")),
            count => Ok(count),
        }
    }
}

/// What was claimed for a stream that then fails is stored all the same: another may rely on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_takes_nothing_from_another_with_the_same_rows() {
    for recipes in [true, false] {
        let bench = bench().await;
        let streams = |bytes: &[u8], is_whole: bool| {
            let mut options = BackupOptions::default();
            let first = Given::reader("a.csv", Cursor::new(bytes.to_vec()));
            let first = if is_whole { first } else { Given::reader("a.csv", Failing(Cursor::new(bytes.to_vec()))) };
            options.sources = vec![Arc::new(first), Arc::new(Given::reader("b.csv", Cursor::new(bytes.to_vec())))];
            (options.host, options.threads, options.parent) = ("host".into(), 2, ParentChoice::None);
            (options.stream_options.keep_partial, options.stream_options.recipes) = (true, recipes);
            options
        };
        let mut table = lines(0, 80_000);
        run(&bench, streams(&table, true)).await;
        table.splice(100_000..100_100, lines(90_000, 90_100));
        let report = run(&bench, streams(&table, false)).await.0;
        assert_eq!(report.missing.len(), 1);
        let path = EntryPath::new("b.csv").expect("safe");
        let snapshot = report.snapshot.expect("made");
        let dumped = dumped_afresh(bench.store(), &snapshot, Some(path)).await.expect("readable");
        assert!(dumped == table, "recipes: {recipes}");
    }
}

/// Two files with the same windows, of which one begins a week anew while the other one is in the middle of its own: a window is then
/// stored by the deeper recipe of the other, and may not be named as if it were by that of the first.
#[tokio::test(flavor = "multi_thread")]
async fn copies_in_other_nights_of_their_weeks_come_back() {
    let (bench, mut kept) = (bench().await, Kept::default());
    let mut image = random_bytes(1, 9 << 20);
    image[..1024].fill(0);
    for number in 0..13u64 {
        write(&bench, "a.img", &image);
        if number >= 3 {
            let mut copy = image.clone();
            // From when it began its second week on it goes ways of its own.
            (11..=number).for_each(|night| change_pages(&mut copy, 100 + night));
            write(&bench, "b.img", &copy);
        }
        let mut options = large_options(&bench);
        options.threads = 1;
        let report = run(&bench, options).await.0;
        kept.keep(&bench, report);
        if number < 10 {
            change_pages(&mut image, number);
        }
    }
    kept.check(&bench).await;
}

/// Data without any known head that shifts: cut otherwise once that is seen.
#[tokio::test(flavor = "multi_thread")]
async fn what_shifts_and_does_not_say_so_is_cut_otherwise_from_the_next_night_on() {
    let bench = bench().await;
    let mut data = random_bytes(1, 9 << 20);
    data[..100].fill(1);
    let mut costs = Vec::new();
    for number in 0..5u64 {
        let mut options = BackupOptions::default();
        options.sources = vec![Arc::new(Given::reader("data.bin", Cursor::new(data.clone())))];
        (options.host, options.threads) = ("host".into(), 2);
        let report = run(&bench, options).await.0;
        costs.push(report.counts.new_bytes);
        let path = EntryPath::new("data.bin").expect("safe");
        let snapshot = report.snapshot.expect("made");
        assert!(dumped_afresh(bench.store(), &snapshot, Some(path)).await.expect("readable") == data);
        data.splice(200..200, random_bytes(number + 50, 333));
    }
    assert!(costs[1] > 8 << 20 && costs[3] < 20_000 && costs[4] < 20_000, "{costs:?}");
}
