//! What of the index is needed: two bits for each chunk that a table places, however many chunks there are.
//!
//! A chunk is needed at all its places or at none; which of them stay is for the plan to say. That a chunk was walked, as a node whose
//! children were looked at, is noted apart: a file may have the bytes of a node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::format::pack::PackKind;
use crate::model::author::Author;
use crate::model::id::{ChunkKey, DomainEpoch, PackId};
use crate::repository::index::Index;
use crate::repository::index::table::{ChunkPlace, PackInfo, Table};

/// What is needed of the tables of an index.
#[derive(Debug)]
pub struct Needed(Vec<MarkedTable>);

#[derive(Debug)]
struct MarkedTable {
    table: Arc<Table>,
    needed: RowBits,
    walked: RowBits,
}

/// A bit for each row.
#[derive(Debug)]
struct RowBits(Vec<u64>);

impl RowBits {
    fn none_of(rows: usize) -> Self {
        Self(vec![0; rows.div_ceil(64)])
    }

    fn has(&self, row: usize) -> bool {
        self.0[row / 64] & 1 << (row % 64) != 0
    }

    /// Sets a bit; tells whether it was not set.
    fn set(&mut self, row: usize) -> bool {
        let is_new = !self.has(row);
        self.0[row / 64] |= 1 << (row % 64);
        is_new
    }
}

/// What became known of a chunk that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeededChunk {
    /// No table places it anywhere.
    Unplaced,
    /// It was known to be needed.
    Known,
    /// It was not.
    New {
        /// It is stored as a recipe somewhere.
        has_recipes: bool,
    },
}

/// A pack, and how much of it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The domain and epoch that it is of.
    pub at: DomainEpoch,
    /// What it holds.
    pub kind: PackKind,
    /// Length of the object.
    pub size: u32,
    /// A reader says what is in it, and nobody says otherwise.
    pub is_certain: bool,
    /// Chunks of it that are needed.
    pub needed_chunks: u64,
    /// Their bytes.
    pub needed_bytes: u64,
    /// Bytes of all its chunks.
    pub bytes: u64,
}

impl PackUse {
    /// Takes a pack that no segment names.
    pub fn of_orphan(at: DomainEpoch, kind: PackKind, size: u32) -> Self {
        Self { at, kind, size, is_certain: false, needed_chunks: 0, needed_bytes: 0, bytes: 0 }
    }

    /// Tells whether nothing of it is needed.
    pub fn is_dead(&self) -> bool {
        self.needed_chunks == 0
    }

    /// Returns about how many bytes of the object are there for nothing.
    pub fn unused_bytes(&self) -> u64 {
        let unused = u128::from(self.bytes - self.needed_bytes);
        (u128::from(self.size) * unused).checked_div(u128::from(self.bytes)).unwrap_or(0) as u64
    }

    /// Returns about how many bytes of the object are needed.
    pub fn used_bytes(&self) -> u64 {
        u64::from(self.size) - self.unused_bytes()
    }
}

/// Where a chunk lies, whoever says so, and whether a reader does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldPlace {
    /// The place.
    pub place: ChunkPlace,
    /// Whether a reader says so.
    pub is_vouched_for: bool,
}

/// What segments tell of a pack.
struct ToldPack {
    info: PackInfo,
    is_vouched_for: bool,
    is_contradicted: bool,
}

impl ToldPack {
    fn unused(self) -> PackUse {
        PackUse {
            at: self.info.header.at,
            kind: self.info.kind,
            size: self.info.size,
            is_certain: self.is_vouched_for && !self.is_contradicted,
            needed_chunks: 0,
            needed_bytes: 0,
            bytes: 0,
        }
    }
}

impl Needed {
    /// Begins with nothing, over what an index has now: what is loaded again or added later is not looked at.
    pub fn nothing_of(index: &Index) -> Self {
        let marked = |table: Arc<Table>| {
            let rows = table.chunk_count();
            MarkedTable { table, needed: RowBits::none_of(rows), walked: RowBits::none_of(rows) }
        };
        Self(index.tables().into_iter().map(marked).collect())
    }

    /// Notes that a chunk is needed.
    pub fn need(&mut self, key: &ChunkKey) -> NeededChunk {
        let (mut is_placed, mut is_new, mut has_recipes) = (false, false, false);
        for MarkedTable { table, needed, .. } in &mut self.0 {
            for row in table.rows_of_chunk(key) {
                is_placed = true;
                if needed.set(row) {
                    is_new = true;
                    let place = table.row(row).and_then(|row| table.location(&row));
                    has_recipes |= place.is_some_and(|place| place.codec.holds_recipes());
                }
            }
        }
        match (is_placed, is_new) {
            (false, _) => NeededChunk::Unplaced,
            (true, false) => NeededChunk::Known,
            (true, true) => NeededChunk::New { has_recipes },
        }
    }

    /// Notes that a chunk, which is a node, is walked; tells whether it was not.
    pub fn walk(&mut self, key: &ChunkKey) -> bool {
        let mut is_new = false;
        for MarkedTable { table, walked, .. } in &mut self.0 {
            table.rows_of_chunk(key).for_each(|row| is_new |= walked.set(row));
        }
        is_new
    }

    /// Tells whether a chunk is walked.
    pub fn is_walked(&self, key: &ChunkKey) -> bool {
        self.0.iter().any(|marked| marked.table.rows_of_chunk(key).any(|row| marked.walked.has(row)))
    }

    /// Tells whether a chunk is needed.
    pub fn has(&self, key: &ChunkKey) -> bool {
        self.0.iter().any(|marked| marked.table.rows_of_chunk(key).any(|row| marked.needed.has(row)))
    }

    /// Returns all packs with how much of each is needed, in the domain that it says it is of. Reads all tables; `None` where one is not
    /// as it was written.
    ///
    /// A needed chunk is not needed at those of its places that are `superfluous`, as its key and all its places tell: an answer for each, or
    /// none where it is needed at all of them.
    pub fn packs(
        &self,
        mut superfluous: impl FnMut(&ChunkKey, &[ToldPlace]) -> Vec<bool>,
    ) -> Option<BTreeMap<PackId, PackUse>> {
        let mut told: BTreeMap<PackId, ToldPack> = BTreeMap::new();
        for info in self.0.iter().flat_map(|marked| marked.table.packs()) {
            let is_vouched_for = info.author == Author::Reader;
            match told.get_mut(&info.id) {
                Some(told) => {
                    told.is_vouched_for |= is_vouched_for;
                    told.is_contradicted |= !told.info.agrees(&info);
                }
                None => drop(told.insert(info.id, ToldPack { info, is_vouched_for, is_contradicted: false })),
            }
        }
        let mut packs: BTreeMap<PackId, PackUse> = told.into_iter().map(|(id, told)| (id, told.unused())).collect();
        self.each_chunk(|key, is_needed, places| {
            let superfluous = if is_needed { superfluous(key, places) } else { Vec::new() };
            for (nth, told) in places.iter().enumerate() {
                let Some(pack) = packs.get_mut(&told.place.pack) else { continue };
                let bytes = u64::from(told.place.length);
                pack.bytes += bytes;
                if is_needed && !superfluous.get(nth).copied().unwrap_or(false) {
                    (pack.needed_chunks, pack.needed_bytes) = (pack.needed_chunks + 1, pack.needed_bytes + bytes);
                }
            }
        })?;
        Some(packs)
    }

    /// Shows every chunk once, in the order of their keys: whether it is needed, and all its places, each once. Reads all tables; `None`
    /// where one is not as it was written.
    pub fn each_chunk(&self, mut see: impl FnMut(&ChunkKey, bool, &[ToldPlace])) -> Option<()> {
        let mut next = BinaryHeap::with_capacity(self.0.len());
        for (nth, MarkedTable { table, .. }) in self.0.iter().enumerate().filter(|(_, it)| it.table.chunk_count() > 0) {
            next.push(Reverse((table.row(0)?.key, nth, 0)));
        }
        let (mut is_needed, mut places) = (false, Vec::<ToldPlace>::new());
        while let Some(Reverse((key, nth, number))) = next.pop() {
            let MarkedTable { table, needed, .. } = &self.0[nth];
            let place = table.location(&table.row(number)?)?;
            let told = ToldPlace { place: place.by_anybody(), is_vouched_for: place.author == Author::Reader };
            is_needed |= needed.has(number);
            places.push(told);
            if number + 1 < table.chunk_count() {
                next.push(Reverse((table.row(number + 1)?.key, nth, number + 1)));
            }
            if next.peek().is_none_or(|Reverse((following, ..))| *following != key) {
                keep_each_once(&mut places);
                see(&key, is_needed, &places);
                is_needed = false;
                places.clear();
            }
        }
        Some(())
    }

    /// Returns the first place among those of needed chunks in packs that `concern`, which `is_wrong`, with the chunk. Reads the tables
    /// that name such packs.
    pub fn find(
        &self,
        concern: impl Fn(PackId) -> bool,
        mut is_wrong: impl FnMut(&ChunkKey, &ChunkPlace) -> bool,
    ) -> Option<(ChunkKey, ChunkPlace)> {
        let concerned = self.0.iter().filter(|marked| marked.table.pack_sizes().any(|(pack, _)| concern(pack)));
        for MarkedTable { table, needed, .. } in concerned {
            let rows = (0..table.chunk_count()).filter(|row| needed.has(*row)).filter_map(|row| table.row(row));
            let mut places = rows.filter_map(|row| Some((row.key, table.location(&row)?)));
            let found = places.find(|(key, place)| concern(place.pack) && is_wrong(key, place));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Keeps each place once: a reader says so where one of those who tell of it is a reader. Whoever may write can tell of very many.
fn keep_each_once(places: &mut Vec<ToldPlace>) {
    if places.len() < 2 {
        return;
    }
    places.sort_unstable_by_key(|told| told.place);
    places.dedup_by(|next, kept| {
        let is_same = next.place == kept.place;
        kept.is_vouched_for |= is_same && next.is_vouched_for;
        is_same
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::Codec;

    #[test]
    fn a_place_that_several_tell_of_is_one_and_a_reader_says_so_where_any_of_them_is_one() {
        let told = |pack: u8, offset: u32, is_vouched_for: bool| {
            let place = ChunkPlace {
                pack: PackId([pack; 16]),
                author: Author::Reader,
                kind: PackKind::Data,
                frame: 0,
                frame_offset: 0,
                sealed_len: 100,
                plain_len: 100,
                codec: Codec::Zstd,
                offset,
                length: 10,
            };
            ToldPlace { place, is_vouched_for }
        };
        for (places, expected) in [
            (vec![], vec![]),
            (vec![told(1, 0, false)], vec![told(1, 0, false)]),
            (vec![told(1, 0, false), told(1, 0, true), told(1, 0, false)], vec![told(1, 0, true)]),
            (
                vec![told(2, 0, true), told(1, 5, false), told(1, 0, false), told(1, 5, false)],
                vec![told(1, 0, false), told(1, 5, false), told(2, 0, true)],
            ),
        ] {
            let mut kept = places;
            keep_each_once(&mut kept);
            assert_eq!(kept, expected);
        }
    }
}
