//! An index of many synthetic chunks: time and resident memory of lookups.
//!
//! `cargo bench --bench index -- [CHUNKS] [DIRECTORY]`; the default is 100 million chunks, which need 3 GB in DIRECTORY
//! (a temporary one unless given). Half of the lookups are of chunks that are there, half of chunks that are not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use coffre::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use coffre::format::index::PackEntry;
use coffre::format::pack::{Codec, FrameRecord, PackDirectory, PackKind};
use coffre::model::id::{ChunkKey, PackId};
use coffre::repository::index::table::{Row, Table, TableWriter};

const FRAMES_A_PACK: u32 = 100;
const LOOKUPS: u64 = 2_000_000;
/// How often it is opened to measure that.
const OPENED: u32 = 50;

/// The `i`th of `count` keys: ascending, with random low bits.
fn key(i: u64, count: u64) -> ChunkKey {
    let step = u64::MAX / count;
    let noise = blake3::hash(&i.to_le_bytes());
    let low = u64::from_le_bytes(noise.as_bytes()[..8].try_into().expect("8 bytes"));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(i * step + low % step).to_be_bytes());
    bytes[8..].copy_from_slice(&noise.as_bytes()[8..16]);
    ChunkKey(bytes)
}

/// Resident memory of this process, in MiB: now and at its highest.
fn resident_mib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// What this thread has used of the processor so far.
fn processor_seconds() -> f64 {
    let used = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    used.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let count: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000_000);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let directory = arguments.next().map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    let path = directory.join("synthetic.table");

    let header = Arc::new(SessionHeader::from_bytes(&[0; SESSION_HEADER_LEN]));
    let chunks_a_frame = 64;
    let frames = u32::try_from(count.div_ceil(chunks_a_frame)).expect("fewer than 4 billion");
    let mut writer = TableWriter::default();
    let mut left = frames;
    while left > 0 {
        let here = left.min(FRAMES_A_PACK);
        let frame = FrameRecord { sealed_len: 300_000, plain_len: 1 << 20, codec: Codec::Zstd, chunks: Vec::new() };
        let pack = PackEntry {
            id: PackId(blake3::hash(&left.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes")),
            kind: PackKind::Data,
            size: 32 << 20,
            digest: [0; 32],
            locked_until: 0,
            commitment: [0; 32],
            header: header.clone(),
            directory: PackDirectory { frames: vec![frame; here as usize] },
        };
        writer.push_pack(coffre::model::author::Author::Reader, &pack, |_| {});
        left -= here;
    }
    let begun = Instant::now();
    let rows =
        (0..count).map(|i| Row { key: key(i, count), frame: (i % u64::from(frames)) as u32, offset: 0, length: 16384 });
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("made");
    writer.finish(&file, usize::try_from(count).expect("fits"), rows).expect("written");
    println!(
        "{count} chunks written in {:.1} s, {} MB",
        begun.elapsed().as_secs_f64(),
        path.metadata().expect("there").len() / 1_000_000
    );

    // The kernel counts in steps of some milliseconds.
    let begun = processor_seconds();
    for _ in 0..OPENED {
        Table::open(&path).expect("just written");
    }
    println!("opened in {:.2} ms of the processor's time", (processor_seconds() - begun) * 1e3 / f64::from(OPENED));
    let table = Table::open(&path).expect("just written");
    let before = resident_mib().0;
    // From here on the peak is that of looking up.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (mut hits, mut wrong) = (0u64, 0u64);
    let begun = Instant::now();
    let mut state = 1u64;
    for i in 0..LOOKUPS {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let there = i % 2 == 0;
        let mut wanted = key((state >> 16) % count, count);
        if !there {
            wanted.0[15] ^= 0x55;
        }
        match (table.find(&wanted).is_some(), there) {
            (true, true) => hits += 1,
            (false, false) => {}
            _ => wrong += 1,
        }
    }
    let elapsed = begun.elapsed();
    let (now, peak) = resident_mib();
    println!(
        "{LOOKUPS} lookups, {hits} found, {wrong} wrong: {:.2} µs each",
        elapsed.as_secs_f64() * 1e6 / LOOKUPS as f64
    );
    println!("resident: {before} MiB before, {now} MiB after, {peak} MiB at most");
    assert_eq!(wrong, 0);
}
