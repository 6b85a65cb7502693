//! What reading one window carefully may cost, and by whose word.
//!
//! No number of wrong places hides the right one. What comes to nothing counts against all who told of a place on the way to it,
//! together: a host that lies about what the recipes of another one name, or names by recipes of its own what others had
//! and lost, uses up what counts for both, and nothing of what counts for the other alone. For one window, each author, and each
//! two or three together, may cost 8192 tries in vain and 1 GiB that comes to nothing; what is right has the bounds of a window
//! (`docs/format.md`, section 8), for each of them by itself.

use std::collections::{HashMap, HashSet};

use crate::format::recipe::{CHUNKS_NEEDED_MAX, PLAIN_NEEDED_MAX, Recipe};
use crate::model::author::Author;
use crate::model::id::ChunkKey;
use crate::repository::index::table::{ChunkPlace, FramePlace};
use crate::repository::reader::ReadError;
use crate::repository::reader::recipe::too_much;

/// Chunks taken whole for one window, each as often as a recipe names it.
const CHUNKS_TAKEN_MAX: usize = 2 * CHUNKS_NEEDED_MAX;
/// Their bytes.
const BYTES_TAKEN_MAX: u64 = 8 * PLAIN_NEEDED_MAX;
/// How much more may be fetched for windows that are named, which are compared whole, than for the parts that are taken of them.
const OF_WINDOWS: u64 = 2;
/// What a try counts for at least that comes to nothing.
const TRY_BYTES: u64 = VAIN_MAX / CHUNKS_NEEDED_MAX as u64 / 2;
/// What may come to nothing: each chunk that a window may need at one wrong place, or the frames that it may need four times.
const VAIN_MAX: u64 = 4 * PLAIN_NEEDED_MAX;
/// Bytes that are compared for one that is fetched.
const COMPARED_FOR_FETCHED: u64 = 8;
/// Authors who count together. A plain chunk of a recipe that writers make, which names a window, has three: of the window, of the
/// window that is named, and of the chunk.
const TOGETHER_MAX: usize = 3;

/// The authors who told of the places on the way to one, each once, whoever came first: with recipes that writers make all of them, else the
/// first few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Tellers(Vec<Author>);

impl Tellers {
    /// One author alone.
    pub(super) fn of(author: Author) -> Self {
        Self(vec![author])
    }

    /// Those with another one, who tells of a place that is looked at because of them.
    pub(super) fn and(&self, author: Author) -> Self {
        let mut authors = self.0.clone();
        if authors.len() < TOGETHER_MAX && !authors.contains(&author) {
            authors.push(author);
            authors.sort_unstable();
        }
        Self(authors)
    }
}

/// What was spent on putting a window together carefully, and by whose word.
#[derive(Debug, Default)]
pub(super) struct Effort {
    /// Where its recipe is.
    pub(super) of: Option<ChunkPlace>,
    /// Whether recipes are named, and compared whole.
    is_deep: bool,
    accounts: HashMap<Tellers, Spent>,
}

/// What was spent by the word of the same authors.
#[derive(Debug, Default)]
struct Spent {
    taken: Taken,
    vain_bytes: u64,
    /// Frames that were fetched in vain: each is once.
    vain_frames: HashSet<FramePlace>,
}

/// What was right.
#[derive(Debug, Clone, Default)]
struct Taken {
    chunks: usize,
    bytes: u64,
    frames: HashSet<FramePlace>,
    frame_bytes: u64,
}

/// What was right by then, by whose word.
pub(super) struct TakenBefore(HashMap<Tellers, Taken>);

impl Effort {
    /// Nothing yet, on the window whose recipe is at a place.
    pub(super) fn on(of: ChunkPlace) -> Self {
        Self { of: Some(of), ..Self::default() }
    }

    /// Tells whether a place may be tried by the word of some.
    pub(super) fn may_try(&self, tellers: &Tellers) -> bool {
        self.accounts.get(tellers).is_none_or(|account| account.vain_bytes < VAIN_MAX)
    }

    /// Counts a try that came to nothing, for which so much was fetched.
    pub(super) fn add_vain(&mut self, tellers: &Tellers, bytes: u64) {
        self.accounts.entry(tellers.clone()).or_default().vain_bytes += TRY_BYTES + bytes;
    }

    /// Counts a try at a place that came to nothing.
    pub(super) fn add_vain_at(&mut self, tellers: &Tellers, place: &ChunkPlace) {
        let spent = self.accounts.entry(tellers.clone()).or_default();
        let is_fetched = spent.vain_frames.insert(place.frame_place());
        spent.vain_bytes += TRY_BYTES + if is_fetched { u64::from(place.sealed_len) } else { 0 };
    }

    /// Takes a chunk that is right, and the frame of one that is stored plain, unless that is more than may be taken.
    pub(super) fn take(&mut self, tellers: &Tellers, length: usize, frame: Option<&ChunkPlace>) -> bool {
        let frame_bytes_max = if self.is_deep { OF_WINDOWS * PLAIN_NEEDED_MAX } else { PLAIN_NEEDED_MAX };
        let taken = &mut self.accounts.entry(tellers.clone()).or_default().taken;
        let frame = frame.filter(|frame| !taken.frames.contains(&frame.frame_place()));
        let frame_bytes = taken.frame_bytes + frame.map_or(0, |frame| u64::from(frame.plain_len));
        let bytes = taken.bytes + length as u64;
        if frame_bytes > frame_bytes_max || bytes > BYTES_TAKEN_MAX || taken.chunks >= CHUNKS_TAKEN_MAX {
            return false;
        }
        (taken.chunks, taken.bytes, taken.frame_bytes) = (taken.chunks + 1, bytes, frame_bytes);
        taken.frames.extend(frame.map(ChunkPlace::frame_place));
        true
    }

    /// Goes on with what a recipe names.
    pub(super) fn names(&mut self, recipe: &Recipe) {
        self.is_deep |= recipe.depth() > 1;
    }

    /// Returns what was taken so far.
    pub(super) fn taken(&self) -> TakenBefore {
        let taken = self.accounts.iter().map(|(tellers, account)| (tellers.clone(), account.taken.clone()));
        TakenBefore(taken.collect())
    }

    /// Goes back to what was taken before a recipe that came to nothing, or not to all of its window.
    pub(super) fn give_back(&mut self, before: TakenBefore) {
        let TakenBefore(mut before) = before;
        for (tellers, account) in &mut self.accounts {
            let before = before.remove(tellers).unwrap_or_default();
            let (frames, bytes) = (account.taken.frame_bytes - before.frame_bytes, account.taken.bytes - before.bytes);
            account.vain_bytes += frames + bytes / COMPARED_FOR_FETCHED;
            account.taken = before;
        }
    }

    /// Says that more would have to be taken than may be.
    pub(super) fn too_much(&self, key: &ChunkKey) -> ReadError {
        self.of.as_ref().map_or(ReadError::Unknown { id: *key }, too_much)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::id::{PackId, WriterId};

    fn writer(number: u8) -> Author {
        Author::Writer(WriterId([number; WriterId::LEN]))
    }

    fn frame(author: Author, frame: u32, plain_len: u32) -> ChunkPlace {
        ChunkPlace {
            pack: PackId([1; 16]),
            author,
            kind: PackKind::Data,
            frame,
            frame_offset: 0,
            sealed_len: 100,
            plain_len,
            codec: Codec::Stored,
            offset: 0,
            length: plain_len,
        }
    }

    #[test]
    fn what_one_brings_about_is_nobody_elses_loss() {
        let (honest, liar) = (Tellers::of(writer(1)), Tellers::of(writer(2)));
        let together = honest.and(writer(2));
        assert_eq!(together, liar.and(writer(1)), "whoever comes first");
        let mut effort = Effort::default();
        let mut tries = 0;
        while effort.may_try(&liar) || effort.may_try(&together) {
            effort.add_vain(&liar, 0);
            effort.add_vain(&together, 0);
            tries += 1;
        }
        assert_eq!(tries, 2 * CHUNKS_NEEDED_MAX);
        assert!(effort.may_try(&honest) && effort.may_try(&honest.and(Author::Reader)));
        // Behind three authors nobody counts any more, so that there is an end.
        let three = together.and(Author::Reader);
        assert_eq!(three.and(writer(3)), three);
    }

    #[test]
    fn what_a_recipe_takes_in_vain_is_given_back_and_counts_for_those_who_told_of_it() {
        let (honest, liar) = (writer(1), Tellers::of(writer(2)));
        let together = liar.and(honest);
        let mut effort = Effort::default();
        let mut recipes = 0;
        while effort.may_try(&together) {
            let before = effort.taken();
            for number in 0..16 {
                assert!(effort.take(&together, 1, Some(&frame(honest, number, 16 << 20))), "each recipe has room");
            }
            assert!(!effort.take(&together, 1, Some(&frame(honest, 16, 1))), "and 256 MiB of it");
            assert!(effort.take(&together, 1, Some(&frame(honest, 0, 16 << 20))), "a frame counts once");
            effort.give_back(before);
            recipes += 1;
        }
        assert_eq!(recipes, 4);
        let alone = Tellers::of(honest);
        assert!(effort.may_try(&alone) && effort.take(&alone, 1, Some(&frame(honest, 0, 16 << 20))));
    }
}
