//! One way to read: neighbouring frames in one request, each frame once, from wherever it is whole, and any part of a
//! content at the cost of that part. Requests are counted, not timed.

use std::ops::Range;
use std::sync::Arc;

use coffre::format::tree::Node;
use coffre::model::entry::{ChunkList, ChunkRef, FileContent, Hole};
use coffre::ops::Cancel;
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::{Collected, Counter};
use coffre::repository::Repository;
use coffre::repository::frame::Frame;
use coffre::repository::index::Index;
use coffre::repository::reader::Reader;
use coffre::repository::reader::content::{ContentError, ContentPart, ContentStream};
use coffre::repository::reader::told::ListNode;
use coffre::repository::tree::ListBuilder;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::store::Store;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::layer::record::RecordStore;

use crate::support::{Bench, begin, open, random_bytes};

const MEMORY: u64 = 256 << 20;

/// Stores `chunks`, `in_frame` of them in each frame, in a session that relies on nothing stored before, and a list that
/// names them in this `order`.
async fn store(
    repository: &Arc<Repository>,
    chunks: Vec<Vec<u8>>,
    in_frame: usize,
    order: impl Iterator<Item = usize> + Send + 'static,
) -> FileContent {
    let monitor = Arc::new(Collected::default());
    let index = begin(repository).await;
    let options =
        WriterOptions { pack_target_bytes: 32 << 20, packs_in_flight: 2, level: 1, dry_run: false, extra_check: true };
    let writer = Writer::start(index, options, monitor);
    let stored = tokio::task::spawn_blocking(move || {
        let mut compressor = writer.compressor();
        let mut refs = Vec::new();
        for chunks in chunks.chunks(in_frame) {
            let mut frame = Frame::default();
            for chunk in chunks {
                let id = writer.id(chunk);
                frame.push(&id, chunk);
                refs.push(ChunkRef { id, length: u32::try_from(chunk.len()).expect("short") });
            }
            writer.store_frame(&mut frame, &mut compressor).expect("stored");
        }
        let mut list = ListBuilder::default();
        let mut size = 0;
        for chunk in order.map(|number| refs[number]) {
            size += u64::from(chunk.length);
            list.push(chunk, &writer).expect("stored");
        }
        let chunks = list.finish(&writer).expect("stored");
        writer.flush().expect("flushed");
        (writer, FileContent { size, chunks, holes: Vec::new() })
    });
    let (writer, content) = stored.await.expect("no panic");
    writer.finish().await.expect("stored");
    content
}

async fn reader(repository: &Arc<Repository>) -> Arc<Reader> {
    let monitor = Arc::new(Collected::default());
    let index = Arc::new(Index::load(repository, &*monitor).await.expect("loaded"));
    Arc::new(Reader::new(repository.reading().expect("may be read"), index, MEMORY, monitor))
}

async fn all(mut stream: ContentStream) -> Result<Vec<u8>, ContentError> {
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        match part? {
            ContentPart::Bytes(frame, range) => bytes.extend_from_slice(&frame[range]),
            ContentPart::Zeros(zeros) => bytes.resize(bytes.len() + usize::try_from(zeros).expect("fits"), 0),
        }
    }
    Ok(bytes)
}

/// 24 frames of 500 kB of noise, 25 chunks in each.
fn noise() -> Vec<Vec<u8>> {
    random_bytes(1, 12_000_000).chunks(20_000).map(<[u8]>::to_vec).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbouring_frames_come_in_one_request_and_each_frame_once() {
    let chunks = noise();
    let count = chunks.len();
    // Backwards and to and fro: whatever the order, a window asks for what stands side by side together.
    let orders: [Vec<usize>; 3] =
        [(0..count).collect(), (0..count).rev().collect(), (0..count).map(|i| i * 7 % count).collect()];
    let sealed = (12_000_000, 12_000_000 + 24 * 100);
    for order in orders {
        let expected: Vec<u8> = order.iter().flat_map(|&number| chunks[number].clone()).collect();
        let bench = Bench::new().await;
        let record = RecordStore::new(bench.store());
        let repository = open(Arc::new(record.clone()), bench.cache.path()).await.expect("opens");
        let content = store(&repository, chunks.clone(), 25, order.into_iter()).await;
        let reader = reader(&repository).await;
        // The list of chunks is read first, so that what is counted is data alone.
        let list = reader.read_at(&content, 0, 1).await.expect("whole");
        assert_eq!(list, expected[..1]);
        record.take();
        let (one, other) = tokio::join!(all(reader.content(&content)), all(reader.content(&content)));
        assert!(one.expect("whole") == expected && other.expect("whole") == expected);
        // One range of eight frames, of which one is there already, and two more, whoever asks for them.
        assert_eq!(record.count(Operation::GetRange), 3);
        let bytes = record.bytes(Operation::GetRange) + 500_000;
        assert!((sealed.0..sealed.1).contains(&bytes), "{bytes}");
    }
}

/// Two hosts that ran at the same time stored everything twice: one pack is enough, whatever happens to the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_pack_lost_comes_from_another() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let chunks = noise();
    let expected = chunks.concat();
    store(&repository, chunks.clone(), 25, 0..600).await;
    let content = store(&repository, chunks.clone(), 25, 0..600).await;
    let packs = bench.data_packs().await;
    assert_eq!(packs.len(), 2);
    for damaged in &packs {
        for damage in ["gone", "cut", "wrong"] {
            let memory = bench.memory.fork();
            match damage {
                "gone" => memory.delete(damaged).await.expect("deleted"),
                "cut" => memory.tamper(damaged, |bytes| bytes.truncate(5_000_000)),
                _ => memory.tamper(damaged, |bytes| bytes[3_000_000..9_000_000].iter_mut().for_each(|b| *b ^= 1)),
            }
            let cache = tempfile::tempdir().expect("made");
            let repository = open(Arc::new(memory), cache.path()).await.expect("opens");
            let reader = reader(&repository).await;
            assert!(all(reader.content(&content)).await.expect(damage) == expected, "{damage}");
        }
    }
    // What comes wrong once is asked for again, and nothing is looked for elsewhere.
    let faults = FaultStore::new(bench.store());
    faults.plan(Fault::on(Operation::GetRange).nth(2).corrupt(1_700_000));
    let record = RecordStore::new(Arc::new(faults));
    let cache = tempfile::tempdir().expect("made");
    let repository = open(Arc::new(record.clone()), cache.path()).await.expect("opens");
    let reader = reader(&repository).await;
    record.take();
    assert!(all(reader.content(&content)).await.expect("whole") == expected);
    let calls = record.calls();
    let asked: std::collections::BTreeSet<_> = calls.iter().map(|call| &call.subject).collect();
    assert_eq!((calls.len(), asked.len()), (1 + 3 + 1, 2), "the list, three ranges, a frame again: {calls:?}");
}

/// A content of many short chunks of many lengths, its bytes, and where its chunks end.
async fn long_content(repository: &Arc<Repository>, count: usize) -> (FileContent, Vec<u8>, Vec<u64>) {
    let chunks: Vec<Vec<u8>> = (0..2000).map(|i| random_bytes(i, 20 + i as usize % 61)).collect();
    let order: Vec<usize> = random_bytes(99, 2 * count)
        .chunks(2)
        .map(|two| usize::from(u16::from_le_bytes([two[0], two[1]])) % chunks.len())
        .collect();
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for &number in &order {
        bytes.extend_from_slice(&chunks[number]);
        ends.push(bytes.len() as u64);
    }
    (store(repository, chunks, 500, order.into_iter()).await, bytes, ends)
}

/// Puts holes into a content and zeros into its bytes.
fn with_holes(content: &FileContent, bytes: &[u8], holes: &[Range<u64>]) -> (FileContent, Vec<u8>) {
    let (mut sparse, mut stored) = (Vec::new(), bytes);
    for hole in holes {
        let (before, after) = stored.split_at(hole.start as usize - sparse.len());
        sparse.extend_from_slice(before);
        sparse.resize(hole.end as usize, 0);
        stored = after;
    }
    sparse.extend_from_slice(stored);
    let holes = holes.iter().map(|hole| Hole { offset: hole.start, length: hole.end - hole.start }).collect();
    (FileContent { size: sparse.len() as u64, holes, ..content.clone() }, sparse)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_part_of_a_content_is_as_if_all_had_been_read() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    for count in [0, 1, 30, 12_000] {
        let (content, bytes, ends) = long_content(&repository, count).await;
        let reader = reader(&repository).await;
        let mut borders: Vec<u64> = ends.iter().copied().step_by(1 + count / 40).collect();
        if let ChunkList::Indirect { root, depth, chunks } = content.chunks {
            let told = ListNode { id: root, depth, chunks, bytes: content.stored_length() };
            let Node::Lists(children) = reader.node(&told).await.expect("whole") else { panic!("a list of lists") };
            assert!(children.len() >= 3, "{count}");
            borders.extend(children.iter().scan(0, |end, child| {
                *end += child.bytes;
                Some(*end)
            }));
        }
        let size = bytes.len() as u64;
        // Holes at the beginning, between two chunks, within one, one after the other, and at the end.
        let (first, middle) = (ends.first().copied().unwrap_or(0), ends.get(count / 2).copied().unwrap_or(0));
        let holes = [0..100, 100 + first..100 + first + 7, 107 + middle + 3..107 + middle + 3 + 5000];
        let last = std::iter::once(size + 5107..size + 5157);
        let holes: Vec<Range<u64>> = holes.into_iter().chain(last).filter(|_| count > 1).collect();
        for (content, bytes) in [(content.clone(), bytes.clone()), with_holes(&content, &bytes, &holes)] {
            let size = content.size;
            let shifted = borders.iter().flat_map(|border| [*border, border + 100, border + 107, border + 5107]);
            let around = shifted.chain(content.holes.iter().flat_map(|hole| [hole.offset, hole.offset + hole.length]));
            let offsets = around.flat_map(|at| [at.saturating_sub(1), at, at + 1]).chain([0, size, size + 1, u64::MAX]);
            for offset in offsets {
                for len in [0, 1, 2, 300, 6000] {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    let expected = &bytes[start..start.saturating_add(len).min(bytes.len())];
                    let read = reader.read_at(&content, offset, len).await.expect("whole");
                    assert!(read == expected, "{count} chunks: {len} at {offset} of {size}");
                }
            }
            for offset in [0, size / 3, size] {
                let read = all(reader.content_range(&content, offset..u64::MAX)).await.expect("whole");
                assert!(read == bytes[offset as usize..], "{count} chunks from {offset} on");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_at_an_offset_fetches_a_node_of_each_level() {
    let bench = Bench::new().await;
    let record = RecordStore::new(bench.store());
    let repository = open(Arc::new(record.clone()), bench.cache.path()).await.expect("opens");
    let (content, bytes, ends) = long_content(&repository, 600_000).await;
    let ChunkList::Indirect { depth, .. } = content.chunks else { panic!("a list of lists") };
    // Where nodes end is drawn with the repository's key, so the number of levels differs.
    assert!(depth >= 2, "{depth} levels");
    let whole = reader(&repository).await;
    record.take();
    let mut walk = whole.chunks(&content.chunks, content.size);
    let mut chunks = 0;
    while let Some(chunk) = walk.next().await {
        chunk.expect("whole");
        chunks += 1;
    }
    assert_eq!(chunks, ends.len());
    let frames = record.count(Operation::GetRange);
    assert!(frames > 3 * (usize::from(depth) + 1), "{frames} frames of lists");
    for tenth in 0..=10 {
        // A reader of its own, so that nothing is remembered from the look before.
        let reader = reader(&repository).await;
        record.take();
        let offset = (content.size - 1) * tenth / 10;
        let read = reader.read_at(&content, offset, 1).await.expect("whole");
        assert_eq!(read, bytes[offset as usize..][..1]);
        let asked = record.count(Operation::GetRange);
        assert!(asked <= usize::from(depth) + 1, "{asked} requests at {offset}, {depth} levels");
        // What is read next stands in the same frames, which are kept.
        reader.read_at(&content, offset + 1, 10).await.expect("whole");
        assert!(record.count(Operation::GetRange) <= asked + 1);
    }
    // Nothing is asked where nothing is stored.
    let reader = reader(&repository).await;
    record.take();
    assert_eq!(reader.read_at(&content, content.size, 10).await.expect("nothing"), b"");
    let (sparse, _) = with_holes(&content, &bytes, std::slice::from_ref(&(5..500_000)));
    assert_eq!(reader.read_at(&sparse, 5, 100).await.expect("zeros"), [0; 100]);
    assert_eq!(record.summary(), "nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_verified_are_counted_as_packs() {
    let bench = Bench::new().await;
    bench.backup().await;
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let monitor = Arc::new(Collected::default());
    let options = VerifyOptions { read_data: ReadData::All, memory_bytes: MEMORY, ..VerifyOptions::default() };
    let report = verify(repository, options, monitor.clone(), Cancel::default()).await.expect("verified");
    assert!(report.packs_read >= 2, "{report:?}");
    assert_eq!(monitor.counters.get(Counter::Packs), report.packs_read);
    assert_eq!(monitor.counters.get(Counter::Bytes), report.bytes_read);
}
