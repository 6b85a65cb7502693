//! Weaving: what a window of today consists of, parts of chunks that are stored and rows that are new.
//!
//! What a window needs is bounded by readers (`docs/format.md`, section 17), and a window is read long after it was woven: frames are rewritten
//! until then, and others may have stored what it names in their own way. So less is asked for here than readers take, at every depth.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::format::recipe::{CHUNKS_NEEDED_MAX, PARTS_NEEDED_MAX, PLAIN_NEEDED_MAX};
use crate::model::id::{ChunkKey, PackId};
use crate::windows::block::{NightBlock, Through};
use crate::windows::cover::{Cover, Stretch};
use crate::windows::remains::{Used, key_number};
use crate::windows::sample::Sample;
use crate::windows::walk::NEW;
use crate::windows::yesterday::{Blocks, Yesterday};
use crate::windows::{HashedPiece, WINDOW_MAX};

/// Stretches that a window consists of, at most: more take much memory, and their recipe saves little. Readers take 2^19 parts.
const STRETCHES_MOST: usize = 1 << 15;
/// Plaintext of the frames that a window needs, at most: a quarter of what readers take.
pub(super) const FRAMES_MOST: u64 = PLAIN_NEEDED_MAX / 4;
/// Windows stored as recipes that a recipe names, at most: readers take each of them whole, in up to 8 MiB, where somebody else has stored it
/// plain. With [`FRAMES_MOST`] that is three quarters of what they take.
const WINDOWS_MOST: usize = 16;

/// What a window is made of; the key of new rows is not known yet, and they stand for `None`, one behind the other.
#[derive(Debug, Default)]
pub struct Woven {
    plain: Cover<Option<ChunkKey>>,
    named: Cover<Option<ChunkKey>>,
    through: HashMap<ChunkKey, Through>,
}

type LookForPlain<'a> = dyn FnMut(&ChunkKey) -> Option<NeededFrame> + 'a;
type LookForRecipe<'a> = dyn FnMut(&ChunkKey, u32) -> bool + 'a;

/// Looks up what recipes may name, each chunk once.
pub struct StoredChunks<'a> {
    look_for_plain: Box<LookForPlain<'a>>,
    look_for_recipe: Box<LookForRecipe<'a>>,
    plain: HashMap<ChunkKey, Option<NeededFrame>>,
    recipes: HashMap<(ChunkKey, u32), bool>,
}

impl<'a> StoredChunks<'a> {
    /// Takes what returns the frame of a chunk that may be named as stored plain, and what tells whether one may be named that is stored so or
    /// by a recipe of so many bytes, which is then one that names plain chunks alone.
    pub fn new(
        plain: impl FnMut(&ChunkKey) -> Option<NeededFrame> + 'a,
        recipe: impl FnMut(&ChunkKey, u32) -> bool + 'a,
    ) -> Self {
        let (look_for_plain, look_for_recipe) = (Box::new(plain), Box::new(recipe));
        Self { look_for_plain, look_for_recipe, plain: HashMap::new(), recipes: HashMap::new() }
    }

    fn frame(&mut self, key: &ChunkKey) -> Option<NeededFrame> {
        *self.plain.entry(*key).or_insert_with(|| (self.look_for_plain)(key))
    }

    fn has_plain(&mut self, key: &ChunkKey) -> bool {
        self.frame(key).is_some()
    }

    fn has_recipe(&mut self, key: &ChunkKey, length: u32) -> bool {
        *self.recipes.entry((*key, length)).or_insert_with(|| (self.look_for_recipe)(key, length))
    }
}

/// The frame in which a chunk lies that is stored plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeededFrame {
    /// Its pack, and its number in it; `None` where that is not known or may be any of several, and the chunk stands for a frame by itself.
    pub place: Option<(PackId, u32)>,
    /// Its plaintext in bytes.
    pub bytes: u64,
}

impl NeededFrame {
    /// That of a chunk of which nothing is known, in no longer frame than writers make.
    pub const UNKNOWN: Self = Self { place: None, bytes: WINDOW_MAX as u64 };

    /// Returns what it is told from others by, as the frame of a chunk.
    fn name(&self, chunk: &ChunkKey) -> (Option<(PackId, u32)>, Option<ChunkKey>) {
        (self.place, self.place.is_none().then_some(*chunk))
    }
}

impl Woven {
    /// Puts together what the walk found of a window; `None` where that is in too many stretches.
    pub fn of<B: Blocks>(yesterday: &mut Yesterday<B>, pieces: &[HashedPiece], found: &[u64]) -> Option<Self> {
        let (mut woven, mut new, mut i) = (Self::default(), 0, 0);
        while i < pieces.len() {
            let run = run_of(yesterday, pieces, found, i);
            let length = pieces[i..i + run.pieces].iter().map(|piece| piece.length).sum::<u32>();
            match run.at {
                // Equal hashes of pieces of different lengths are an accident, or a lie.
                Some((block, from, to)) if to - from == length => {
                    let some = |Stretch { key, offset, length }| Stretch { key: Some(key), offset, length };
                    block.plain().slice(from, to, |part| woven.plain.push(some(part)));
                    block.named().slice(from, to, |part| {
                        if let Some(through) = block.through(&part.key) {
                            woven.through.entry(part.key).or_insert_with(|| through.clone());
                        }
                        woven.named.push(some(part));
                    });
                }
                _ => {
                    let part = Stretch { key: None, offset: new, length };
                    woven.plain.push(part);
                    woven.named.push(part);
                    new += length;
                }
            }
            i += run.pieces;
            if woven.plain.stretches().len().max(woven.named.stretches().len()) > STRETCHES_MOST {
                return None;
            }
        }
        Some(woven)
    }

    /// Keeps to chunks that may be named, as they are `stored`, and takes what lies in others for new. Where it `is_base` night, or something of
    /// what recipes would name is missing, plain chunks alone are named.
    pub fn rely(&mut self, is_base: bool, stored: &mut StoredChunks<'_>) {
        let may_name = |key: &ChunkKey, stored: &mut StoredChunks<'_>| match self.through.get(key) {
            Some(Through { recipe_length, plain }) => {
                stored.has_recipe(key, *recipe_length) && plain.iter().all(|key| stored.has_plain(key))
            }
            None => stored.has_plain(key),
        };
        if !is_base && self.named.keys().iter().flatten().all(|key| may_name(key, stored)) {
            return;
        }
        let lost: HashSet<ChunkKey> =
            self.plain.keys().into_iter().flatten().filter(|key| !stored.has_plain(key)).collect();
        self.do_without(&lost);
    }

    /// Keeps to what may be asked of readers. Where the window needs too much plaintext of frames, it takes for new what lies in those of which it
    /// uses least, so that its rows of many nights become one chunk; where the windows that it would name need too much, plain chunks alone are named.
    ///
    /// Each frame counts for `frame_least` bytes at least, because rewriting makes it as long.
    pub fn keep_within(&mut self, frame_least: u64, stored: &mut StoredChunks<'_>) {
        let mut frame_of = |key: &ChunkKey| {
            let frame = stored.frame(key).unwrap_or(NeededFrame::UNKNOWN);
            NeededFrame { bytes: frame.bytes.max(frame_least), ..frame }
        };
        let new_rows = match u64::from(self.new_bytes()) {
            0 => 0,
            new => new.max(frame_least),
        };
        let frames = self.frames_used(&mut frame_of);
        let most = frames_most(&frames);
        let left = unwanted(frames, new_rows, most);
        if !left.is_empty() {
            self.do_without(&left);
        }
        if !self.through.is_empty() && !self.named_needs(&mut frame_of).are_within_bounds() {
            self.name_plain();
        }
    }

    /// Takes what lies in some chunks for new, and names plain chunks alone.
    fn do_without(&mut self, chunks: &HashSet<ChunkKey>) {
        if !chunks.is_empty() {
            let (before, mut new) = (std::mem::take(&mut self.plain), 0);
            for part in before.stretches() {
                match part.key.filter(|key| !chunks.contains(key)) {
                    Some(_) => self.plain.push(*part),
                    None => {
                        self.plain.push(Stretch { key: None, offset: new, length: part.length });
                        new += part.length;
                    }
                }
            }
        }
        self.name_plain();
    }

    /// Names plain chunks alone.
    fn name_plain(&mut self) {
        self.through.clear();
        self.named = self.plain.clone();
    }

    /// Returns the frames in which the window's chunks lie that are stored plain.
    fn frames_used(&self, frame_of: &mut dyn FnMut(&ChunkKey) -> NeededFrame) -> Vec<FrameUse> {
        let mut used: BTreeMap<ChunkKey, u64> = BTreeMap::new();
        for part in self.plain.stretches() {
            if let Some(key) = part.key {
                *used.entry(key).or_default() += u64::from(part.length);
            }
        }
        let mut frames = BTreeMap::new();
        for (key, used) in used {
            let frame = frame_of(&key);
            let its = frames.entry(frame.name(&key)).or_insert(FrameUse { bytes: frame.bytes, ..FrameUse::default() });
            its.used += used;
            its.chunks.push(key);
        }
        frames.into_values().collect()
    }

    /// Returns what naming windows asks of readers.
    fn named_needs(&self, frame_of: &mut dyn FnMut(&ChunkKey) -> NeededFrame) -> NamedNeeds {
        let named = self.named.keys();
        let plain: Vec<ChunkKey> =
            named.iter().flatten().filter(|key| !self.through.contains_key(*key)).copied().collect();
        let mut needs = NamedNeeds {
            windows: self.through.len(),
            chunks: named.len(),
            items: self.named.stretches().len(),
            frame_bytes: frame_bytes(&plain, frame_of),
        };
        for Through { recipe_length, plain } in self.through.values() {
            needs.chunks += plain.len();
            // Each is three numbers of a byte or more.
            needs.items += *recipe_length as usize / 3;
            needs.frame_bytes += frame_bytes(plain, frame_of);
        }
        needs
    }

    /// Returns how many bytes are new.
    pub fn new_bytes(&self) -> u32 {
        self.plain.stretches().iter().filter(|part| part.key.is_none()).map(|part| part.length).sum()
    }

    /// Returns the new rows of the window, one behind the other.
    pub fn new_rows(&self, window: &[u8]) -> Vec<u8> {
        let (mut rows, mut at) = (Vec::with_capacity(self.new_bytes() as usize), 0);
        for part in self.plain.stretches() {
            let length = part.length as usize;
            if part.key.is_none() {
                rows.extend_from_slice(&window[at..at + length]);
            }
            at += length;
        }
        rows
    }

    /// Returns how much of the chunks that the window names yesterday was still made of, from 0 to 1, as far as that is known.
    pub fn alive(&self, used: &Sample<Used>) -> f64 {
        let known = self.plain.keys().into_iter().flatten().filter_map(|key| used.get(key_number(&key)));
        let (alive, whole) = known.fold((0, 0), |(alive, whole), chunk| {
            (alive + chunk.alive.min(u64::from(chunk.length)), whole + u64::from(chunk.length))
        });
        if whole == 0 { 1.0 } else { alive as f64 / whole as f64 }
    }

    /// Says which chunk holds the new rows; there may be none.
    pub fn filled(self, rows: Option<(ChunkKey, u32)>) -> MadeOf {
        // Each goes when it was filled: two of each would take memory that nobody has counted.
        let fill = |cover: Cover<Option<ChunkKey>>| {
            let mut filled = Cover::default();
            for part in cover.stretches() {
                let key = part.key.or(rows.map(|(key, _)| key)).expect("where something is new, there are new rows");
                filled.push(Stretch { key, offset: part.offset, length: part.length });
            }
            filled
        };
        let Self { plain, named, through } = self;
        MadeOf { plain: fill(plain), named: fill(named), through, fresh: rows.into_iter().collect() }
    }
}

/// A frame, and what a window uses of it.
#[derive(Debug, Default)]
struct FrameUse {
    /// Its plaintext.
    bytes: u64,
    /// What the window takes of it.
    used: u64,
    /// The chunks in it that the window names.
    chunks: Vec<ChunkKey>,
}

/// Returns how much plaintext of frames a window may need: [`FRAMES_MOST`], less up to a quarter by what its largest part is of. That stays the same for
/// many nights and is another for each window, so that windows which are of one age do not all become too much in the same night.
fn frames_most(frames: &[FrameUse]) -> u64 {
    let chunks = frames.iter().max_by_key(|frame| frame.used).and_then(|frame| frame.chunks.first());
    FRAMES_MOST - chunks.map_or(0, |key| key_number(key) % (FRAMES_MOST / 4))
}

/// Returns the chunks that a window is to do without, so that it needs no more plaintext than `most` beside its `new_rows`: none, as long as
/// it does not. Else they are those of the frames of which it uses the smallest parts, until half of [`FRAMES_MOST`] is left: so many nights pass
/// before it is too much again.
fn unwanted(mut frames: Vec<FrameUse>, new_rows: u64, most: u64) -> HashSet<ChunkKey> {
    let mut needed = new_rows + frames.iter().map(|frame| frame.bytes).sum::<u64>();
    let mut unwanted = HashSet::new();
    if needed <= most {
        return unwanted;
    }
    frames.sort_by_key(|frame| (frame.used << 16) / frame.bytes.max(1));
    for frame in frames {
        if needed <= FRAMES_MOST / 2 {
            break;
        }
        needed = needed - frame.bytes + frame.used;
        unwanted.extend(frame.chunks);
    }
    unwanted
}

/// What a recipe asks of readers that names windows. One that puts its window together carefully makes each of these whole, one after the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NamedNeeds {
    /// Windows that it names.
    windows: usize,
    /// Chunks that it names, and those that each of these windows names.
    chunks: usize,
    /// Items of all these recipes.
    items: usize,
    /// Plaintext of the frames that it needs, and of those that each of these windows needs.
    frame_bytes: u64,
}

impl NamedNeeds {
    /// Tells whether any reader takes it. One that is careful takes twice as many chunks, twice the plaintext of frames, and 2 GiB of
    /// chunks, which is more than there is in these frames.
    fn are_within_bounds(&self) -> bool {
        self.windows <= WINDOWS_MOST
            && self.chunks <= CHUNKS_NEEDED_MAX / 2
            && self.items <= PARTS_NEEDED_MAX / 4
            && self.frame_bytes <= PLAIN_NEEDED_MAX / 4 * 3
    }
}

/// Returns the plaintext of the frames in which chunks lie.
fn frame_bytes(chunks: &[ChunkKey], frame_of: &mut dyn FnMut(&ChunkKey) -> NeededFrame) -> u64 {
    let mut seen = HashSet::new();
    let frames = chunks.iter().map(|chunk| (chunk, frame_of(chunk)));
    frames.filter(|(chunk, frame)| seen.insert(frame.name(chunk))).map(|(_, frame)| frame.bytes).sum()
}

/// What a window is made of.
#[derive(Debug, Clone, Default)]
pub struct MadeOf {
    /// By chunks that are stored plain.
    pub plain: Cover<ChunkKey>,
    /// As its recipe names them.
    pub named: Cover<ChunkKey>,
    /// What those that are stored as recipes need in turn.
    pub through: HashMap<ChunkKey, Through>,
    /// The chunks in it whose length may not be known from yesterday, and their lengths.
    fresh: Vec<(ChunkKey, u32)>,
}

impl MadeOf {
    /// What a window is made of that is a chunk itself.
    pub fn chunk(key: ChunkKey, length: u32) -> Self {
        Self::chunks(vec![(key, length)])
    }

    /// What a window is made of that is stored as some chunks, one behind the other.
    pub fn chunks(chunks: Vec<(ChunkKey, u32)>) -> Self {
        let mut plain = Cover::default();
        chunks.iter().for_each(|&(key, length)| plain.push(Stretch { key, offset: 0, length }));
        Self { named: plain.clone(), plain, through: HashMap::new(), fresh: chunks }
    }

    /// What bytes are made of that were stored before: parts of chunks that are so long.
    pub fn stored(plain: Cover<ChunkKey>, lengths: Vec<(ChunkKey, u32)>) -> Self {
        Self { named: plain.clone(), plain, through: HashMap::new(), fresh: lengths }
    }

    /// Returns the length of a chunk in it that yesterday may not have known.
    pub fn fresh_length(&self, key: &ChunkKey) -> Option<u32> {
        self.fresh.iter().find(|(fresh, _)| fresh == key).map(|(_, length)| *length)
    }

    /// Tells whether a chunk is named. A window that is named to make itself is stored already, and what it needs is there.
    pub fn names(&self, key: &ChunkKey) -> bool {
        self.named.stretches().iter().any(|part| part.key == *key)
    }

    /// Returns the parts that its recipe names.
    pub fn parts(&self) -> Vec<(ChunkKey, u32, u32)> {
        self.named.stretches().iter().map(|part| (part.key, part.offset, part.length)).collect()
    }

    /// Says that tomorrow's recipes name the window itself, which is stored as a recipe of plain chunks, so many bytes long.
    pub fn named_as(mut self, key: ChunkKey, recipe_length: u32) -> Self {
        self.through = HashMap::from([(key, Through { recipe_length, plain: self.plain.keys().into() })]);
        self.named = Cover::of_chunk(key, self.plain.length());
        self
    }
}

/// Pieces that lie one behind the other in one of yesterday's blocks, or are all new.
struct Run {
    pieces: usize,
    at: Option<(Arc<NightBlock>, u32, u32)>,
}

/// Returns the run that begins with the piece `first`.
fn run_of<B: Blocks>(yesterday: &mut Yesterday<B>, pieces: &[HashedPiece], found: &[u64], first: usize) -> Run {
    let place = found[first];
    let Some((block, nth)) = (if place == NEW { None } else { yesterday.find(place) }) else {
        // A block may be gone that was there a moment ago.
        let new = found[first..].iter().take_while(|found| **found == NEW).count();
        return Run { pieces: new.max(1), at: None };
    };
    let in_block = block.hashes().len() - nth;
    let follows = |(i, found): &(usize, &u64)| **found != NEW && **found == place + *i as u64;
    let count = found[first..pieces.len()].iter().enumerate().take(in_block).take_while(follows).count();
    let (from, to) = (block.piece(nth).0, block.piece(nth + count - 1).1);
    Run { pieces: count, at: Some((block, from, to)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::recipe::{TABLE_MAX, WINDOW_MAX};

    const MIB: u64 = 1 << 20;

    fn key(number: u8) -> ChunkKey {
        ChunkKey([number; 16])
    }

    /// A frame of one chunk, its plaintext and what is used of it in KiB.
    fn frame(number: u8, bytes: u64, used: u64) -> FrameUse {
        FrameUse { bytes: bytes << 10, used: used << 10, chunks: vec![key(number)] }
    }

    fn left(frames: Vec<FrameUse>, new_rows: u64) -> Vec<u8> {
        let mut left: Vec<u8> = unwanted(frames, new_rows, FRAMES_MOST).into_iter().map(|key| key.0[0]).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn what_is_used_least_of_its_frame_is_given_up_where_there_are_too_many() {
        let windows = |count: u8| (0..count).map(|nth| frame(nth, 4096, 200 + u64::from(nth))).collect::<Vec<_>>();
        assert_eq!(left(windows(16), 0), [0; 0], "64 MiB");
        assert_eq!(left(windows(15), 4 * MIB), [0; 0], "the new rows count");
        assert_eq!(left(windows(15), 4 * MIB + 1).len(), 9);
        assert_eq!(left(windows(17), 0), (0..10).collect::<Vec<u8>>(), "what is given up is new then");
        assert_eq!(left(windows(40), 0), (0..34).collect::<Vec<u8>>());
        // A window and the rows of 113 nights, half of which become one chunk: 64 more nights pass.
        let mut nights: Vec<FrameUse> = (0..113).map(|nth| frame(nth, 512, 4)).collect();
        nights.push(frame(113, 8192, 7700));
        assert_eq!(left(nights, 0), (0..66).collect::<Vec<u8>>());
        assert_eq!(left(vec![], 100 * MIB), [0; 0]);
    }

    #[test]
    fn windows_of_one_age_become_too_much_in_many_nights() {
        let most = |seed: u64| {
            let base = ChunkKey(blake3::hash(&seed.to_le_bytes()).as_bytes()[..16].try_into().expect("16 of 32"));
            let window = FrameUse { bytes: 4 * MIB, used: 4 * MIB - seed, chunks: vec![base] };
            let most = frames_most(&[frame(1, 512, 300), window, frame(2, 512, 30)]);
            assert!((FRAMES_MOST / 4 * 3..=FRAMES_MOST).contains(&most), "{most}");
            most
        };
        // A frame of 512 KiB more is needed each night.
        let mut nights: Vec<u64> = (0..200).map(|seed| most(seed) / (512 << 10)).collect();
        nights.sort_unstable();
        let at_once = nights.chunk_by(|one, next| one == next).map(<[u64]>::len).max();
        assert!(at_once < Some(200 / 10), "{nights:?}");
        assert_eq!(frames_most(&[]), FRAMES_MOST);
    }

    #[test]
    fn windows_are_named_within_bounds_alone() {
        let most = NamedNeeds { windows: 16, chunks: 2048, items: 1 << 17, frame_bytes: 192 * MIB };
        assert!(most.are_within_bounds());
        for more in [
            NamedNeeds { windows: 17, ..most },
            NamedNeeds { chunks: 2049, ..most },
            NamedNeeds { items: (1 << 17) + 1, ..most },
            NamedNeeds { frame_bytes: 192 * MIB + 1, ..most },
        ] {
            assert!(!more.are_within_bounds(), "{more:?}");
        }
    }

    /// What each bound of a reader leaves, whatever becomes of what is named.
    #[test]
    fn what_is_asked_for_is_less_than_any_reader_takes() {
        // Windows that others stored plain are taken so, beside what lies plain.
        const { assert!(PLAIN_NEEDED_MAX > FRAMES_MOST + WINDOWS_MOST as u64 * WINDOW_MAX as u64) };
        // A part for each stretch, and one more where a chunk that is named ends.
        const { assert!(PARTS_NEEDED_MAX > 2 * STRETCHES_MOST) };
        // A window always may name itself: one window of as many chunks and items as there may be, an item being ten bytes at most.
        let items = (STRETCHES_MOST * 10 + TABLE_MAX * ChunkKey::LEN + 16) / 3;
        let itself = NamedNeeds { windows: 1, chunks: 1 + TABLE_MAX, items: 1 + items, frame_bytes: FRAMES_MOST };
        assert!(itself.are_within_bounds());
    }

    /// A window of parts of 100 bytes: of which chunks they are, plain and as its recipe names them, and what these need in turn.
    fn woven(plain: &[Option<u8>], named: &[Option<u8>], through: &[(u8, &[u8])]) -> Woven {
        let cover = |keys: &[Option<u8>]| {
            let mut cover = Cover::default();
            for (nth, number) in (0..).zip(keys) {
                cover.push(Stretch { key: number.map(key), offset: nth * 100, length: 100 });
            }
            cover
        };
        let known = |needs: &[u8]| Through { recipe_length: 30, plain: needs.iter().map(|it| key(*it)).collect() };
        let through = through.iter().map(|(of, needs)| (key(*of), known(needs))).collect();
        Woven { plain: cover(plain), named: cover(named), through }
    }

    #[test]
    fn what_is_too_much_is_named_plain_or_is_new() {
        let stored = |frame: NeededFrame| StoredChunks::new(move |_| Some(frame), |_, _| true);
        let alone = |bytes: u64| stored(NeededFrame { place: None, bytes });
        let keys = |cover: &Cover<Option<ChunkKey>>| -> Vec<Option<u8>> {
            cover.keys().into_iter().map(|key| key.map(|key| key.0[0])).collect()
        };
        let two = || woven(&[Some(1), None, Some(2)], &[Some(9), None, Some(2)], &[(9, &[1, 3])]);
        let mut kept = two();
        kept.keep_within(1, &mut alone(MIB));
        assert_eq!(keys(&kept.named), [Some(9), None, Some(2)]);
        // The recipe of the window has too many items.
        let mut kept = two();
        kept.through.get_mut(&key(9)).expect("it is a recipe").recipe_length = 3 << 17;
        kept.keep_within(1, &mut alone(MIB));
        assert_eq!((keys(&kept.named), kept.through.len()), (vec![Some(1), None, Some(2)], 0));
        // 2 frames of 20 MiB are few enough, and 3 for the window that is named.
        let mut kept = two();
        kept.keep_within(1, &mut alone(20 * MIB));
        assert_eq!(keys(&kept.named), [Some(9), None, Some(2)]);
        // Of 2 frames of 33 MiB both are given up: one is more than half of what may be.
        let mut kept = two();
        kept.keep_within(1, &mut alone(33 * MIB));
        assert_eq!((keys(&kept.plain), keys(&kept.named), kept.new_bytes()), (vec![None], vec![None], 300));
        // Whatever frames have, each counts for as much as rewriting makes of it.
        let mut kept = two();
        kept.keep_within(40 * MIB, &mut alone(1));
        assert_eq!(keys(&kept.plain), [None::<u8>]);
        // In one frame they are one.
        let together = NeededFrame { place: Some((PackId([1; 16]), 7)), bytes: 40 * MIB };
        let mut kept = two();
        kept.keep_within(1, &mut stored(together));
        assert_eq!(keys(&kept.plain), [Some(1), None, Some(2)]);
    }
}
