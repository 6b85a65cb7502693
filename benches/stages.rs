//! Each stage of the pipeline by itself, on one core: bytes per second.
//!
//! `cargo bench --bench stages`. The ratio of a stage to its raw primitive in the same run is what counts; machines differ.

use std::hint::black_box;

use coffre::chunker::Chunker;
use coffre::compress::{Compressor, DEFAULT_LEVEL, decompress};
use coffre::crypto::chunk_id::ChunkHasher;
use coffre::crypto::derive::{DedupSecret, ReaderKey};
use coffre::crypto::pack::{PackOpener, PackSealer};
use coffre::crypto::session::{new_domain_key, new_session};
use coffre::format::keyring::DomainRecord;
use coffre::format::pack::Codec;
use coffre::format::tree::{LeafBuilder, Node};
use coffre::model::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Metadata};
use coffre::model::id::{ChunkId, DomainEpoch, DomainId, PackId, RepositoryId};
use coffre::model::path::EntryPath;
use coffre::repository::InitOptions;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MIB: usize = 1 << 20;

fn random(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

/// Lines like those of a plain database dump: ids, times, names, a JSON payload.
fn dump_text(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 256);
    let mut state = 1u64;
    while out.len() < len {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (a, b) = (state >> 33, state >> 11 & 0xffff);
        out.extend_from_slice(
            format!(
                "{a}\t2026-{:02}-{:02} 1{}:2{}:00\tuser{b}@example.eu\t{{\"seat\": \"{}\", \"price\": {}}}\n",
                a % 12 + 1,
                b % 28 + 1,
                a % 10,
                b % 10,
                a % 977,
                b % 8000
            )
            .as_bytes(),
        );
    }
    out.truncate(len);
    out
}

/// A dedup secret made the way a repository makes one.
fn dedup() -> DedupSecret {
    let (repository, reader) = (RepositoryId([1; 16]), ReaderKey::random());
    let (secret, public) = new_domain_key();
    let dedup = DedupSecret::random(DomainEpoch { domain: DomainId([2; 16]), epoch: 1 });
    let record = DomainRecord::seal(repository, &reader, "main", &dedup, &secret, public);
    record.open_dedup(repository, &reader).expect("just made").1
}

fn stages(c: &mut Criterion) {
    let (text, noise) = (dump_text(8 * MIB), random(8 * MIB));
    let dedup = dedup();
    let profiles = InitOptions::default();

    let mut group = c.benchmark_group("cut");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for (name, profile) in [("streams", profiles.streams), ("files", profiles.files)] {
        let chunker = Chunker::new(profile, &dedup.gear_table());
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut rest = &text[..];
                let mut count = 0;
                while let Some(length) = chunker.cut(rest, true) {
                    rest = &rest[length..];
                    count += 1;
                }
                black_box(count)
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("id");
    let hasher = ChunkHasher::new(&dedup);
    for size in [4 << 10, 16 << 10, 256 << 10] {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{} KiB", size >> 10), |b| b.iter(|| hasher.id(black_box(&text[..size]))));
    }
    group.finish();

    let mut group = c.benchmark_group("compress");
    group.throughput(Throughput::Bytes(MIB as u64));
    let mut compressor = Compressor::new(DEFAULT_LEVEL);
    group.bench_function("text", |b| b.iter(|| compressor.compress(black_box(&text[..MIB])).1.len()));
    group.bench_function("random", |b| b.iter(|| compressor.compress(black_box(&noise[..MIB])).1.len()));
    group.bench_function("text, zstd alone", |b| b.iter(|| zstd::bulk::compress(black_box(&text[..MIB]), 3)));
    let encoded = compressor.compress(&text[..MIB]).1.to_vec();
    group.bench_function("decompress text", |b| b.iter(|| decompress(Codec::Zstd, black_box(&encoded), MIB as u32)));
    group.finish();

    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Bytes(MIB as u64));
    let (_, public) = new_domain_key();
    let (repository, pack) = (RepositoryId([1; 16]), PackId([3; 16]));
    let dedup = DedupSecret::random(DomainEpoch { domain: DomainId([2; 16]), epoch: 1 });
    let (secret, header) = new_session(repository, &dedup, &public).expect("a good key");
    black_box(header);
    let mut buffer = Vec::with_capacity(2 * MIB);
    group.bench_function("frame", |b| {
        let mut sealer = PackSealer::new(&secret, repository, pack);
        b.iter(|| {
            buffer.clear();
            buffer.extend_from_slice(&noise[..MIB]);
            sealer.seal_frame(&mut buffer, 0);
        });
    });
    let mut sealer = PackSealer::new(&secret, repository, pack);
    let commitment = sealer.commitment();
    let mut sealed = noise[..MIB].to_vec();
    sealer.seal_frame(&mut sealed, 0);
    let opener = PackOpener::new(&secret, repository, pack, &commitment).expect("the same key");
    group.bench_function("open frame", |b| {
        b.iter(|| opener.open_frame(0, &mut sealed.clone()).expect("ours").len());
    });
    group.finish();

    let mut group = c.benchmark_group("tree");
    let entries: Vec<Entry> = (0..1000u32).map(entry).collect();
    group.throughput(Throughput::Elements(entries.len() as u64));
    let mut leaf = LeafBuilder::default();
    let encode = |leaf: &mut LeafBuilder| {
        entries.iter().for_each(|entry| leaf.push(entry));
        leaf.finish().0
    };
    let node = encode(&mut leaf);
    group.bench_function("encode entries", |b| b.iter(|| encode(&mut leaf).len()));
    group.bench_function("decode entries", |b| b.iter(|| Node::decode(black_box(&node))));
    group.finish();
}

fn entry(i: u32) -> Entry {
    let chunk = ChunkRef { id: ChunkId([7; 32]), length: 1234 };
    let content = FileContent { size: 1234, chunks: ChunkList::Inline(vec![chunk]), holes: Vec::new() };
    let metadata = Metadata {
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        user: Some(b"shop".to_vec()),
        group: Some(b"shop".to_vec()),
        inode: u64::from(i) + 1_000_000,
        links: 1,
        ..Metadata::default()
    };
    let path = EntryPath::new(format!("srv/shop/assets/{:03}/file-{i:06}.php", i / 20)).expect("safe");
    Entry { path, kind: EntryKind::File(content), metadata }
}

criterion_group!(benches, stages);
criterion_main!(benches);
