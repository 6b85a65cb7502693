//! The walk beside yesterday: for each piece of today the one of yesterday that it is.
//!
//! The order of a dump hardly changes, so nearly always it is the next one, or one close by. What moved far is found by anchors, and
//! by going on from there in both directions.

use crate::windows::HashedPiece;
use crate::windows::yesterday::{Blocks, Yesterday};

/// Yesterday's pieces that are looked at ahead.
const AHEAD: u64 = 1024;
/// Those that are looked at behind.
const BEHIND: u64 = 256;
/// A piece found within so many is believed by itself; one further off only beside another that fits.
const NEAR: u64 = 16;
/// After so many pieces in a row that are new, only every 64th looks around.
const MISSES: u32 = 256;

/// Stands for a piece that yesterday did not have.
pub const NEW: u64 = u64::MAX;

/// Where the walk stands.
#[derive(Debug, Default)]
pub struct NightWalk {
    /// Yesterday's piece that is expected next.
    next: u64,
    /// Pieces in a row that were new.
    misses: u32,
    /// The hash of today's piece before.
    before: Option<u64>,
}

impl NightWalk {
    /// Finds the pieces of a window, which comes behind the one asked for before: in `found` the number of each, or [`NEW`].
    pub fn find<B: Blocks>(&mut self, yesterday: &mut Yesterday<B>, pieces: &[HashedPiece], found: &mut Vec<u64>) {
        found.clear();
        for (i, piece) in pieces.iter().enumerate() {
            if yesterday.hash(self.next) == Some(piece.hash) {
                found.push(self.next);
                (self.next, self.misses) = (self.next + 1, 0);
                continue;
            }
            let around = Around {
                before: if i == 0 { self.before } else { Some(pieces[i - 1].hash) },
                after: pieces.get(i + 1).map(|after| after.hash),
            };
            match self.look(yesterday, piece.hash, &around) {
                Some(place) => {
                    take_back(yesterday, &pieces[..i], found, place);
                    found.push(place);
                    (self.next, self.misses) = (place + 1, 0);
                }
                None => {
                    found.push(NEW);
                    self.misses = self.misses.saturating_add(1);
                }
            }
        }
        self.before = pieces.last().map(|piece| piece.hash).or(self.before);
    }

    /// Looks for a piece that is not the next one.
    fn look<B: Blocks>(&self, yesterday: &mut Yesterday<B>, hash: u64, around: &Around) -> Option<u64> {
        if self.misses < MISSES || self.misses.is_multiple_of(64) {
            let ahead = self.scan(yesterday, self.next + 1, self.next + 1 + AHEAD, hash, around);
            let behind = || (self.next.saturating_sub(BEHIND), self.next);
            let found = match ahead {
                Some(found) => Some(found),
                None => self.scan(yesterday, behind().0, behind().1, hash, around),
            };
            if found.is_some() {
                return found;
            }
        }
        let place = *yesterday.remains().anchors.get(hash)?;
        (yesterday.hash(place) == Some(hash) && around.fits(yesterday, place)).then_some(place)
    }

    fn scan<B: Blocks>(
        &self,
        yesterday: &mut Yesterday<B>,
        from: u64,
        to: u64,
        hash: u64,
        around: &Around,
    ) -> Option<u64> {
        let mut from = from;
        while let Some(place) = yesterday.scan(from, to, hash) {
            if place.abs_diff(self.next) <= NEAR || around.fits(yesterday, place) {
                return Some(place);
            }
            from = place + 1;
        }
        None
    }
}

/// The neighbours of a piece of today.
struct Around {
    before: Option<u64>,
    after: Option<u64>,
}

impl Around {
    /// Tells whether a neighbour of a piece of yesterday is the same.
    fn fits<B: Blocks>(&self, yesterday: &mut Yesterday<B>, place: u64) -> bool {
        let has_before = |yesterday: &mut Yesterday<B>| place > 0 && yesterday.hash(place - 1) == self.before;
        (self.before.is_some() && has_before(yesterday))
            || (self.after.is_some() && yesterday.hash(place + 1) == self.after)
    }
}

/// Goes backwards from a place that was jumped to, over pieces that were taken for new.
fn take_back<B: Blocks>(yesterday: &mut Yesterday<B>, pieces: &[HashedPiece], found: &mut [u64], mut place: u64) {
    for (piece, found) in pieces.iter().zip(found).rev() {
        if *found != NEW || place == 0 || yesterday.hash(place - 1) != Some(piece.hash) {
            return;
        }
        place -= 1;
        *found = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::block::tests::key;
    use crate::windows::block::{BLOCK_PIECES, NightBlock};
    use crate::windows::cover::Stretch;
    use crate::windows::pieces::PieceRule;
    use crate::windows::remains::Remains;
    use crate::windows::sample::Sample;

    /// Blocks in memory, of which some are gone.
    struct Held(Vec<Option<NightBlock>>);

    impl Blocks for Held {
        fn block(&mut self, number: u64) -> Option<NightBlock> {
            self.0[number as usize].clone()
        }
    }

    /// A hash as random as real ones.
    fn hash(of: u64) -> u64 {
        u64::from_le_bytes(blake3::hash(&of.to_le_bytes()).as_bytes()[..8].try_into().expect("8 bytes"))
    }

    fn yesterday(rows: &[u64], gone: &[usize]) -> Yesterday<Held> {
        let mut anchors = Sample::new(1 << 16, 3);
        let mut blocks = Vec::new();
        for (number, rows) in rows.chunks(BLOCK_PIECES).enumerate() {
            let mut block = NightBlock::default();
            for (nth, row) in rows.iter().enumerate() {
                block.push(HashedPiece { hash: hash(*row), length: 10 });
                let part = Stretch { key: key(1), offset: 0, length: 10 };
                block.cover([part], [part], &Default::default());
                anchors.entry(hash(*row), || (number * BLOCK_PIECES + nth) as u64);
            }
            blocks.push((!gone.contains(&number)).then_some(block));
        }
        let used = Sample::new(8, 0);
        let pieces = rows.len() as u64;
        Yesterday::new(Held(blocks), Remains { pieces, anchors, used, ..Remains::new(PieceRule::Rows, 0) })
    }

    /// Walks in windows of 1000 and returns what was found.
    fn walked(old: &[u64], gone: &[usize], new: &[u64]) -> Vec<Option<u64>> {
        let (mut yesterday, mut walk, mut all) = (yesterday(old, gone), NightWalk::default(), Vec::new());
        for window in new.chunks(1000) {
            let pieces: Vec<_> = window.iter().map(|row| HashedPiece { hash: hash(*row), length: 10 }).collect();
            let mut found = Vec::new();
            walk.find(&mut yesterday, &pieces, &mut found);
            assert_eq!(found.len(), window.len());
            all.extend(found.into_iter().map(|place| (place != NEW).then_some(place)));
        }
        for (row, place) in new.iter().zip(&all) {
            assert!(place.is_none_or(|place| old[place as usize] == *row), "what is found is the same");
        }
        all
    }

    fn count(found: &[Option<u64>]) -> usize {
        found.iter().flatten().count()
    }

    #[test]
    fn what_stayed_is_found_whatever_came_went_or_moved() {
        let old: Vec<u64> = (0..20_000).collect();
        assert_eq!(count(&walked(&old, &[], &old)), 20_000);
        assert_eq!(count(&walked(&old, &[], &[])), 0);
        // Rows changed in place, and moved to the end.
        let mut new: Vec<u64> = old.iter().filter(|row| *row % 50 != 7).copied().collect();
        new.extend((0..400).map(|i| 100_000 + i));
        assert_eq!(count(&walked(&old, &[], &new)), 19_600);
        let inplace: Vec<u64> = old.iter().map(|row| if row % 50 == 7 { row + 1_000_000 } else { *row }).collect();
        assert_eq!(count(&walked(&old, &[], &inplace)), 19_600);
        // A long insertion, a long deletion, and blocks that changed places.
        let inserted = [&old[..9000], &(500_000..505_000).collect::<Vec<_>>(), &old[9000..]].concat();
        assert_eq!(count(&walked(&old, &[], &inserted)), 20_000);
        let cut = [&old[..3000], &old[15_000..]].concat();
        assert_eq!(count(&walked(&old, &[], &cut)), 8_000);
        let swapped = [&old[12_000..], &old[6000..12_000], &old[..6000]].concat();
        assert!(count(&walked(&old, &[], &swapped)) > 19_900);
        let backwards: Vec<u64> = old.iter().rev().copied().collect();
        assert!(count(&walked(&old, &[], &backwards)) > 0);
    }

    #[test]
    fn rows_that_are_all_the_same_are_found_one_behind_the_other() {
        let old = vec![5; 9000];
        assert_eq!(count(&walked(&old, &[], &old)), 9000);
        assert!(count(&walked(&old, &[], &[5; 20_000])) >= 9000);
    }

    #[test]
    fn a_block_that_is_gone_costs_what_was_in_it() {
        let old: Vec<u64> = (0..5 * BLOCK_PIECES as u64).collect();
        for gone in 0..5 {
            let found = walked(&old, &[gone], &old);
            let kept = found.iter().flatten().count();
            assert!((3 * BLOCK_PIECES..=4 * BLOCK_PIECES).contains(&kept), "{gone}: {kept}");
        }
        assert_eq!(count(&walked(&old, &[0, 1, 2, 3, 4], &old)), 0);
    }
}
