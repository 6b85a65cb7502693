//! Decoders meet any bytes with a value or an error: no panic, no endless loop, no memory beyond what the input warrants.
//!
//! Each target of `tests/fuzz` is run over bytes without form and over real objects with some bytes changed, cut or moved. The run
//! in the tests is short; `COFFRE_FUZZ_SECONDS=600 cargo test --test it decoders` lets each target run that long, and libFuzzer
//! runs them as long as it is let (`tests/fuzz/src/main.rs`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::{SlotLock, seal_slot};
use coffre::format::recipe::{Part, Recipe};
use coffre::model::id::ChunkKey;
use coffre::model::key::ObjectKind;
use serde_json::Value;

use coffre::model::id::unhex;

use crate::support::{Bench, random_bytes};

#[path = "../fuzz/src/targets.rs"]
mod targets;

/// Inputs that each decoder gets at least, however slow the machine is.
const LEAST_INPUTS: usize = 50;

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

/// What test vectors have in hexadecimal digits, wherever it stands in them.
fn vectors() -> Vec<Vec<u8>> {
    fn gather(value: &Value, found: &mut Vec<Vec<u8>>) {
        match value {
            Value::String(text) => found.extend(unhex(text).filter(|bytes| (2..4000).contains(&bytes.len()))),
            Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
            Value::Object(fields) => fields.values().for_each(|value| gather(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for file in std::fs::read_dir(tests_at("data/vectors")).expect("there") {
        let text = std::fs::read_to_string(file.expect("there").path()).expect("text");
        gather(&serde_json::from_str(&text).expect("JSON"), &mut found);
    }
    found
}

/// Returns where something is below `tests`.
fn tests_at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Real objects of every kind, whole and without their envelopes, and what test vectors have.
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
    seeds.extend(vectors());
    seeds
}

/// `COFFRE_WRITE_SEEDS=1` leaves the seeds for libFuzzer.
fn leave(seeds: &[Vec<u8>]) {
    let directory = tests_at("fuzz/seeds");
    std::fs::create_dir_all(&directory).expect("writable");
    for seed in seeds.iter().filter(|seed| seed.len() < 64 << 10) {
        std::fs::write(directory.join(blake3::hash(seed).to_hex().as_str()), seed).expect("written");
    }
}

/// Each target is one program of libFuzzer's.
#[test]
fn every_decoder_is_a_target_of_libfuzzer() {
    let manifest = std::fs::read_to_string(tests_at("fuzz/Cargo.toml")).expect("there");
    let bins = manifest.split("[[bin]]").skip(1).map(|bin| bin.split('"').nth(1).expect("a name"));
    assert!(bins.eq(targets::TARGETS.iter().map(|target| target.name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_make_a_decoder_panic() {
    let seeds = seeds().await;
    if std::env::var_os("COFFRE_WRITE_SEEDS").is_some() {
        leave(&seeds);
    }
    let long = std::env::var("COFFRE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let runs: Vec<_> = targets::TARGETS
        .iter()
        .map(|&targets::Target { name, run, .. }| {
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
                    run(&input);
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
