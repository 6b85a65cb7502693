//! What a host plants beside the nights of another one whose streams are stored as recipes: lies about where the chunks lie that these
//! name, and recipes under the ids of their windows. Every night comes back on a machine that knows nothing, and `verify` names
//! the segments that lie, and nothing that the nights need.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use coffre::format::index::{IndexSegment, PackEntry};
use coffre::format::pack::{Codec, FrameRecord};
use coffre::format::recipe::Recipe;
use coffre::model::id::{ChunkId, ChunkKey, SegmentId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::path::EntryPath;
use coffre::ops::Cancel;
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::verify::{Damage, ReadData};
use coffre::progress::Collected;
use coffre::repository::frame::Frame;
use coffre::repository::index::open_segment;
use coffre::repository::objects::UploadedPack;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::writers::SlotPlace;
use coffre::repository::{MAIN_DOMAIN, Repository};

use crate::support::kitchen::{Nights, STREAM, ids};
use crate::support::{Bench, begin, dumped, open};
use crate::writers::{add, new, open_as};

/// As many segments as it takes for a client to look there first.
const SEGMENTS: u8 = 12;
const FRAME_BYTES: u32 = 16 << 20;

/// Changes what a segment tells of packs.
type Lie = fn(Vec<PackEntry>) -> Vec<PackEntry>;

/// A length of one for every chunk.
fn of_length_one(mut packs: Vec<PackEntry>) -> Vec<PackEntry> {
    for frame in packs.iter_mut().flat_map(|pack| &mut pack.directory.frames) {
        frame.chunks.iter_mut().for_each(|chunk| chunk.1 = 1);
        frame.plain_len = frame.chunks.len() as u32;
        frame.sealed_len = frame.sealed_len.min(frame.plain_len + 16);
    }
    packs
}

/// Every chunk in forty frames of 16 MiB each.
fn in_long_frames(packs: Vec<PackEntry>) -> Vec<PackEntry> {
    let plain = packs.iter().flat_map(|pack| &pack.directory.frames).filter(|frame| !frame.codec.holds_recipes());
    let mut chunks: Vec<(ChunkKey, u32)> = plain.flat_map(|frame| frame.chunks.clone()).collect();
    let mut left = FRAME_BYTES - chunks.iter().map(|chunk| chunk.1).sum::<u32>();
    let mut filler = 0;
    while left > 0 {
        let length = left.min(4 << 20);
        chunks.push((ChunkKey([filler; 16]), length));
        (left, filler) = (left - length, filler + 1);
    }
    let mut pack = packs.into_iter().max_by_key(|pack| pack.size).expect("there are packs");
    let frame = FrameRecord { sealed_len: 100, plain_len: FRAME_BYTES, codec: Codec::Zstd, chunks };
    pack.directory.frames = vec![frame; 40];
    vec![pack]
}

/// Every chunk, and every recipe, in a frame of its own that is nowhere.
fn in_frames_of_their_own(mut packs: Vec<PackEntry>) -> Vec<PackEntry> {
    for pack in &mut packs {
        let frames = std::mem::take(&mut pack.directory.frames).into_iter();
        let alone = frames.flat_map(|FrameRecord { codec, chunks, .. }| {
            let alone = move |(key, length)| FrameRecord {
                sealed_len: 17,
                plain_len: length,
                codec,
                chunks: vec![(key, length)],
            };
            chunks.into_iter().map(alone)
        });
        pack.directory.frames = alone.collect();
    }
    packs
}

/// Every chunk, and every recipe as a chunk that is stored plain, in hundreds of frames that are nowhere.
fn in_hundreds_of_frames(packs: Vec<PackEntry>) -> Vec<PackEntry> {
    let frames = packs.iter().flat_map(|pack| &pack.directory.frames);
    let keys: Vec<ChunkKey> = frames.flat_map(|frame| frame.chunks.iter().map(|chunk| chunk.0)).collect();
    let mut pack = packs.into_iter().max_by_key(|pack| pack.size).expect("there are packs");
    let frame =
        |key| FrameRecord { sealed_len: 17, plain_len: 8 << 20, codec: Codec::Zstd, chunks: vec![(key, 8 << 20)] };
    pack.directory.frames = keys.into_iter().flat_map(|key| vec![frame(key); 200]).collect();
    vec![pack]
}

/// Every recipe as a chunk that is stored plain.
fn recipes_plain(mut packs: Vec<PackEntry>) -> Vec<PackEntry> {
    let frames = packs.iter_mut().flat_map(|pack| &mut pack.directory.frames);
    frames.filter(|frame| frame.codec.holds_recipes()).for_each(|frame| frame.codec = Codec::Zstd);
    packs
}

/// Another commitment for every pack, and other lengths.
fn of_other_keys(packs: Vec<PackEntry>) -> Vec<PackEntry> {
    let mut packs = of_length_one(packs);
    packs.iter_mut().for_each(|pack| pack.commitment = [9; 32]);
    packs
}

/// Returns all that segments tell of packs.
async fn told(bench: &Bench, repository: &Repository) -> Vec<PackEntry> {
    let mut packs = Vec::new();
    for object in bench.store().list(ObjectKind::Index.prefix()).await.expect("listed") {
        let id = object.key.segment_id().expect("ours");
        let bytes = bench.store().get(&object.key).await.expect("there");
        packs.extend(open_segment(repository, id, &bytes).expect("whole").packs().to_vec());
    }
    packs
}

/// The nights of a host that has a key of its own.
async fn nights_of_a_host() -> (Bench, Nights) {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    add(&repository, &new("db1", &["host"]), SlotPlace::Repository).await.expect("added");
    let cache = tempfile::tempdir().expect("made");
    let nights = Nights::written_by(&open_as("db1", bench.store(), cache.path()).await).await;
    (bench, nights)
}

/// Another host, which lies.
async fn liar(bench: &Bench, cache: &Path) -> Arc<Repository> {
    let repository = open(bench.store(), cache).await.expect("opened");
    add(&repository, &new("liar", &["liar"]), SlotPlace::Repository).await.expect("added");
    open_as("liar", bench.store(), cache).await
}

/// Plants segments that a host seals, or a reader.
async fn plant(bench: &Bench, packs: Vec<PackEntry>, is_host: bool) {
    let cache = tempfile::tempdir().expect("made");
    let liar = match is_host {
        true => liar(bench, cache.path()).await,
        false => open(bench.store(), cache.path()).await.expect("opened"),
    };
    let session = liar.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a key");
    let packs = UploadedPack::indexed(IndexSegment::forged(packs));
    for number in 0..SEGMENTS {
        let id = SegmentId([number; 16]);
        bench.store().put(&ObjectKey::segment(id), session.seal_segment(id, &packs).into()).await.expect("put");
    }
}

/// Plants recipes that a host stores under any ids, each in a frame of its own.
async fn plant_recipes(bench: &Bench, recipes: Vec<(ChunkId, Recipe)>) {
    let cache = tempfile::tempdir().expect("made");
    let index = begin(&liar(bench, cache.path()).await).await;
    let settings =
        WriterOptions { pack_target_bytes: 8 << 20, packs_in_flight: 1, level: 1, dry_run: false, extra_check: false };
    let writer = Writer::start(index, settings, Arc::new(Collected::default()));
    let writer = tokio::task::spawn_blocking(move || {
        for (id, recipe) in &recipes {
            let mut frame = Frame::default();
            frame.push_recipe(id, recipe);
            writer.store_frame(&mut frame, &mut writer.compressor()).expect("stored");
        }
        writer.flush().expect("stored");
        writer
    })
    .await
    .expect("no panic");
    writer.finish().await.expect("stored");
}

/// Every night comes back, by a dump and by a restore, to a machine that knows nothing.
async fn come_back(case: &str, bench: &Bench, nights: &Nights) {
    for (snapshot, dump) in nights.snapshots.iter().zip(&nights.dumps) {
        let path = EntryPath::new(STREAM).expect("safe");
        let dumped = dumped::dumped_afresh(bench.store(), snapshot, Some(path)).await;
        let dumped = dumped.unwrap_or_else(|error| panic!("{case}: {}", coffre::progress::chain(&error)));
        assert!(dumped == *dump, "{case}: what comes back is something else");

        let (target, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let repository = open(bench.store(), cache.path()).await.expect("opened");
        let options = RestoreOptions::new(snapshot.clone(), target.path());
        let report = restore(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
        assert_eq!(report.expect("restored").outcome(), Outcome::Clean, "{case}");
        assert!(fs::read(target.path().join(STREAM)).expect("there") == *dump, "{case}: restored otherwise");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lie_about_what_recipes_name_hides_a_night() {
    let (kept, nights) = nights_of_a_host().await;
    let lies: [(&str, Lie); 6] = [
        ("a length of one for every chunk", of_length_one),
        ("every chunk in forty frames of 16 MiB", in_long_frames),
        ("every chunk in a frame that is nowhere", in_frames_of_their_own),
        ("everything plain in hundreds of frames that are nowhere", in_hundreds_of_frames),
        ("every recipe as a plain chunk", recipes_plain),
        ("other keys and a length of one", of_other_keys),
    ];
    for (about, lie) in lies {
        for is_host in [true, false] {
            let case = format!("{about}, by {}", if is_host { "a host" } else { "a reader" });
            let bench = kept.fork();
            let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
            plant(&bench, lie(told(&bench, &repository).await), is_host).await;
            come_back(&case, &bench, &nights).await;
            let unread = bench.verify(ReadData::No).await;
            assert!(unread.findings.iter().all(|finding| finding.paths.is_empty()), "{case}: {:?}", unread.findings);
            let read = bench.verify(ReadData::All).await;
            let is_lie = |damage: &Damage| matches!(damage, Damage::Lies { .. });
            let named = read.findings.iter().filter(|finding| is_lie(&finding.damage)).count();
            assert_eq!(named, usize::from(SEGMENTS), "{case}: {:?}", read.findings);
            let is_expected = read.findings.len() == named && read.findings.iter().all(|it| it.paths.is_empty());
            assert!(is_expected, "{case}: {:?}", read.findings);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_recipe_under_the_id_of_a_window_hides_a_night() {
    let (kept, nights) = nights_of_a_host().await;
    let id = ids(kept.store(), kept.cache.path()).await;
    let (base, second) = (id(&nights.base[0]).key(), &nights.dumps[1]);
    // Windows that the third night names by recipes of its own.
    let (window, other) = (id(&second[..303_000]), id(&second[303_000..414_012]));
    // They are shorter than the right one, which has three parts.
    let something_else = |nth: u32| Recipe::new(1, &[(base, 0, 300_000), (base, nth, 3_000)]).expect("a recipe");
    let names_a_recipe = |nth: u32| Recipe::new(1, &[(base, 0, 300_000), (other.key(), nth, 3_000)]).expect("a recipe");
    let names_nothing = |nth: u32| Recipe::new(1, &[(ChunkKey([nth as u8; 16]), 0, 303_000)]).expect("a recipe");
    let asks_for_more = |nth: u32| Recipe::new(1, &[(base, 1_000_000 + nth, 303_000)]).expect("a recipe");
    let cases: [(&str, &dyn Fn(u32) -> Recipe); 4] = [
        ("recipes that make something else", &something_else),
        ("recipes so low that they may not name the recipe that they name", &names_a_recipe),
        ("recipes of what is nowhere", &names_nothing),
        ("recipes of what lies outside of its chunk", &asks_for_more),
    ];
    for (case, recipe) in cases {
        let bench = kept.fork();
        plant_recipes(&bench, (1..=80).map(|nth| (window, recipe(nth))).collect()).await;
        come_back(case, &bench, &nights).await;
        let unread = bench.verify(ReadData::No).await;
        assert!(unread.findings.iter().all(|finding| finding.paths.is_empty()), "{case}: {:?}", unread.findings);
        let read = bench.verify(ReadData::All).await;
        assert!(read.findings.iter().all(|finding| finding.paths.is_empty()), "{case}: {:?}", read.findings);
    }
}

/// Each recipe names a window for which there are thirty recipes, down to what is nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn recipes_of_which_each_has_thirty_below_it_come_to_an_end() {
    let (bench, nights) = nights_of_a_host().await;
    let window = |depth: u8| ChunkId([100 + depth; 32]);
    let recipe = |depth: u8, nth: u32| {
        let named = window(depth - 1).key();
        Recipe::new(depth, &[(named, nth, 10), (named, 0, 10)]).expect("a recipe")
    };
    let mut recipes = vec![(window(4), recipe(4, 1))];
    for depth in 1..4 {
        recipes.extend((1..=30).map(|nth| (window(depth), recipe(depth, nth))));
    }
    plant_recipes(&bench, recipes).await;
    come_back("thirty recipes below each", &bench, &nights).await;
    let read = bench.verify(ReadData::All).await;
    assert!(read.findings.iter().all(|finding| finding.paths.is_empty()), "{:?}", read.findings);
}
