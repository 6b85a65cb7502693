//! Making the index anew: tables of the cache are compared with the segments that they were made from, and replaced where they
//! say anything else.
//!
//! A table that is as it was written may still have been written wrong. So before anything is blamed on the store because of
//! what a table says, all that came from the cache is compared, once in a run.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt;

use crate::blocking::blocking;
use crate::format::index::PackEntry;
use crate::format::pack::PackKind;
use crate::model::author::Author;
use crate::model::id::{ChunkKey, PackId, SegmentId};
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::shelf::Shelf;
use crate::repository::index::table::{ChunkPlace, PackInfo, Table, write_table};
use crate::repository::index::{Index, IndexError, locations, merge_small, opened_segments};

/// Stands for packs and places of chunks, in whatever order they are added: a table has the sum of its segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    items: u64,
    hashes: u128,
}

impl Sum {
    /// Returns the sum of a segment.
    pub fn of_segment(author: Author, packs: &[PackEntry]) -> Self {
        let mut sum = Self::default();
        for pack in packs {
            sum.add_pack(&pack.info(author));
            locations(author, pack).for_each(|(key, location)| sum.add_chunk(&key, Some(&location)));
        }
        sum
    }

    /// Returns the sum of what a pack says of itself, whoever tells of it, and whatever of its digest and how long it is kept.
    pub fn of_pack_itself(info: &PackInfo, places: impl Iterator<Item = (ChunkKey, ChunkPlace)>) -> Self {
        let mut sum = Self::default();
        sum.add_pack(&PackInfo { digest: [0; 32], locked_until: 0, author: Author::Reader, ..info.clone() });
        places.for_each(|(key, location)| sum.add_chunk(&key, Some(&location.by_anybody())));
        sum
    }

    /// Returns the sum of a table, all of which is read.
    fn of_table(table: &Table) -> Self {
        let mut sum = Self::default();
        table.packs().for_each(|pack| sum.add_pack(&pack));
        table.rows().for_each(|row| sum.add_chunk(&row.key, table.location(&row).as_ref()));
        sum
    }

    fn add_pack(&mut self, pack: &PackInfo) {
        let PackInfo { id, kind, size, frames, commitment, header, digest, locked_until, author } = pack;
        let numbers = [*size, *frames, *locked_until].map(u32::to_le_bytes);
        let (header, author) = (header.to_bytes(), author.to_bytes());
        self.add(&[&of_pack(*id, *kind), numbers.as_flattened(), commitment, &header, digest, &author]);
    }

    /// Adds a chunk; without a place it is one that a table has nowhere.
    fn add_chunk(&mut self, key: &ChunkKey, location: Option<&ChunkPlace>) {
        let Some(location) = location else { return self.add(&[&key.0]) };
        let ChunkPlace { pack, author, kind, frame, frame_offset, sealed_len, plain_len, codec, offset, length } =
            *location;
        let numbers = [frame, frame_offset, sealed_len, plain_len, codec as u32, offset, length].map(u32::to_le_bytes);
        self.add(&[&key.0, &of_pack(pack, kind), &author.to_bytes(), numbers.as_flattened()]);
    }

    fn add(&mut self, parts: &[&[u8]]) {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let hash = hasher.finalize();
        self.items += 1;
        self.hashes =
            self.hashes.wrapping_add(u128::from_le_bytes(hash.as_bytes()[..16].try_into().expect("16 bytes")));
    }
}

fn segments_of(tables: &[Arc<Table>]) -> Vec<SegmentId> {
    tables.iter().flat_map(|table| table.segments().to_vec()).collect()
}

fn of_pack(id: PackId, kind: PackKind) -> [u8; PackId::LEN + 1] {
    let mut bytes = [kind as u8; PackId::LEN + 1];
    bytes[..PackId::LEN].copy_from_slice(&id.0);
    bytes
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |all, one| Self {
            items: all.items + one.items,
            hashes: all.hashes.wrapping_add(one.hashes),
        })
    }
}

/// Tables stay apart as long as this is there, so that one that is being judged is found again.
struct KeptApart<'a>(&'a AtomicBool);

impl Drop for KeptApart<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Index {
    /// Compares what came from the cache with the store, and makes anew what differs. That is done once in a run; whoever
    /// asks again gets the same answer. Returns whether anything differed, so that it is worth looking again.
    ///
    /// Costs fetching the index segments; nothing when all tables were made by this run.
    ///
    /// # Errors
    /// [`IndexError`] when the store fails, or there is no room for tables.
    pub async fn make_anew(&self, repository: &Repository, monitor: &dyn Monitor) -> Result<bool, IndexError> {
        let make = || async {
            let wanted = segments_of(&self.suspects(&self.tables()));
            let mut sums = HashMap::new();
            let mut segments = opened_segments(repository, wanted);
            while let Some((id, opened, _room)) = segments.try_next().await? {
                if let Some(Ok(segment)) = opened {
                    let sum = blocking(move || Sum::of_segment(segment.author(), segment.packs())).await;
                    sums.insert(id, sum);
                }
            }
            self.replace_wrong(repository, &sums, monitor).await
        };
        self.made_anew.get_or_try_init(make).await.copied()
    }

    /// Tells whether tables were wrong and are replaced: what was found to be where they said may not be so.
    pub(crate) fn was_made_anew(&self) -> bool {
        self.made_anew.get().copied().unwrap_or(false)
    }

    /// Does the same with `sums` that the caller has taken of the segments. A table of which not all sums are there stays.
    ///
    /// # Errors
    /// As [`Index::make_anew`].
    pub async fn compare(
        &self,
        repository: &Repository,
        sums: &HashMap<SegmentId, Sum>,
        monitor: &dyn Monitor,
    ) -> Result<bool, IndexError> {
        self.made_anew.get_or_try_init(|| self.replace_wrong(repository, sums, monitor)).await.copied()
    }

    /// Returns the tables that know anything from the cache.
    fn suspects(&self, tables: &[Arc<Table>]) -> Vec<Arc<Table>> {
        let is_cached = |table: &&Arc<Table>| table.segments().iter().any(|id| self.from_cache.contains(id));
        tables.iter().filter(is_cached).cloned().collect()
    }

    async fn replace_wrong(
        &self,
        repository: &Repository,
        sums: &HashMap<SegmentId, Sum>,
        monitor: &dyn Monitor,
    ) -> Result<bool, IndexError> {
        let (suspects, _apart) = {
            let tables = self.tables.write().expect("no panic while held");
            self.kept_apart.store(true, Ordering::Relaxed);
            (self.suspects(&tables), KeptApart(&self.kept_apart))
        };
        let judged = suspects.into_iter().filter_map(|table| {
            let sum: Sum = table.segments().iter().map(|id| sums.get(id).copied()).sum::<Option<Sum>>()?;
            Some((table, sum))
        });
        let judged: Vec<(Arc<Table>, Sum)> = judged.collect();
        let wrong: Vec<Arc<Table>> = blocking(move || {
            judged.into_iter().filter(|(table, sum)| Sum::of_table(table) != *sum).map(|(table, _)| table).collect()
        })
        .await;
        if wrong.is_empty() {
            return Ok(false);
        }
        // They have their files mapped; whatever becomes of this run, the next one does not open them.
        wrong.iter().for_each(|table| Shelf::discard(table));
        let mut made = Vec::new();
        let mut segments = opened_segments(repository, segments_of(&wrong));
        while let Some((id, opened, _room)) = segments.try_next().await? {
            // One that has gone since leaves this run with what it has.
            let Some(Ok(segment)) = opened else { return Ok(false) };
            made.push(self.shelf.put(id, |file| write_table(file, &[id], segment.author(), segment.packs()))?);
            merge_small(&self.shelf, &mut made)?;
        }
        let mut tables = self.tables.write().expect("no panic while held");
        tables.retain(|table| !wrong.iter().any(|wrong| Arc::ptr_eq(table, wrong)));
        tables.append(&mut made);
        merge_small(&self.shelf, &mut tables)?;
        drop(tables);
        let message = "the index kept there was not the repository's, and was made anew from the store";
        monitor.note(Problem::advice(repository.cache().root().display().to_string(), message));
        Ok(true)
    }
}
