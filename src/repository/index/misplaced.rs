//! Whether the index places chunks where they are, as the packs tell themselves.
//!
//! Places are compared by sums of hashes under a key of this run, so that a pack and all that the index tells of it are compared in the
//! time that it takes to walk through both, whatever anybody has put into them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::model::id::{ChunkKey, PackId};
use crate::repository::index::Index;
use crate::repository::index::own::OwnPack;
use crate::repository::index::table::ChunkPlace;

/// What the index tells of the places in each pack, summed up.
#[derive(Debug)]
pub struct PlaceSums {
    key: RandomState,
    of_packs: HashMap<PackId, PlaceSum>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PlaceSum {
    places: u64,
    hashes: u64,
}

impl PlaceSum {
    fn add(&mut self, hash: u64) {
        self.places += 1;
        self.hashes = self.hashes.wrapping_add(hash);
    }

    /// Tells whether this is what comes of `own` told some number of times, as several segments may.
    fn repeats(self, own: Self) -> bool {
        let times = self.places.checked_div(own.places).unwrap_or(0);
        self == Self { places: own.places * times, hashes: own.hashes.wrapping_mul(times) }
    }
}

impl PlaceSums {
    fn hash(&self, key: &ChunkKey, place: &ChunkPlace) -> u64 {
        self.key.hash_one((key, place.by_anybody()))
    }
}

impl Index {
    /// Sums up where the index places chunks. Reads all tables.
    pub fn place_sums(&self) -> PlaceSums {
        let mut sums = PlaceSums { key: RandomState::new(), of_packs: HashMap::new() };
        for table in self.tables() {
            for (key, place) in table.rows().filter_map(|row| Some((row.key, table.location(&row)?))) {
                let hash = sums.hash(&key, &place);
                sums.of_packs.entry(place.pack).or_default().add(hash);
            }
        }
        sums
    }

    /// Returns where the index places chunks in a pack that are not there, as the pack itself tells. Looks through the whole index
    /// where the `sums` are not what comes of that.
    pub fn misplaced(&self, truth: &OwnPack, sums: &PlaceSums) -> Vec<ChunkPlace> {
        let pack = truth.info().id;
        let mut own = PlaceSum::default();
        truth.places().for_each(|(key, place)| own.add(sums.hash(&key, &place)));
        if sums.of_packs.get(&pack).is_some_and(|told| told.repeats(own)) {
            return Vec::new();
        }
        let mut hashes = Vec::with_capacity(truth.chunk_count());
        hashes.extend(truth.places().map(|(key, place)| sums.hash(&key, &place)));
        hashes.sort_unstable();
        let is_misplaced = |key: &ChunkKey, place: &ChunkPlace| hashes.binary_search(&sums.hash(key, place)).is_err();
        let mut misplaced = Vec::new();
        for table in self.tables().iter().filter(|table| table.authors(pack).next().is_some()) {
            let placed = table.rows().filter_map(|row| Some((row.key, table.location(&row)?)));
            let wrong = placed.filter(|(key, place)| place.pack == pack && is_misplaced(key, place));
            misplaced.extend(wrong.map(|(_, place)| place));
        }
        misplaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_once_or_several_times_is_the_same_and_nothing_else_is() {
        let sum = |hashes: &[u64]| {
            let mut sum = PlaceSum::default();
            hashes.iter().for_each(|hash| sum.add(*hash));
            sum
        };
        let own = sum(&[u64::MAX, 5, 9]);
        assert!(sum(&[9, u64::MAX, 5]).repeats(own));
        assert!(sum(&[9, 5, 9, u64::MAX, 5, u64::MAX]).repeats(own));
        for told in [&[5, 9][..], &[5, 9, 1], &[5, 9, u64::MAX, 5], &[5, 5, 9, 9, u64::MAX, 7]] {
            assert!(!sum(told).repeats(own), "{told:?}");
        }
        assert!(sum(&[]).repeats(sum(&[])) && !sum(&[1]).repeats(sum(&[])));
    }
}
