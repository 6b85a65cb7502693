//! Windows that are stored as recipes: every way to read gives the same bytes, what is damaged is named, and no recipe that
//! anybody makes up costs more than a bounded time and memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use coffre::format::pack::PackKind;
use coffre::format::recipe::{Part, Recipe};
use coffre::model::id::PackId;
use coffre::model::key::ObjectKey;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::diff::diff;
use coffre::ops::dump::{DumpError, dump};
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::stats::stats;
use coffre::progress::{Collected, chain};
use coffre::repository::index::Index;
use coffre::repository::reader::Reader;

use crate::support::kitchen::{Cut, How, Window, ids, night};
use crate::support::{Bench, open, options, random_bytes, read_back, run_backup};

const STREAM: &str = "db/shop.sql";

/// Bytes of a test's own that look like rows.
fn rows(seed: u64, len: usize) -> Arc<Vec<u8>> {
    let noise = random_bytes(seed, len / 4 + 1);
    let mut text: Vec<u8> = noise.iter().flat_map(|byte| format!("{byte:03}\n").into_bytes()).collect();
    text.truncate(len);
    Arc::new(text)
}

/// Three nights of a dump of three windows, and what each night's dump was.
struct Nights {
    bench: Bench,
    snapshots: Vec<Snapshot>,
    dumps: Vec<Vec<u8>>,
    /// The windows of the first night, and the new rows of the others.
    base: Vec<Arc<Vec<u8>>>,
    new: Vec<Arc<Vec<u8>>>,
}

/// The first night is stored plain, the second names it, the third names windows of the second and newer rows.
async fn nights() -> Nights {
    let bench = Bench::new().await;
    let base: Vec<_> = (0..3).map(|i| rows(i, 300_000 + 10_000 * i as usize)).collect();
    let new = vec![rows(10, 5_000), rows(11, 7_000)];
    let cut = |chunk: &Arc<Vec<u8>>, offset, length| -> Cut { (chunk.clone(), offset, length) };
    let first = |i: usize| Window::plain(base[i].to_vec());
    // Rows replaced, one moved, one window as it was.
    let second = [
        Window::cut(1, &[cut(&base[0], 0, 100_000), cut(&new[0], 0, 4_000), cut(&base[0], 101_000, 199_000)], &[]),
        Window::cut(
            1,
            &[cut(&base[1], 200_000, 110_000), cut(&new[0], 4_000, 1_000), cut(&base[0], 5, 9), cut(&base[1], 0, 3)],
            &[],
        ),
        Window { bytes: base[2].clone(), how: How::There },
    ];
    let of_second: Vec<_> = second.iter().map(|window| window.bytes.clone()).collect();
    let through = [base[0].clone(), base[1].clone(), new[0].clone()];
    let third = vec![
        Window::cut(
            2,
            &[cut(&of_second[0], 50_000, 200_000), cut(&new[1], 0, 3_500), cut(&of_second[1], 109_998, 1_005)],
            &through,
        ),
        Window { bytes: of_second[1].clone(), how: How::There },
        Window::cut(
            2,
            &[cut(&base[2], 1, 319_000), cut(&of_second[0], 99_990, 4_020), cut(&new[1], 3_500, 3_500)],
            &through,
        ),
    ];
    let dump = |windows: &[Window]| windows.iter().flat_map(|window| window.bytes.to_vec()).collect::<Vec<u8>>();
    let firsts: Vec<Window> = (0..3).map(first).collect();
    let dumps = vec![dump(&firsts), dump(&second), dump(&third)];
    let mut snapshots = Vec::new();
    for (rows, windows) in [(vec![], firsts), (vec![new[0].clone()], second.into()), (vec![new[1].clone()], third)] {
        snapshots.push(night(bench.store(), bench.cache.path(), &rows, vec![(STREAM, windows)]).await);
    }
    Nights { bench, snapshots, dumps, base, new }
}

/// Something to write to that can be looked at.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn reader(bench: &Bench, cache: &Path) -> Arc<Reader> {
    let repository = open(bench.store(), cache).await.expect("opened");
    let monitor = Arc::new(Collected::default());
    let index = Arc::new(Index::load(&repository, &*monitor).await.expect("loaded"));
    Arc::new(Reader::new(repository.reading().expect("may be read"), index, 128 << 20, monitor))
}

async fn dumped(bench: &Bench, snapshot: &Snapshot, path: Option<&str>) -> Result<Vec<u8>, DumpError> {
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(bench, cache.path()).await;
    let output = Output::default();
    let path = path.map(|path| EntryPath::new(path.as_bytes()).expect("safe"));
    dump(reader, snapshot, path, Box::new(output.clone()), Arc::new(Collected::default()), Cancel::default()).await?;
    let bytes = std::mem::take(&mut *output.0.lock().expect("no panic"));
    Ok(bytes)
}

/// Finds where a chunk lies.
async fn place_of(bench: &Bench, plain: &[u8]) -> Vec<coffre::repository::index::table::Location> {
    let id = ids(bench.store(), bench.cache.path()).await(plain);
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    Index::load(&repository, &Collected::default()).await.expect("loaded").locate_all(&id)
}

/// Changes a byte in the frame where a chunk lies.
async fn damage(bench: &Bench, plain: &[u8]) -> PackId {
    let place = place_of(bench, plain).await[0];
    bench.memory.tamper(&ObjectKey::pack(place.pack), |bytes| bytes[place.frame_offset as usize + 20] ^= 1);
    place.pack
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_read_resolves_recipes_of_both_depths() {
    let nights = nights().await;
    let bench = &nights.bench;
    for (snapshot, dump) in nights.snapshots.iter().zip(&nights.dumps) {
        assert!(dumped(bench, snapshot, Some(STREAM)).await.expect("dumped") == *dump);
        assert!(dumped(bench, snapshot, None).await.expect("a single stream") == *dump);

        let (target, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        for run in 0..2 {
            let repository = open(bench.store(), cache.path()).await.expect("opened");
            let options = RestoreOptions::new(snapshot.clone(), target.path());
            let report = restore(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
            let report = report.expect("restored");
            assert_eq!((report.written_files, report.unchanged_files), (1 - run, run), "{report:?}");
            assert!(std::fs::read(target.path().join(STREAM)).expect("there") == *dump);
        }

        // Chunk by chunk, and from anywhere on.
        let entries = read_back(bench.store(), cache.path(), snapshot).await.expect("readable");
        assert!(entries[0].1 == *dump);
        let reader = reader(bench, cache.path()).await;
        let content = entries[0].0.content().expect("a stream");
        for offset in [0, 99_999, 299_990, 415_000, dump.len() - 10, dump.len()] {
            let read = reader.read_at(content, offset as u64, 5_000).await.expect("readable");
            assert!(read == dump[offset..dump.len().min(offset + 5_000)], "{offset}");
        }
    }
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(bench, cache.path()).await;
    let changes =
        diff(&reader, &nights.snapshots[1], &nights.snapshots[2], None, |_, _, _| {}).await.expect("compared");
    assert_eq!((changes.changed, changes.added + changes.removed), (1, 0));
    let repository = open(bench.store(), cache.path()).await.expect("opened");
    let stats = stats(&repository, &Collected::default()).await.expect("counted");
    let plain: usize = nights.base.iter().chain(&nights.new).map(|chunk| chunk.len()).sum();
    assert!((plain as u64..plain as u64 + 20_000).contains(&stats.unique_bytes), "{plain}: {stats:?}");
}

/// The tar of a snapshot with several streams, whose windows are put together one behind the other.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_recipes_and_plain_chunks_come_in_their_order() {
    let bench = Bench::new().await;
    let base = rows(1, 50_000);
    let windows = |seed: usize| -> Vec<Window> {
        let recipe = |i: usize| Window::cut(1, &[(base.clone(), i * 7 + seed, 1_000 + i), (base.clone(), 3, 40)], &[]);
        (0..80)
            .map(|i| if i % 3 == 0 { Window::plain(rows(100 + i as u64, 900).to_vec()) } else { recipe(i) })
            .collect()
    };
    let streams = vec![("a", windows(0)), ("b", windows(500)), ("c/d", windows(5))];
    let wanted: BTreeMap<String, Vec<u8>> = streams
        .iter()
        .map(|(name, windows)| ((*name).to_owned(), windows.iter().flat_map(|window| window.bytes.to_vec()).collect()))
        .collect();
    let snapshot = night(bench.store(), bench.cache.path(), &[base], streams).await;
    for (name, bytes) in &wanted {
        assert!(dumped(&bench, &snapshot, Some(name)).await.expect("dumped") == *bytes);
    }
    let tar = dumped(&bench, &snapshot, None).await.expect("dumped");
    let bytes: Vec<u8> = wanted.values().flatten().copied().collect();
    assert!(tar.len() > bytes.len());
    let target = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let mut options = RestoreOptions::new(snapshot, target.path());
    options.memory_bytes = 128 << 20;
    restore(repository, options, Arc::new(Collected::default()), Cancel::default()).await.expect("restored");
    assert_eq!(crate::support::files_in(target.path()), wanted);
}

/// What cannot be had is told with the pack that is at fault, and everything else is given.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_is_named_and_hits_those_windows_alone_that_need_it() {
    let nights = nights().await;
    let bench = &nights.bench;
    let pack = damage(bench, &nights.new[0]).await;
    assert!(dumped(bench, &nights.snapshots[0], Some(STREAM)).await.expect("not hit") == nights.dumps[0]);
    for nth in [1, 2] {
        let error = dumped(bench, &nights.snapshots[nth], Some(STREAM)).await.expect_err("hit");
        let told = chain(&error);
        assert!(told.contains("cannot be put together by its recipe"), "{told}");
        assert!(told.contains(&format!("pack {pack} frame 0 is damaged")), "{told}");
    }
    let target = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let options = RestoreOptions::new(nights.snapshots[1].clone(), target.path());
    let monitor = Arc::new(Collected::default());
    let report = restore(repository, options, monitor.clone(), Cancel::default()).await.expect("restored");
    assert_eq!(report.damaged, [format!("/{STREAM}")]);
    let restored = std::fs::read(target.path().join(format!("{STREAM}.damaged"))).expect("there");
    let whole = nights.base[2].len();
    assert!(restored[restored.len() - whole..] == nights.base[2][..], "the third window needs nothing of it");
    assert!(restored[..restored.len() - whole].iter().all(|byte| *byte == 0));
}

/// A window has the same id however it is stored, and a chunk may lie in several places.
#[tokio::test(flavor = "multi_thread")]
async fn every_place_of_a_window_and_of_its_parts_is_tried() {
    let nights = nights().await;
    let bench = &nights.bench;
    let second = &nights.dumps[1];
    // New rows are stored once more, as a host does that ran at the same time.
    let lost = damage(bench, &nights.new[0]).await;
    let again = {
        let fresh = tempfile::tempdir().expect("made");
        let segments = bench.store().list("index/").await.expect("listed");
        let mut hidden = Vec::new();
        for object in &segments {
            hidden.push((object.key.clone(), bench.store().get(&object.key).await.expect("there")));
            bench.store().delete(&object.key).await.expect("deleted");
        }
        night(bench.store(), fresh.path(), &[nights.new[0].clone()], vec![("other", vec![])]).await;
        for (key, bytes) in hidden {
            bench.store().put(&key, bytes).await.expect("put");
        }
        place_of(bench, &nights.new[0]).await
    };
    assert_eq!(again.len(), 2);
    for nth in [1, 2] {
        assert!(
            dumped(bench, &nights.snapshots[nth], Some(STREAM)).await.expect("the other place") == nights.dumps[nth]
        );
    }
    // Without any place of the rows, the window itself stored plain is what remains.
    let other = again.iter().find(|place| place.pack != lost).expect("two");
    bench.memory.tamper(&ObjectKey::pack(other.pack), |bytes| bytes[other.frame_offset as usize + 20] ^= 1);
    dumped(bench, &nights.snapshots[1], Some(STREAM)).await.expect_err("the rows are nowhere");
    let windows = [&second[..303_000], &second[303_000..303_000 + 111_012]];
    let plain = windows.iter().map(|window| Window::plain(window.to_vec())).collect();
    night(bench.store(), bench.cache.path(), &[], vec![("healed", plain)]).await;
    assert!(dumped(bench, &nights.snapshots[1], Some(STREAM)).await.expect("plain") == *second);
    // What names these windows takes them plain as well.
    assert!(dumped(bench, &nights.snapshots[2], Some(STREAM)).await.expect("plain") == nights.dumps[2]);
}

/// What a recipe names may be gone while its own pack is there, and a host that cannot read it would not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_does_not_rely_on_a_chunk_that_an_earlier_run_stored_as_a_recipe() {
    let bench = Bench::new().await;
    let base = rows(1, 3_000);
    // As long as a file's only chunk, so that a file has the id of this window.
    let window = Window::cut(1, &[(base.clone(), 10, 500), (base.clone(), 2_000, 300)], &[]);
    let bytes = window.bytes.clone();
    night(bench.store(), bench.cache.path(), std::slice::from_ref(&base), vec![(STREAM, vec![window])]).await;
    let source = tempfile::tempdir().expect("made");
    std::fs::write(source.path().join("the same"), &bytes[..]).expect("written");
    let report = run_backup(bench.store(), bench.cache.path(), options(source.path())).await.expect("backed up");
    assert_eq!(report.counts.new_bytes, bytes.len() as u64, "stored plain");
    let places = place_of(&bench, &bytes).await;
    let recipes = places.iter().filter(|place| place.codec.holds_recipes()).count();
    assert_eq!((places.len(), recipes), (2, 1));
    assert!(!places[0].codec.holds_recipes(), "and read from there");
    damage(&bench, &base).await;
    let read = bench.read(&report.snapshot.expect("made")).await;
    assert!(read.is_ok(), "{read:?}");
    // The next one finds it.
    let again = run_backup(bench.store(), bench.cache.path(), options(source.path())).await.expect("backed up");
    assert_eq!(again.counts.new_bytes, 0);
}

/// A writer that is to name what may not be relied on is told so, and stores the window plain.
#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_is_stored_only_when_all_that_it_names_may_be_relied_on() {
    use coffre::repository::writer::{Writer, WriterOptions};
    let nights = nights().await;
    let bench = &nights.bench;
    let place = place_of(bench, &nights.new[0]).await[0];
    bench.store().delete(&ObjectKey::pack(place.pack)).await.expect("deleted");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let index = crate::support::begin(&repository).await;
    let settings =
        WriterOptions { pack_target_bytes: 1 << 20, packs_in_flight: 1, level: 3, dry_run: false, extra_check: true };
    let writer = Arc::new(Writer::start(index, settings, Arc::new(Collected::default())));
    let second = &nights.dumps[1][..303_000];
    let (base, rows, window) = (nights.base[0].clone(), nights.new[0].clone(), second.to_vec());
    tokio::task::spawn_blocking(move || {
        let key = |plain: &[u8]| writer.id(plain).key();
        let stores = |depth, named: &[u8], through: &[&[u8]]| {
            let recipe = Recipe::new(depth, &[(key(&base), 0, 10), (key(named), 0, 10)]).expect("a recipe");
            let through: Vec<_> = through.iter().map(|plain| key(plain)).collect();
            writer.store_recipe(&writer.id(&[depth, through.len() as u8]), &recipe, &through).expect("goes on")
        };
        assert!(stores(1, &base, &[]));
        assert!(!stores(1, &rows, &[]), "its pack is gone");
        assert!(!stores(1, b"never stored", &[]));
        assert!(stores(2, &window, &[&base]), "as far as this writer says");
        assert!(!stores(2, &window, &[&base, &rows]), "what it names in turn is gone");
    })
    .await
    .expect("no panic");
}

/// A recipe that is hostile, as a window of a stream.
async fn refused(bench: &Bench, about: &str, bytes: Vec<u8>, recipe: Recipe, more: Vec<Window>) -> String {
    let window = Window { bytes: Arc::new(bytes), how: How::Forged(recipe) };
    let windows = std::iter::once(window).chain(more).collect();
    let snapshot = night(bench.store(), bench.cache.path(), &[], vec![(about, windows)]).await;
    let begun = std::time::Instant::now();
    let told = chain(&dumped(bench, &snapshot, Some(about)).await.expect_err(about));
    let mut options = RestoreOptions::new(snapshot, tempfile::tempdir().expect("made").keep());
    options.memory_bytes = 128 << 20;
    let target = options.target.clone();
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let report = restore(repository, options, Arc::new(Collected::default()), Cancel::default()).await.expect(about);
    std::fs::remove_dir_all(target).expect("ours");
    assert_eq!(report.damaged, [format!("/{about}")]);
    eprintln!("{about}: {told} ({:?})", begun.elapsed());
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_recipes_are_refused() {
    let bench = Bench::new().await;
    let base = rows(1, 10_000);
    night(bench.store(), bench.cache.path(), std::slice::from_ref(&base), vec![]).await;
    let id = ids(bench.store(), bench.cache.path()).await;
    let key = |plain: &[u8]| id(plain).key();
    let recipe = |depth: u8, parts: &[Part]| Recipe::new(depth, parts).expect("decodes");
    let forged = |bytes: &[u8], recipe: Recipe| Window { bytes: Arc::new(bytes.to_vec()), how: How::Forged(recipe) };

    // Of itself, at any depth.
    for depth in 1..=4 {
        let bytes = vec![depth; 600];
        let told =
            refused(&bench, &format!("itself{depth}"), bytes.clone(), recipe(depth, &[(key(&bytes), 0, 600)]), vec![])
                .await;
        assert!(
            told.contains(if depth == 1 { "is not in the index" } else { "cannot be used" })
                || told.contains("not deeper"),
            "{told}"
        );
    }
    // Two of each other, and a chain of more than four: the fifth has no depth left.
    let (one, two) = (vec![21; 600], vec![22; 600]);
    let more = vec![forged(&two, recipe(3, &[(key(&one), 0, 600)]))];
    refused(&bench, "cycle", one.clone(), recipe(3, &[(key(&two), 0, 600)]), more).await;
    let chain: Vec<Vec<u8>> = (0..6).map(|i| vec![30 + i; 600]).collect();
    let links = |i: usize| recipe(4, &[(key(&chain[i + 1]), 0, 600)]);
    let more = (1..5).map(|i| forged(&chain[i], links(i))).collect();
    refused(&bench, "chain", chain[0].clone(), links(0), more).await;
    // A part beyond its chunk, plain and by a recipe.
    let end = base.len() as u32;
    let told = refused(&bench, "beyond", vec![41; 20], recipe(1, &[(key(&base), end - 10, 20)]), vec![]).await;
    assert!(told.contains("outside of its chunk"), "{told}");
    let inner = base[..600].to_vec();
    let more = vec![forged(&inner, recipe(1, &[(key(&base), 0, 600)]))];
    refused(&bench, "beyond-a-window", vec![42; 20], recipe(2, &[(key(&inner), 590, 20)]), more).await;
    // Another length than the list says, longer and shorter; another content.
    for length in [599, 601] {
        let told =
            refused(&bench, &format!("length{length}"), vec![43; 600], recipe(1, &[(key(&base), 0, length)]), vec![])
                .await;
        assert!(told.contains("another length") || told.contains("is not chunk"), "{told}");
    }
    let told = refused(&bench, "content", vec![44; 600], recipe(1, &[(key(&base), 0, 600)]), vec![]).await;
    assert!(told.contains("what its recipe makes is not chunk"), "{told}");
    // Chunks that are nowhere.
    let told = refused(&bench, "nowhere", vec![45; 600], recipe(1, &[(key(b"nowhere"), 0, 600)]), vec![]).await;
    assert!(told.contains("is not in the index"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_lie_in_tree_packs() {
    let nights = nights().await;
    let repository = open(nights.bench.store(), nights.bench.cache.path()).await.expect("opened");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let mut recipes = 0;
    for table in index.tables() {
        for row in table.rows() {
            let location = table.location(&row).expect("somewhere");
            if location.codec.holds_recipes() {
                recipes += 1;
                assert_eq!(location.kind, PackKind::Tree);
            }
        }
    }
    assert_eq!(recipes, 4);
}
