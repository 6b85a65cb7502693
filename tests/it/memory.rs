//! `--memory` is kept by every verb, measured in child processes: the formula of `design`.
//!
//! The bounds are of anonymous memory. Peaks depend on how much queues up, so the line to the store is held back.

use std::path::Path;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::format::config::ChunkerProfile;
use coffre::format::index::{IndexSegment, PackEntry, SEGMENT_CHUNKS_MAX};
use coffre::format::pack::{Codec, FrameRecord, PackKind};
use coffre::model::id::{ChunkKey, PackId, SegmentId};
use coffre::model::key::ObjectKey;
use coffre::model::snapshot::{Position, Snapshot, SnapshotId};
use coffre::model::time::Timestamp;
use coffre::progress::Collected;
use coffre::repository::frame::Frame;
use coffre::repository::index::open_segment;
use coffre::repository::objects::UploadedPack;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::{InitOptions, MAIN_DOMAIN, Repository};
use coffre::store::Store;
use coffre::store::local::LocalStore;
use coffre::store::open::OpenMode;
use tempfile::TempDir;

use crate::support::desk::{Desk, PASSWORD};
use crate::support::kitchen::{Window, night};
use crate::support::{PASSPHRASE, begin, init, peak, random_bytes};

/// The least that `--memory` takes, in MiB, at which every bound is hardest to keep.
const LEAST: u64 = 128;
/// Chunks in a segment of synthetic ones.
const SEGMENT_CHUNKS: u64 = 1 << 18;
/// What opening a key slot with a passphrase takes: scrypt's 128 MiB and the program.
const UNLOCKING: u64 = 144;

/// Runs a verb with so much memory, and holds it to that.
fn keeps(desk: &Desk, memory: u64, verb: &[&str]) -> u64 {
    let given = format!("{memory}MiB");
    let (run, peak) = peak::run(&mut desk.command(&[&["-q", "--memory", &given], verb].concat()));
    assert_eq!(run.code, 0, "{verb:?}: {run:?}");
    assert!(peak > 0 && peak <= memory, "{verb:?} took {peak} MiB of {memory}");
    peak
}

fn noise(path: &Path, mebibytes: usize) {
    std::fs::write(path, random_bytes(7, mebibytes << 20)).expect("written");
}

#[test]
fn streams_of_any_number_and_every_way_to_read_them_keep_to_the_memory_given() {
    let desk = Desk::with_repository();
    noise(&desk.at("noise"), 160);
    let file = desk.at("noise");
    let file = file.to_str().expect("plain");
    let held_back = ["--limit-upload", "80MB"];
    // Bytes that were not stored before each time, so that packs queue up, and what is given is used.
    for (memory, change) in [(LEAST, "cat"), (256, "tr '\\0-\\377' '\\1-\\377\\0'")] {
        let script = format!("{change} < {file}");
        let one = [&held_back[..], &["backup", "--command", "one.sql", "--", "sh", "-c", &script]].concat();
        assert!(keeps(&desk, memory, &one) > 40);
    }
    let script = |i: usize| format!("tail -c +{} {file} | head -c 20000000 | tr 'a-z' 'b-za'", 1 + i * 20_000_000);
    let scripts: Vec<String> = (0..8).map(script).collect();
    let names: Vec<String> = (0..8).map(|i| format!("s{i}.sql")).collect();
    let mut many = [&held_back[..], &["backup", "--jobs", "8"]].concat();
    for (name, script) in names.iter().zip(&scripts) {
        many.extend(["--command", name, "--", "sh", "-c", script]);
    }
    keeps(&desk, LEAST, &many);

    let target = desk.at("out");
    let target = target.to_str().expect("plain");
    keeps(&desk, LEAST, &["verify", "--read-data"]);
    keeps(&desk, LEAST, &["dump", "latest:s3.sql"]);
    keeps(&desk, LEAST, &["dump", "latest"]);
    keeps(&desk, LEAST, &["restore", "latest", "--target", target]);
    // A second restore compares what is there.
    keeps(&desk, LEAST, &["restore", "latest", "--target", target]);
}

/// Streams are cut into many small chunks here, so that 100 MiB have as many as 1.6 GiB usually have.
async fn desk_of_small_chunks() -> Desk {
    let desk = Desk::new();
    let store: Arc<dyn Store> = {
        std::fs::create_dir(desk.at("repository")).expect("made");
        Arc::new(LocalStore::open(&desk.at("repository"), OpenMode::Create).expect("opened"))
    };
    let profile =
        |min, avg, max| ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min, avg, max, normalization: 2 };
    let options = InitOptions {
        files: profile(64 << 10, 256 << 10, 1 << 20),
        streams: profile(64, 256, 1024),
        ..InitOptions::default()
    };
    let locks = [(SlotLock::Recovery(Passphrase::new(PASSWORD.into())), "test")];
    let cache = desk.at(".cache/coffre");
    let now = Timestamp::from_seconds(1_800_000_000);
    Repository::init(store, &locks, &options, now, &cache).await.expect("made");
    desk
}

/// What is kept for each chunk does not grow with the stream: claims, windows, lists.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_very_many_chunks_keeps_to_the_memory_given() {
    let desk = desk_of_small_chunks().await;
    // Different bytes of four flushes of the index, then many times the same.
    noise(&desk.at("noise"), 100);
    noise(&desk.at("block"), 1);
    let script = format!("cat {0}/noise; for i in $(seq 200); do cat {0}/block; done", desk.directory.path().display());
    keeps(&desk, LEAST, &["backup", "--no-recipes", "--command", "large.sql", "--", "sh", "-c", &script]);
    let target = desk.at("out");
    let target = target.to_str().expect("plain");
    keeps(&desk, LEAST, &["restore", "latest", "--target", target]);
    assert_eq!(std::fs::metadata(desk.at("out/large.sql")).expect("restored").len(), 300 << 20);
    keeps(&desk, LEAST, &["restore", "latest", "--target", target]);
    keeps(&desk, LEAST, &["dump", "latest:large.sql"]);
    keeps(&desk, LEAST, &["verify", "--read-data"]);
    keeps(&desk, LEAST, &["backup", "--no-recipes", "--command", "large.sql", "--", "sh", "-c", &script]);
}

/// What is kept of the last night and for the next does not grow with the stream: its pieces are short and many, and every sixtieth is new.
/// `COFFRE_STREAM_GB` says how long the stream is.
#[test]
fn a_stream_beside_what_it_was_last_night_keeps_to_the_memory_given() {
    let gigabytes: f64 = std::env::var("COFFRE_STREAM_GB").map_or(0.12, |text| text.parse().expect("a number"));
    let rows = (gigabytes * 1e9 / 70.0) as u64;
    let desk = Desk::with_repository();
    for (night, memory) in [(0, LEAST), (1, LEAST), (2, 256)] {
        let program = format!(
            "BEGIN {{ for (i = 0; i < {rows}; i++) printf \"%d\\t%d\\t%051d\\n\", i, (i % 60 == {night}) ? {night} : 0, i * 7 }}"
        );
        keeps(&desk, memory, &["backup", "--command", "rows.sql", "--", "awk", &program]);
    }
}

/// Windows that are put together by recipes, each of parts of many others.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_recipes_keeps_to_the_memory_given() {
    let desk = Desk::new();
    std::fs::write(desk.at("password"), PASSPHRASE).expect("written");
    std::fs::create_dir(desk.at("repository")).expect("made");
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&desk.at("repository"), OpenMode::Create).expect("opened"));
    let cache = desk.at(".cache/coffre");
    init(store.clone(), &cache).await;
    let base: Vec<Arc<Vec<u8>>> = (0..20).map(|i| Arc::new(random_bytes(i, 4 << 20))).collect();
    let window = |i: usize| {
        let part = |nth: usize| (base[(i + nth % 5 * 4) % base.len()].clone(), nth * 65_536, 65_536);
        Window::cut(1, &(0..64).map(part).collect::<Vec<_>>(), &[])
    };
    let windows = (0..base.len()).map(window).collect();
    night(store, &cache, &base, vec![("large.sql", windows)]).await;
    let target = desk.at("out");
    let target = target.to_str().expect("plain");
    for memory in [LEAST, 256] {
        keeps(&desk, memory, &["dump", "latest:large.sql"]);
        keeps(&desk, memory, &["restore", "--overwrite", "always", "latest", "--target", target]);
        keeps(&desk, memory, &["verify"]);
        keeps(&desk, memory, &["verify", "--read-data"]);
    }
    assert_eq!(std::fs::metadata(desk.at("out/large.sql")).expect("restored").len(), 80 << 20);
}

/// Files small and large, read by more threads than fit; then what is unchanged.
#[test]
fn many_files_and_threads_keep_to_the_memory_given() {
    let desk = Desk::with_repository();
    for directory in 0..40u64 {
        let at = desk.at(&format!("source/d{directory}"));
        std::fs::create_dir(&at).expect("made");
        for file in 0..100u64 {
            std::fs::write(at.join(file.to_string()), random_bytes(directory * 100 + file, 200 + 50 * file as usize))
                .expect("written");
        }
    }
    noise(&desk.at("source/large"), 100);
    let source = desk.at("source");
    let source = source.to_str().expect("plain");
    keeps(&desk, LEAST, &["--limit-upload", "80MB", "backup", "--threads", "16", source]);
    keeps(&desk, LEAST, &["backup", "--threads", "16", source]);
    keeps(&desk, LEAST, &["backup", "--threads", "16", "--force", source]);
    let target = desk.at("out");
    keeps(&desk, LEAST, &["restore", "latest", "--target", target.to_str().expect("plain")]);
    keeps(&desk, LEAST, &["dump", "latest"]);
    keeps(&desk, LEAST, &["diff", "latest", "latest"]);
}

/// About 3 KiB for each snapshot are all that grows with their number.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_snapshots_fit() {
    let desk = Desk::with_repository();
    desk.backup();
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&desk.at("repository"), OpenMode::Write).expect("opened"));
    let identity = std::fs::read_to_string(desk.at("password")).expect("there");
    let cache = desk.at(".cache/coffre");
    let repository = Repository::open(store.clone(), &Passphrase::new(identity), &cache).await;
    let repository = Arc::new(repository.expect("opens"));
    let last: Snapshot = {
        let all = repository.snapshots().await.expect("listed");
        all.into_iter().next().expect("one").1.expect("whole")
    };
    for i in 0..1000u64 {
        let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
        let id = SnapshotId::new(Timestamp::from_seconds(1_700_000_000 + i as i64), i.to_be_bytes());
        let snapshot = Snapshot { id, session: session.id(), started: id.time(), ..last.clone() };
        let object = session.seal_snapshot(&snapshot);
        store.put(&ObjectKey::snapshot(id), object.into()).await.expect("put");
        let segment = SegmentId(blake3::hash(&i.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes"));
        let object = session.seal_segment(segment, &[]);
        store.put(&ObjectKey::segment(segment), object.into()).await.expect("put");
    }
    for verb in [&["snapshots"][..], &["find", "b.txt"], &["ls", "latest"], &["stats"], &["verify"], &["status"]] {
        let peak = keeps(&desk, LEAST, verb);
        assert!(peak <= 40, "{verb:?} took {peak} MiB");
    }
}

const OPTIONS: WriterOptions =
    WriterOptions { pack_target_bytes: 32 << 20, packs_in_flight: 1, level: 1, dry_run: false, extra_check: false };

/// Stores frames, each of some chunks, in packs of any size, and returns what the index tells of them.
async fn stored(repository: &Arc<Repository>, pack_bytes: u32, frames: Vec<(Vec<u8>, usize)>) -> Vec<PackEntry> {
    let index = begin(repository).await;
    let options = WriterOptions { pack_target_bytes: pack_bytes, ..OPTIONS };
    let writer = Writer::start(index, options, Arc::new(Collected::default()));
    let filling = tokio::task::spawn_blocking(move || {
        let mut compressor = writer.compressor();
        for (plain, chunk_len) in frames {
            let mut frame = Frame::default();
            plain.chunks(chunk_len).for_each(|chunk| frame.push(&writer.id(chunk), chunk));
            writer.store_frame(&mut frame, &mut compressor).expect("stored");
        }
        writer.flush().expect("stored");
        writer
    });
    filling.await.expect("filled").finish().await.expect("uploaded");
    let mut told = Vec::new();
    let store = LocalStore::open(std::path::Path::new(&repository.location()), OpenMode::Read).expect("opened");
    for object in store.list("index/").await.expect("listed") {
        let bytes = store.get(&object.key).await.expect("there");
        let segment = open_segment(repository, object.key.segment_id().expect("a segment"), &bytes).expect("opens");
        told.extend(segment.packs().to_vec());
    }
    told
}

/// A desk with one backup, its store, and the repository opened with a cache of its own.
async fn backed_up() -> (Desk, Arc<dyn Store>, Arc<Repository>, TempDir) {
    let desk = Desk::with_repository();
    desk.backup();
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&desk.at("repository"), OpenMode::Write).expect("opened"));
    let identity = std::fs::read_to_string(desk.at("password")).expect("there");
    let cache = tempfile::tempdir().expect("made");
    let repository = Repository::open(store.clone(), &Passphrase::new(identity.trim().into()), cache.path()).await;
    let repository = Arc::new(repository.expect("opens"));
    (desk, store, repository, cache)
}

/// Whoever may write makes packs of up to 768 MiB, frames of 16 MiB, and directories of 48 MiB, decoded three times that.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_any_size_is_verified_in_the_memory_given() {
    let (desk, store, repository, _cache) = backed_up().await;
    let large = (0..13).map(|nth| (random_bytes(nth, 16 << 20), 8 << 20)).collect();
    let told = stored(&repository, 512 << 20, large).await;
    assert!(told.iter().any(|pack| pack.size > 200 << 20), "one large pack");
    keeps(&desk, LEAST, &["verify", "--read-data"]);
    keeps(&desk, 256, &["verify", "--read-data"]);
    // More frames of a chunk of a byte than writers put into one. What the index tells of the pack is little: it could not tell all.
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let writer = Writer::start(begin(&repository).await, OPTIONS, Arc::new(Collected::default()));
    let (mut pack, mut compressor) = (session.new_pack(PackKind::Data, 16 << 20), writer.compressor());
    let mut frame = Frame::default();
    for nth in 0..600_000u32 {
        frame.push(&writer.id(&[nth as u8]), &[nth as u8]);
        pack.push_frame(frame.encode(&mut compressor));
        frame.clear();
    }
    let image = pack.finish();
    store.put(&ObjectKey::pack(image.entry().id), image.bytes().clone()).await.expect("put");
    let mut lie = image.entry().clone();
    assert!(lie.directory.frames.len() > 500_000);
    lie.directory.frames.truncate(1);
    let id = SegmentId([7; 16]);
    let object = session.seal_segment(id, &UploadedPack::indexed(IndexSegment::forged(vec![lie])));
    store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
    let (run, peak) = peak::run(&mut desk.command(&["-q", "--memory", "128MiB", "verify", "--read-data"]));
    assert_eq!(run.code, 4, "the segment lies: {run:?}");
    assert!(peak > 20 && peak <= LEAST, "{peak} MiB");
}

/// Whoever may write makes index segments that are as long as one can be, and tell of as many chunks and packs as they can.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_any_segments_is_read_in_the_memory_given() {
    let (desk, store, repository, _cache) = backed_up().await;
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let pack = |nth: u32, frames: usize| {
        let key = |at: usize| {
            ChunkKey(
                blake3::hash(&[nth.to_le_bytes(), (at as u32).to_le_bytes()].concat()).as_bytes()[..16]
                    .try_into()
                    .expect("16 bytes"),
            )
        };
        let frame = |at| FrameRecord { sealed_len: 17, plain_len: 1, codec: Codec::Stored, chunks: vec![(key(at), 1)] };
        let mut entry = session.new_pack(PackKind::Data, 0).finish().entry().clone();
        entry.size = 17 * frames as u32 + 2000;
        entry.directory.frames = (0..frames).map(frame).collect();
        entry
    };
    let mut segments: Vec<Vec<PackEntry>> = (0..6).map(|nth| vec![pack(nth, SEGMENT_CHUNKS_MAX)]).collect();
    // Packs of nothing, and one chunk too many.
    segments.push((0..130_000).map(|nth| pack(nth, 0)).collect());
    segments.push(vec![pack(7, SEGMENT_CHUNKS_MAX + 1)]);
    for (nth, packs) in (0u8..).zip(segments) {
        let id = SegmentId([nth; 16]);
        let object = session.seal_segment(id, &UploadedPack::indexed(IndexSegment::forged(packs)));
        assert!(object.len() > 7 << 20 && object.len() as u64 <= ObjectKey::segment(id).bytes_max());
        let opened = open_segment(&repository, id, &object);
        assert_eq!(opened.is_err(), nth == 7, "{nth}");
        if opened.is_ok() {
            store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
        }
    }
    let target = desk.at("out");
    let source = desk.at("source");
    for (verb, code) in [
        (&["ls", "latest"][..], 0),
        (&["restore", "latest", "--target", target.to_str().expect("plain")], 0),
        (&["backup", source.to_str().expect("plain")], 0),
        (&["verify"], 4),
    ] {
        std::fs::remove_dir_all(desk.at(".cache")).expect("what is in the cache need not be read");
        if verb == ["verify"] {
            // It names each pack that is not there.
            store.delete(&ObjectKey::segment(SegmentId([6; 16]))).await.expect("deleted");
        }
        let (run, peak) = peak::run(&mut desk.command(&[&["-q", "--memory", "128MiB"], verb].concat()));
        assert_eq!(run.code, code, "{verb:?}: {run:?}");
        assert!(peak > 20 && peak <= LEAST, "{verb:?} took {peak} MiB");
    }
}

/// Cleaning up keeps two bits for each chunk and some numbers for each pack and snapshot. `COFFRE_TEST_SYNTHETIC=50000000:100000`
/// has so many chunks and snapshots; few will do to see that neither is kept.
#[tokio::test(flavor = "multi_thread")]
async fn cleaning_up_keeps_to_the_memory_given_whatever_there_is() {
    let given = std::env::var("COFFRE_TEST_SYNTHETIC").unwrap_or_else(|_| "1000000:3000".into());
    let (chunks, snapshots) = given.split_once(':').expect("two numbers");
    let (chunks, snapshots): (u64, u64) = (chunks.parse().expect("a number"), snapshots.parse().expect("a number"));
    let (desk, store, repository, _cache) = backed_up().await;
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let empty = session.new_pack(PackKind::Data, 0).finish().entry().clone();
    // Packs of 350 chunks, which are not there.
    let key = |nth: u64| ChunkKey(blake3::hash(&nth.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes"));
    for segment in 0..chunks.div_ceil(SEGMENT_CHUNKS) {
        let packs = (0..SEGMENT_CHUNKS / 350).map(|pack| {
            let first = segment * SEGMENT_CHUNKS + pack * 350;
            let chunks: Vec<_> = (first..first + 350).map(|nth| (key(nth), 90_000)).collect();
            let frames = chunks.chunks(7).map(|chunks| FrameRecord {
                sealed_len: 300_000,
                plain_len: 90_000 * chunks.len() as u32,
                codec: Codec::Zstd,
                chunks: chunks.to_vec(),
            });
            let mut entry = empty.clone();
            (entry.id, entry.size) = (PackId(key(u64::MAX - first).0), 32 << 20);
            entry.directory.frames = frames.collect();
            entry
        });
        let id = SegmentId(key(u64::MAX / 2 + segment).0);
        let object = session.seal_segment(id, &UploadedPack::indexed(IndexSegment::forged(packs.collect())));
        store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
    }
    let last: Snapshot =
        repository.snapshots().await.expect("listed").into_iter().next().expect("one").1.expect("whole");
    for nth in 0..snapshots {
        let id = SnapshotId::new(Timestamp::from_seconds(1_700_000_000 + nth as i64), nth.to_be_bytes());
        let position = Position { number: nth + 1, before: Some([7; 32]) };
        let snapshot =
            Snapshot { id, session: session.id(), started: id.time(), position, digest: None, ..last.clone() };
        store.put(&ObjectKey::snapshot(id), session.seal_snapshot(&snapshot).into()).await.expect("put");
    }
    for verb in [&["prune", "--dry-run"][..], &["prune"]] {
        let peak = keeps(&desk, 256, verb);
        eprintln!("{verb:?} of {chunks} chunks and {snapshots} snapshots: {peak} MiB");
    }
}

#[test]
fn a_passphrase_takes_what_is_written_and_no_more() {
    let desk = Desk::with_passphrase();
    let (run, peak) = peak::run(&mut desk.command(&["-q", "snapshots"]));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(peak <= UNLOCKING, "{peak} MiB");
}
