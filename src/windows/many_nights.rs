//! Many nights of contents that are edited at random, over a store that loses chunks and a cache that loses blocks: whatever
//! happens, every window of tonight is made of what is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use proptest::prelude::*;

use crate::model::id::{ChunkKey, PackId};
use crate::windows::HashedPiece;
use crate::windows::block::NightBlock;
use crate::windows::pieces::PieceRule;
use crate::windows::pieces::tests::{cutter, noise};
use crate::windows::remains::{Remains, key_number};
use crate::windows::tomorrow::{BlockSink, Tomorrow};
use crate::windows::walk::NightWalk;
use crate::windows::weave::{FRAMES_MOST, MadeOf, NeededFrame, StoredChunks, Woven};
use crate::windows::yesterday::{Blocks, Yesterday};

/// A chunk as the store of these tests has it.
enum Stored {
    Plain(Vec<u8>),
    /// Its parts, and whether it names plain chunks alone.
    Recipe(Vec<(ChunkKey, u32, u32)>, bool),
}

/// What frames of new rows are as long as.
const ROWS_FRAME: u64 = 512 << 10;

/// What is stored, and what the last night left.
#[derive(Default)]
struct Kept {
    chunks: HashMap<ChunkKey, Stored>,
    /// Where plain chunks lie: as if windows were of 4 MiB, and each night had a frame of new rows.
    frames: HashMap<ChunkKey, NeededFrame>,
    nights: u32,
    /// The most plaintext of frames that a window of the last night needs.
    needed: u64,
    blocks: Vec<Option<Vec<u8>>>,
    remains: Option<Vec<u8>>,
    /// Bytes that the last night stored.
    stored: usize,
}

struct Encoded(Vec<Option<Vec<u8>>>);

impl Blocks for Encoded {
    fn block(&mut self, number: u64) -> Option<NightBlock> {
        NightBlock::decode(self.0[number as usize].as_ref()?).ok()
    }
}

impl BlockSink for Encoded {
    fn put(&mut self, block: &NightBlock) {
        self.0.push(Some(block.encode()));
    }
}

fn key_of(bytes: &[u8]) -> ChunkKey {
    ChunkKey(blake3::hash(bytes).as_bytes()[..16].try_into().expect("16 of 32 bytes"))
}

impl Kept {
    fn is_plain(&self, key: &ChunkKey) -> bool {
        matches!(self.chunks.get(key), Some(Stored::Plain(_)))
    }

    /// Gives the parts of plain chunks that make some bytes of a chunk to `take`, as a reader finds them. Panics where it cannot: all that a
    /// recipe names is there, and one of plain chunks names nothing else.
    fn walk(&self, key: &ChunkKey, bytes: Range<usize>, take: &mut dyn FnMut(&ChunkKey, &[u8])) {
        match &self.chunks[key] {
            Stored::Plain(whole) => take(key, &whole[bytes]),
            Stored::Recipe(parts, names_plain) => {
                let mut at = 0;
                for (part, offset, length) in parts {
                    assert!(self.chunks.contains_key(part), "all that it names is there");
                    assert!(self.is_plain(part) || !names_plain, "it is as deep as it says");
                    let (offset, end) = (*offset as usize, at + *length as usize);
                    let wanted = bytes.start.max(at)..bytes.end.min(end);
                    if !wanted.is_empty() {
                        self.walk(part, offset + wanted.start - at..offset + wanted.end - at, take);
                    }
                    at = end;
                }
            }
        }
    }

    fn read(&self, key: &ChunkKey, length: usize) -> Vec<u8> {
        let mut whole = Vec::with_capacity(length);
        self.walk(key, 0..length, &mut |_, bytes| whole.extend_from_slice(bytes));
        whole
    }

    /// Returns the plaintext of the frames that a window needs.
    fn needed_by(&self, key: &ChunkKey, length: usize) -> u64 {
        let mut used = BTreeSet::new();
        self.walk(key, 0..length, &mut |chunk, _| {
            used.insert(*chunk);
        });
        let frames = used.iter().map(|chunk| (chunk, self.frames[chunk]));
        let frames = frames.map(|(chunk, frame)| ((frame.place, frame.place.is_none().then_some(chunk)), frame.bytes));
        frames.collect::<BTreeMap<_, _>>().values().sum()
    }

    /// Stores a night in windows of `window` pieces; `nth` is how many there were before. Returns its windows.
    fn night(&mut self, data: &[u8], rule: PieceRule, window: usize, is_base: bool) -> Vec<ChunkKey> {
        let mut cutter = cutter(rule);
        let (mut pieces, mut rest) = (Vec::new(), data);
        while let Some(length) = cutter.next(rest, true) {
            pieces.push(HashedPiece { hash: cutter.hash(&rest[..length]), length: length as u32 });
            rest = &rest[length..];
        }
        let remains = self.remains.take().map(|bytes| Remains::decode(&bytes).expect("it was encoded").0);
        let mut yesterday = remains.map(|remains| Yesterday::new(Encoded(std::mem::take(&mut self.blocks)), remains));
        let mut tomorrow = Tomorrow::new(Encoded(Vec::new()), rule, 0);
        let (mut walk, mut found, mut at, mut windows) = (NightWalk::default(), Vec::new(), 0, Vec::new());
        (self.stored, self.needed) = (0, 0);
        self.nights += 1;
        for pieces in pieces.chunks(window) {
            let length: usize = pieces.iter().map(|piece| piece.length as usize).sum();
            let bytes = &data[at..at + length];
            at += length;
            let key = key_of(bytes);
            let made_of = match &mut yesterday {
                _ if self.is_plain(&key) => MadeOf::chunk(key, length as u32),
                None => self.whole(key, bytes),
                Some(yesterday) => {
                    walk.find(yesterday, pieces, &mut found);
                    let mut woven = Woven::of(yesterday, pieces, &found).expect("it is in few stretches");
                    let has_recipe = |key: &ChunkKey, length| match self.chunks.get(key) {
                        Some(Stored::Recipe(parts, _)) => 3 * parts.len() as u32 == length,
                        other => other.is_some(),
                    };
                    let frame_of = |key: &ChunkKey| self.is_plain(key).then(|| self.frames[key]);
                    let mut stored = StoredChunks::new(frame_of, has_recipe);
                    woven.rely(is_base, &mut stored);
                    woven.keep_within(ROWS_FRAME, &mut stored);
                    drop(stored);
                    match woven.new_bytes() as usize * 10 > length * 7 {
                        true => self.whole(key, bytes),
                        false => self.woven(key, woven, bytes, is_base),
                    }
                }
            };
            assert_eq!(self.read(&key, length), bytes, "the window is what it was");
            self.needed = self.needed.max(self.needed_by(&key, length));
            let used = yesterday.as_ref().map(|yesterday| &yesterday.remains().used);
            tomorrow.push(pieces, &made_of, |key| match made_of.fresh_length(key) {
                Some(length) => Some(length),
                None => used?.get(key_number(key)).map(|used| used.length),
            });
            windows.push(key);
        }
        let (blocks, remains) = tomorrow.finish();
        (self.blocks, self.remains) = (blocks.0, Some(remains.encode()));
        windows
    }

    fn whole(&mut self, key: ChunkKey, bytes: &[u8]) -> MadeOf {
        self.stored += bytes.len();
        self.frames.insert(key, NeededFrame { place: None, bytes: 8 * ROWS_FRAME });
        self.chunks.insert(key, Stored::Plain(bytes.to_vec()));
        MadeOf::chunk(key, bytes.len() as u32)
    }

    fn woven(&mut self, key: ChunkKey, woven: Woven, bytes: &[u8], is_base: bool) -> MadeOf {
        let rows = woven.new_rows(bytes);
        let rows_key = (!rows.is_empty()).then(|| key_of(&rows));
        let made_of = woven.filled(rows_key.map(|key| (key, rows.len() as u32)));
        if made_of.names(&key) {
            return made_of;
        }
        if let Some(key) = rows_key {
            self.stored += rows.len();
            self.frames.insert(key, NeededFrame { place: Some((PackId([0; 16]), self.nights)), bytes: ROWS_FRAME });
            self.chunks.insert(key, Stored::Plain(rows));
        }
        // A part is three numbers of a byte.
        let length = 3 * made_of.parts().len() as u32;
        self.stored += length as usize;
        self.chunks.insert(key, Stored::Recipe(made_of.parts(), made_of.through.is_empty()));
        if is_base { made_of.named_as(key, length) } else { made_of }
    }
}

/// What happens to a content from one night to the next.
#[derive(Debug, Clone)]
enum Edit {
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    Move(usize, usize, usize),
    Swap(usize, usize, usize),
    Repeat(usize, usize),
    Truncate(usize),
    Noise(usize, u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let row = prop_oneof![
        4 => "[a-z\t0-9]{0,180}\n".prop_map(String::into_bytes),
        1 => any::<u64>().prop_map(|seed| noise(seed, 5000)),
        1 => Just(b"x".repeat(100_000)),
        1 => Just(Vec::new()),
    ];
    let at = 0usize..1 << 20;
    prop_oneof![
        4 => (at.clone(), row).prop_map(|(at, row)| Edit::Insert(at, row)),
        2 => (at.clone(), 1usize..5000).prop_map(|(at, length)| Edit::Delete(at, length)),
        1 => (at.clone(), 1usize..50_000, at.clone()).prop_map(|(from, length, to)| Edit::Move(from, length, to)),
        1 => (at.clone(), at.clone(), 1usize..5000).prop_map(|(a, b, length)| Edit::Swap(a, b, length)),
        1 => (at.clone(), 1usize..20_000).prop_map(|(at, length)| Edit::Repeat(at, length)),
        1 => at.clone().prop_map(Edit::Truncate),
        1 => (at, any::<u64>()).prop_map(|(at, seed)| Edit::Noise(at, seed)),
    ]
}

fn apply(data: &mut Vec<u8>, edit: &Edit) {
    let len = data.len();
    let within = |at: usize| at % (len + 1);
    let range = |at: usize, length: usize| within(at)..within(at).saturating_add(length).min(len);
    match edit {
        Edit::Insert(at, bytes) => drop(data.splice(within(*at)..within(*at), bytes.iter().copied())),
        Edit::Delete(at, length) => drop(data.drain(range(*at, *length))),
        Edit::Move(from, length, to) => {
            let taken: Vec<u8> = data.drain(range(*from, *length)).collect();
            let to = to % (data.len() + 1);
            data.splice(to..to, taken);
        }
        Edit::Swap(a, b, length) => {
            let (a, b) = (range(*a, *length), range(*b, *length));
            let (one, other) = (data[a.clone()].to_vec(), data[b.clone()].to_vec());
            if a.end <= b.start {
                data.splice(b, one);
                data.splice(a, other);
            }
        }
        Edit::Repeat(at, length) => {
            let again = data[range(*at, *length)].to_vec();
            data.extend(again);
        }
        // Not too often down to nothing.
        Edit::Truncate(at) => data.truncate(len / 2 + within(*at) / 2),
        Edit::Noise(at, seed) => {
            let range = range(*at, 700);
            let noise = noise(*seed, range.len());
            data[range].copy_from_slice(&noise);
        }
    }
}

fn rows(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| format!("{i}\tname {}\t{:0>40}\n", i * 31 % 1000, i * i).into_bytes()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_window_is_made_of_what_is_there(
        nights in prop::collection::vec((prop::collection::vec(edit(), 0..12), any::<u64>(), 0u8..8), 1..14),
        is_pages in any::<bool>(),
        window in 20usize..400,
    ) {
        let rule = if is_pages { PieceRule::Pages(512) } else { PieceRule::Rows };
        let (mut kept, mut data) = (Kept::default(), rows(4000));
        for (nth, (edits, chance, mishap)) in nights.iter().enumerate() {
            kept.night(&data, rule, window, nth % 7 == 0);
            edits.iter().for_each(|edit| apply(&mut data, edit));
            match mishap {
                // Some chunks are gone by the next night: damage, or a clean-up.
                0 => kept.chunks.retain(|key, _| key.0[0] as u64 % 16 != chance % 16),
                // Some of what the night left cannot be read any more.
                1 => {
                    let nth = (*chance as usize).checked_rem(kept.blocks.len());
                    if let Some(nth) = nth { kept.blocks[nth] = None }
                }
                2 => kept.remains = None,
                _ => {}
            }
        }
    }
}

#[test]
fn a_night_costs_its_new_rows_and_a_week_does_not_make_it_dearer() {
    let (mut kept, mut data) = (Kept::default(), rows(30_000));
    let mut costs = Vec::new();
    for night in 0..16usize {
        kept.night(&data, PieceRule::Rows, 2000, night.is_multiple_of(7));
        costs.push(kept.stored);
        for i in 0..100 {
            let at = noise((night * 100 + i) as u64, 4);
            let at = u32::from_le_bytes(at.try_into().expect("4")) as usize % data.len();
            apply(&mut data, &Edit::Insert(at, format!("new {night} {i} {:0>60}\n", i * 77).into_bytes()));
        }
    }
    // A row is inserted into the middle of another: three pieces of 80 bytes are new.
    assert!(costs[0] > 1_500_000 && costs[1..].iter().all(|cost| *cost < 60_000), "{costs:?}");
    assert!(costs[13] < costs[2] * 3, "{costs:?}");
}

/// Some rows of each window change every night, for most of a year.
#[test]
fn no_window_needs_more_than_it_may_however_many_nights_pass() {
    let (mut kept, mut data) = (Kept::default(), rows(6_000));
    let (mut most, mut dearest) = (0, 0);
    for night in 0..300usize {
        kept.night(&data, PieceRule::Rows, 2000, night.is_multiple_of(7));
        assert!(kept.needed <= FRAMES_MOST, "night {night}: {}", kept.needed);
        most = most.max(kept.needed);
        if night > 0 {
            dearest = dearest.max(kept.stored);
        }
        for part in 0..3 {
            let at = noise((night * 3 + part) as u64, 4);
            let third = data.len() / 3;
            let at = part * third + u32::from_le_bytes(at.try_into().expect("4")) as usize % third;
            let row = format!("new {night} {part} {:0>60}\n", part * 77).into_bytes();
            apply(&mut data, &Edit::Insert(at, row));
        }
    }
    assert!(most > FRAMES_MOST / 4 * 3 - 8 * ROWS_FRAME, "as much as a window may need: {most}");
    assert!(dearest < data.len() / 3, "the rows of many nights are stored again, and no whole windows: {dearest}");
}
