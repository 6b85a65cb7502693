//! Windows that are stored as recipes: every way to read gives the same bytes, what is damaged is named, and no recipe that
//! anybody makes up costs more than a bounded time and memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffre::format::pack::PackKind;
use coffre::format::recipe::{Part, Recipe, WINDOW_MAX};
use coffre::model::id::PackId;
use coffre::model::key::ObjectKey;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::diff::diff;
use coffre::ops::dump::DumpError;
use coffre::ops::restore::{NotWhole, RestoreOptions, restore};
use coffre::ops::stats::stats;
use coffre::ops::verify::{Damage, Finding, ReadData};
use coffre::progress::{Collected, chain};
use coffre::repository::index::Index;
use coffre::repository::reader::Reader;

use crate::support::dumped;
use crate::support::kitchen::{How, Nights, STREAM, Window, ids, night, rows};
use crate::support::{Bench, open, options, read_back, run_backup};

/// Three nights in a repository in memory.
pub struct Kept {
    pub bench: Bench,
    nights: Nights,
}

impl std::ops::Deref for Kept {
    type Target = Nights;

    fn deref(&self) -> &Nights {
        &self.nights
    }
}

pub async fn nights() -> Kept {
    let bench = Bench::new().await;
    let nights = Nights::written(bench.store(), bench.cache.path()).await;
    Kept { bench, nights }
}

pub async fn reader(bench: &Bench, cache: &Path) -> Arc<Reader> {
    let repository = open(bench.store(), cache).await.expect("opened");
    let monitor = Arc::new(Collected::default());
    let index = Arc::new(Index::load(&repository, &*monitor).await.expect("loaded"));
    Arc::new(Reader::new(repository.reading().expect("may be read"), index, 128 << 20, monitor))
}

async fn dumped(bench: &Bench, snapshot: &Snapshot, path: Option<&str>) -> Result<Vec<u8>, DumpError> {
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(bench, cache.path()).await;
    let path = path.map(|path| EntryPath::new(path.as_bytes()).expect("safe"));
    dumped::dumped(reader, snapshot, path).await
}

/// Finds where a chunk lies.
pub async fn place_of(bench: &Bench, plain: &[u8]) -> Vec<coffre::repository::index::table::ChunkPlace> {
    let id = ids(bench.store(), bench.cache.path()).await(plain);
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    Index::load(&repository, &Collected::default()).await.expect("loaded").locate_all(&id)
}

/// Changes a byte in the frame where a chunk lies.
pub async fn damage(bench: &Bench, plain: &[u8]) -> PackId {
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
    let changes = diff(&reader, &nights.snapshots[1], &nights.snapshots[2], None, &Collected::default(), |_, _, _| {})
        .await
        .expect("compared");
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
    assert_eq!(report.damaged, [NotWhole::File(EntryPath::new(STREAM).expect("a path"))]);
    let restored = std::fs::read(target.path().join(format!("{STREAM}.damaged"))).expect("there");
    let mut expected = nights.dumps[1].clone();
    expected[100_000..104_000].fill(0);
    expected[413_000..414_000].fill(0);
    assert!(restored == expected, "nothing but the new rows is missing");
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
    use coffre::repository::writer::{RecipeStored, Writer, WriterOptions};
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
            let id = writer.id(&[depth, through.len() as u8]);
            writer.store_recipe(&id, &recipe, &through).expect("goes on") == RecipeStored::AsGiven
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
    assert_eq!(report.damaged, [NotWhole::File(EntryPath::new(about).expect("a path"))]);
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

/// The one finding that there is.
fn only(findings: &[Finding]) -> &Finding {
    let [finding] = findings else { panic!("{findings:#?}") };
    finding
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_which_windows_entries_and_snapshots_a_damaged_part_hits() {
    let nights = nights().await;
    let bench = &nights.bench;
    for read in [ReadData::No, ReadData::All] {
        let report = bench.verify(read).await;
        assert_eq!(report.findings, [], "{read:?}");
    }
    let id = ids(bench.store(), bench.cache.path()).await;
    let (second, third) = (&nights.dumps[1], &nights.dumps[2]);
    let of_second = [&second[..303_000], &second[303_000..414_012]];
    let of_third = [&third[..204_505], &third[204_505 + 111_012..]];
    let sorted = |windows: &[&[u8]]| {
        let mut ids: Vec<_> = windows.iter().map(|window| id(window)).collect();
        ids.sort();
        ids
    };
    let told = |finding: &Finding| {
        let (mut windows, mut snapshots) = (finding.windows.clone(), finding.snapshots.clone());
        windows.sort();
        snapshots.sort();
        (finding.object.to_string(), windows, snapshots, finding.paths.clone())
    };
    let hit = |nights_hit: &[usize]| {
        let mut hit: Vec<_> = nights_hit.iter().map(|nth| nights.snapshots[*nth].id).collect();
        hit.sort();
        hit
    };
    let paths = vec![format!("/{STREAM}")];

    // A pack that is gone is missed without reading any data: the rows of the third night.
    let gone = ObjectKey::pack(place_of(bench, &nights.new[1]).await[0].pack);
    let kept = bench.store().get(&gone).await.expect("there");
    bench.store().delete(&gone).await.expect("deleted");
    for read in [ReadData::No, ReadData::All] {
        let report = bench.verify(read).await;
        let finding = only(&report.findings);
        assert_eq!(finding.damage, Damage::Missing);
        assert_eq!(told(finding), (gone.to_string(), sorted(&of_third), hit(&[2]), paths.clone()), "{read:?}");
    }
    bench.store().put(&gone, kept).await.expect("put");

    // A changed byte only whoever reads finds: here in rows that the third night needs by way of the second.
    let pack = damage(bench, &nights.new[0]).await;
    assert_eq!(bench.verify(ReadData::No).await.findings, []);
    let report = bench.verify(ReadData::All).await;
    let finding = only(&report.findings);
    let all = [of_second, of_third].concat();
    assert_eq!(told(finding), (ObjectKey::pack(pack).to_string(), sorted(&all), hit(&[1, 2]), paths));
    assert!(matches!(finding.damage, Damage::Frame { frame: 0, .. }), "{finding:?}");
}

/// What is wrong with a recipe is told of the pack that it lies in; whether it makes its window only reading tells.
#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_of_a_recipe_that_is_wrong() {
    for (about, is_seen_unread) in [("other bytes", false), ("beyond", true), ("itself", true), ("nowhere", true)] {
        let bench = Bench::new().await;
        let base = rows(1, 10_000);
        let id = ids(bench.store(), bench.cache.path()).await;
        let bytes = vec![9; 600];
        let (depth, part) = match about {
            "other bytes" => (1, (id(&base).key(), 7, 600)),
            "beyond" => (1, (id(&base).key(), base.len() as u32 - 1, 600)),
            "itself" => (3, (id(&bytes).key(), 0, 600)),
            _ => (1, (id(b"never stored").key(), 0, 600)),
        };
        let recipe = Recipe::new(depth, &[part]).expect("a recipe");
        let right = Window::cut(1, &[(base.clone(), 0, 700)], &[]);
        let wrong = Window { bytes: Arc::new(bytes.clone()), how: How::Forged(recipe) };
        let snapshot = night(
            bench.store(),
            bench.cache.path(),
            std::slice::from_ref(&base),
            vec![("right", vec![right]), ("wrong", vec![wrong])],
        )
        .await;
        let unread = bench.verify(ReadData::No).await;
        assert_eq!(unread.findings.is_empty(), !is_seen_unread, "{about}: {:?}", unread.findings);
        let report = bench.verify(ReadData::All).await;
        let finding = only(&report.findings);
        let place = place_of(&bench, &bytes).await[0];
        let object = match about {
            "nowhere" => "index".to_owned(),
            _ => ObjectKey::pack(place.pack).to_string(),
        };
        let unnoted = u64::from(about != "nowhere");
        assert_eq!(report.coverage.never_read, unnoted, "{about}: a pack with a wrong recipe was not found right");
        assert_eq!(
            (finding.object.to_string(), &finding.snapshots),
            (object, &vec![snapshot.id]),
            "{about}: {finding:?}"
        );
        assert_eq!((&finding.paths, &finding.windows), (&vec!["/wrong".to_owned()], &vec![id(&bytes)]), "{about}");
    }
}

/// Little that is stored may not cost much: chunks, parts and frames that a window needs are bounded through all depths.
#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_cannot_ask_for_much() {
    let bench = Bench::new().await;
    let id = ids(bench.store(), bench.cache.path()).await;
    let key = |plain: &[u8]| id(plain).key();
    let recipe = |depth: u8, parts: &[Part]| Recipe::new(depth, parts).expect("decodes");
    let forged = |bytes: Vec<u8>, recipe: Recipe| Window { bytes: Arc::new(bytes), how: How::Forged(recipe) };
    // Frames of zeros, of 8 MiB each and next to nothing stored: 33 of them are too many.
    let zeros: Vec<Arc<Vec<u8>>> = (0..33u8)
        .map(|i| {
            let mut zeros = vec![0; WINDOW_MAX as usize];
            zeros[0] = i;
            Arc::new(zeros)
        })
        .collect();
    night(bench.store(), bench.cache.path(), &zeros, vec![]).await;
    let parts: Vec<Part> = zeros.iter().map(|chunk| (key(chunk), 1, 10)).collect();
    let told = refused(&bench, "frames", vec![1; 330], recipe(1, &parts), vec![]).await;
    assert!(told.contains("needs too many frames"), "{told}");
    // Five recipes below it, each of a thousand chunks: more than 4096.
    let tiny: Vec<Vec<u8>> = (0..5u32 * 1000).map(|i| i.to_le_bytes().to_vec()).collect();
    let inner: Vec<Window> = tiny
        .chunks(1000)
        .map(|tiny| {
            let parts: Vec<Part> = tiny.iter().map(|plain| (key(plain), 0, 4)).collect();
            forged(tiny.concat(), recipe(1, &parts))
        })
        .collect();
    let parts: Vec<Part> = inner.iter().map(|window| (key(&window.bytes), 0, 1)).collect();
    let told = refused(&bench, "chunks", vec![2; 5], recipe(2, &parts), inner).await;
    assert!(told.contains("needs too many chunks"), "{told}");
    // A recipe of many parts, named over and over: every naming would be all of its parts again.
    let base = zeros[0].clone();
    let of_base = key(&base);
    let scattered: Vec<Part> = (0..300_000u32).map(|i| (of_base, 2 + (i % 2) * 5, 1)).collect();
    let scattered_bytes = vec![0u8; 300_000];
    let of_inner = key(&scattered_bytes);
    let inner = vec![forged(scattered_bytes, recipe(1, &scattered))];
    let parts: Vec<Part> = (0..20).flat_map(|_| [(of_inner, 0, 299_999), (of_base, 1, 1)]).collect();
    let told = refused(&bench, "parts", vec![3; 6_000_000], recipe(2, &parts), inner).await;
    assert!(told.contains("too many"), "{told}");
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
