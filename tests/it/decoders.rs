//! Decoders meet any bytes with a value or an error: no panic, no endless loop, no memory beyond what the input warrants.
//!
//! Each target below is run over bytes without form and over real objects with some bytes changed, cut or moved. The run
//! in the tests is short; `COFFRE_FUZZ_SECONDS=600 cargo test --test it decoders` lets each target run that long.

use std::time::{Duration, Instant};

use coffre::chunker::Chunker;
use coffre::compress::decompress;
use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::{SlotLock, check_recovery_identity, open_slot, seal_slot};
use coffre::format::cleanup::decode_cleanup;
use coffre::format::config::{ChunkerProfile, Config};
use coffre::format::index::IndexSegment;
use coffre::format::lease::Lease;
use coffre::format::object::{CLEANUP, INDEX, LEASE, SNAPSHOT};
use coffre::format::pack::{Codec, PackDirectory, Tail, Trailer};
use coffre::format::recipe::{Part, Recipe, WINDOW_MAX};
use coffre::format::slot::Slot;
use coffre::format::snapshot::decode_snapshot;
use coffre::format::tree::Node;
use coffre::model::author::Author;
use coffre::model::id::ChunkKey;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::SnapshotId;
use coffre::model::time::Timestamp;
use coffre::model::units::ByteSize;
use coffre::store::location::Location;

use crate::support::{Bench, random_bytes};

/// One decoder: its name, whether its input is text, and what it does with any bytes.
type Target = (&'static str, fn(&[u8]));

/// Inputs that each decoder gets at least, however slow the machine is.
const LEAST_INPUTS: usize = 50;

const TARGETS: [Target; 19] = [
    ("config", |bytes| seen(Config::decode_unverified(bytes))),
    ("slot", |bytes| seen(Slot::decode(bytes))),
    ("age file", |bytes| seen(open_slot(&Passphrase::new("x".into()), bytes))),
    ("lease", |bytes| seen((Lease::decode(bytes), LEASE.split(bytes).is_ok()))),
    ("cleanup", |bytes| seen((decode_cleanup(bytes), CLEANUP.split(bytes).is_ok()))),
    ("index object", |bytes| seen(INDEX.split(bytes).is_ok())),
    ("index segment", |bytes| seen(IndexSegment::decode(Author::Reader, bytes))),
    ("pack directory", |bytes| seen(PackDirectory::decode(bytes))),
    ("pack tail", |bytes| seen(Tail::decode(bytes))),
    ("pack trailer", |bytes| seen(Trailer::decode(bytes))),
    ("node", |bytes| seen(Node::decode(bytes))),
    ("recipe", |bytes| {
        if let Ok(recipe) = Recipe::decode(bytes) {
            let ends = recipe.items().iter().all(|item| item.end() <= WINDOW_MAX);
            assert!(recipe.items().len() <= bytes.len() && recipe.length() <= WINDOW_MAX && ends);
            seen(recipe.items_within(recipe.length() / 3, recipe.length() / 2));
        }
    }),
    ("snapshot object", snapshot),
    ("frame", |bytes| {
        for codec in [Codec::Zstd, Codec::Stored] {
            seen(decompress(codec, bytes, 1 << 20));
        }
    }),
    ("index table", table),
    ("object name", |bytes| {
        let key = ObjectKey::from_listed(String::from_utf8_lossy(bytes));
        seen((key.kind(), key.pack_id(), key.segment_id(), key.snapshot_id(), key.counter()));
    }),
    ("location", |bytes| seen(String::from_utf8_lossy(bytes).parse::<Location>())),
    ("text", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        seen((text.parse::<ByteSize>(), check_recovery_identity(&text), Timestamp::parse_compact_utc(&text)));
        seen(EntryPath::new(bytes.to_vec()));
    }),
    ("chunker", |bytes| {
        let profile =
            ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min: 64, avg: 256, max: 1024, normalization: 2 };
        let chunker = Chunker::new(profile, &[0x9e37_79b9_7f4a_7c15; 256]);
        let mut rest = bytes;
        while let Some(length) = chunker.cut(rest, true) {
            assert!(length > 0 && length <= 1024);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }),
];

fn snapshot(bytes: &[u8]) {
    let id = SnapshotId::new(Timestamp::from_seconds(1_800_000_000), [7; 8]);
    if let Ok((header, rest)) = SNAPSHOT.split(bytes) {
        seen(decode_snapshot(id, &header, Author::Reader, rest));
        seen(decode_snapshot(id, &header, Author::Reader, bytes));
    }
}

fn table(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(file.path(), bytes).expect("written");
    if let Ok(table) = coffre::repository::index::table::Table::open(file.path()) {
        for row in table.rows().take(100) {
            seen(table.location(&row));
            seen(table.find(&row.key));
        }
        seen(table.packs().take(100).count());
    }
}

/// Numbers that depend on the seed alone.
struct Dice(blake3::OutputReader);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % limit.max(1) as u64) as usize
    }
}

/// Changes, cuts, doubles or moves some bytes.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let (at, value) = (dice.below(bytes.len()), dice.below(256) as u8);
        match dice.below(7) {
            0 if !bytes.is_empty() => bytes[at] = value,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, value),
            4 => drop(bytes.drain(at..(at + dice.below(8)).min(bytes.len()))),
            5 if bytes.len() >= at + 4 => bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes()),
            _ => {
                let end = (at + dice.below(64)).min(bytes.len());
                let again = bytes[at.min(end)..end].to_vec();
                bytes.extend(again);
            }
        }
    }
}

/// Real objects of every kind, whole and without their envelopes.
async fn seeds() -> Vec<Vec<u8>> {
    let bench = Bench::new().await;
    let (snapshot, _) = bench.snapshot().await;
    let mut seeds = vec![b"".to_vec(), b"s3://host:99/bucket/a".to_vec(), b"12.5GiB".to_vec(), b"a/b".to_vec()];
    for kind in ObjectKind::ALL {
        for object in bench.store().list(kind.prefix()).await.expect("listed").into_iter().take(2) {
            let bytes = bench.store().get(&object.key).await.expect("read");
            seeds.push(bytes[..bytes.len().min(4000)].to_vec());
            seeds.push(bytes[bytes.len().saturating_sub(1284)..].to_vec());
            seeds.push(object.key.as_str().as_bytes().to_vec());
        }
    }
    // What stands inside of envelopes.
    seeds.push(coffre::format::snapshot::encode_snapshot(&snapshot));
    let repository = crate::support::open(bench.store(), bench.cache.path()).await.expect("opened");
    for object in bench.store().list(ObjectKind::Index.prefix()).await.expect("listed") {
        let bytes = bench.store().get(&object.key).await.expect("read");
        let id = object.key.segment_id().expect("a segment");
        let segment = coffre::repository::index::open_segment(&repository, id, &bytes).expect("opened");
        seeds.push(segment.encode());
        seeds.extend(segment.packs().iter().map(|pack| pack.directory.encode()));
    }
    let index = coffre::repository::index::Index::load(&repository, &coffre::progress::Collected::default()).await;
    let index = std::sync::Arc::new(index.expect("loaded"));
    for file in std::fs::read_dir(repository.cache().index().expect("a cache")).expect("there") {
        seeds.push(std::fs::read(file.expect("there").path()).expect("readable"));
    }
    let monitor = std::sync::Arc::new(coffre::progress::Collected::default());
    let reader = std::sync::Arc::new(coffre::repository::reader::Reader::new(
        repository.reading().expect("may be read"),
        index,
        256 << 20,
        monitor,
    ));
    seeds.push(reader.chunk(&snapshot.root.id).await.expect("the top node"));
    let key = |i: u32| ChunkKey([i as u8; 16]);
    let parts: Vec<Part> = (0..60).map(|i| (key(i % 7), i * 900 % 5000, 1 + i * 37)).collect();
    seeds.push(Recipe::new(2, &parts).expect("a recipe").encode());
    let lock = SlotLock::Recovery(Passphrase::new("x".into()));
    seeds.push(seal_slot(&lock, b"content").expect("sealed"));
    let mut compressor = coffre::compress::Compressor::new(3);
    seeds.push(compressor.compress(&b"some text ".repeat(100)).1.to_vec());
    seeds
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_make_a_decoder_panic() {
    let seeds = seeds().await;
    let long = std::env::var("COFFRE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let runs: Vec<_> = TARGETS
        .iter()
        .map(|&(name, target)| {
            let seeds = seeds.clone();
            std::thread::spawn(move || {
                let mut dice = Dice(blake3::Hasher::new().update(name.as_bytes()).finalize_xof());
                let begun = Instant::now();
                let (least, most) = match long {
                    Some(seconds) => (Duration::from_secs(seconds), usize::MAX),
                    None => (Duration::from_millis(1500), 20_000),
                };
                let mut count = 0;
                while count < LEAST_INPUTS || begun.elapsed() < least && count < most {
                    let mut input = match dice.below(10) {
                        0 => random_bytes(count as u64, dice.below(300)),
                        _ => seeds[dice.below(seeds.len())].clone(),
                    };
                    if dice.below(20) > 0 {
                        mutate(&mut input, &mut dice);
                    }
                    target(&input);
                    count += 1;
                }
                (name, count)
            })
        })
        .collect();
    for run in runs {
        let (name, count) = run.join().expect("no decoder panics");
        assert!(count >= LEAST_INPUTS, "{name} was hardly run: {count}");
    }
}

/// Takes what a decoder gave.
fn seen<T>(_: T) {}
