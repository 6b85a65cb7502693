//! The second step: which packs are due to be read whole, and what it means for the snapshots that one is damaged.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::blocking::blocking;
use crate::model::id::PackId;
use crate::ops::verify::damage::Damage;
use crate::ops::verify::found::FoundDamage;
use crate::ops::verify::vouching::Vouching;
use crate::ops::verify::{ReadData, VerifyError, VerifyOptions, VerifyReport};
use crate::ops::{Cancel, LookError};
use crate::progress::{Counter, Monitor, Totals};
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::ledger::ReadingRecord;
use crate::repository::reader::pack::Checks;
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};
use crate::repository::{Repository, StoreErrorKind};

/// What a verification goes by.
pub(super) struct DataCheck<'a> {
    pub(super) reader: &'a Arc<Reader>,
    /// The repository with all its replicas.
    pub(super) written_to: &'a Arc<Repository>,
    pub(super) options: &'a VerifyOptions,
    /// The lengths that packs are listed with.
    pub(super) sizes: &'a HashMap<PackId, u64>,
    pub(super) monitor: &'a Arc<dyn Monitor>,
    pub(super) cancel: &'a Cancel,
}

/// Reads the packs that are due: in parts those behind `reading`'s cursor. What was read is in `reading`, however it ends.
pub(super) async fn check(
    run: &DataCheck<'_>,
    report: &mut VerifyReport,
    damage: &mut FoundDamage,
    reading: &mut ReadingRecord,
) -> Result<(), VerifyError> {
    let DataCheck { reader, written_to, options, sizes, monitor, cancel } = *run;
    let repository = reader.repository().clone();
    let mut packs = reader.index().packs();
    packs.retain(|pack| !damage.packs.contains(&pack.id));
    packs.sort_by_key(|pack| pack.id);
    let due = choose(packs, options.read_data, reading.cursor);
    report.cycle_completed = due.completes;
    monitor.phase("reading data");
    let bytes = due.packs.iter().map(|pack| u64::from(pack.size)).sum();
    monitor.totals(Totals { packs: Some(due.packs.len() as u64), bytes: Some(bytes), ..Totals::default() });

    let mut vouching = Vouching::of(written_to, options);
    let (index, vouches) = (reader.index().clone(), vouching.is_wanted);
    let (memory_bytes, pack_bytes) = (options.memory_bytes, u64::from(repository.config().pack_target_bytes));
    let checks = blocking(move || Arc::new(Checks::new(&index, memory_bytes, pack_bytes, vouches))).await;
    let mut checked = stream::iter(due.packs)
        .map(|pack| {
            let (reader, checks) = (reader.clone(), checks.clone());
            let size = sizes.get(&pack.id).copied().unwrap_or(u64::from(pack.size));
            async move {
                let answer = reader.check_pack(&checks, &pack, size).await;
                (pack, answer)
            }
        })
        .buffered(checks.at_once());
    let mut with_recipes = Vec::new();
    while let Some((pack, answer)) = checked.next().await {
        if cancel.is_cancelled() {
            return Err(VerifyError::Cancelled);
        }
        match answer {
            Ok(checked) => {
                if checked.unusable.is_empty() {
                    reading.packs.push(pack.id);
                }
                if checked.has_recipes {
                    with_recipes.push(pack.clone());
                }
                damage.add_checked(pack.id, checked.unusable, checked.lied_about);
                vouching.add(checked.read_whole).await;
            }
            Err(error) if !error.kind.is_damage() => return Err(error.into()),
            Err(error) if error.kind == StoreErrorKind::NotFound && was_moved(reader, &pack, monitor).await? => {
                damage.packs.insert(pack.id);
                continue;
            }
            Err(error) => {
                let missing = error.kind == StoreErrorKind::NotFound;
                damage.add_pack(pack.id, if missing { Damage::Missing } else { Damage::Unusable(error.message) });
            }
        }
        report.packs_read += 1;
        report.bytes_read += u64::from(pack.size);
        monitor.add(Counter::Packs, 1);
        if matches!(options.read_data, ReadData::Percent(_) | ReadData::Bytes(_)) {
            reading.cursor = Some(pack.id);
        }
    }
    drop(checked);
    vouching.all().await;
    report.vouched = vouching.vouched;
    check_windows(run, with_recipes, damage, reading).await
}

/// Tells whether no segment names a pack any more that is gone: a clean-up moved what is needed of it meanwhile.
async fn was_moved(reader: &Reader, pack: &PackInfo, monitor: &Arc<dyn Monitor>) -> Result<bool, VerifyError> {
    reader.index().load_again(reader.repository(), &**monitor).await.map_err(LookError::Index)?;
    Ok(!reader.index().names(pack.id))
}

/// Puts together what the recipes in packs make, after the packs, whose memory that needs. Parts of it may lie in packs that are
/// not due.
///
/// A recipe that names what is not there is no damage by itself: a run that was given up stores such. Where a snapshot needs it, walking
/// its tree tells so.
async fn check_windows(
    run: &DataCheck<'_>,
    packs: Vec<PackInfo>,
    damage: &mut FoundDamage,
    reading: &mut ReadingRecord,
) -> Result<(), VerifyError> {
    let DataCheck { reader, monitor, cancel, .. } = *run;
    if !packs.is_empty() {
        monitor.phase("checking recipes");
    }
    for pack in packs {
        let wrong = cancel.or(reader.check_windows(&pack)).await.ok_or(VerifyError::Cancelled)??;
        for (place, error) in wrong {
            if cancel.or(names_nothing(run, place, &error)).await.ok_or(VerifyError::Cancelled)?? {
                continue;
            }
            let finding = damage.add_error(&error);
            if error.root().pack() == Some(pack.id) {
                reading.packs.retain(|read| *read != pack.id);
            }
            // One of which a part is lost is no worse than that part.
            if matches!(error, ReadError::Recipe { .. } | ReadError::WrongRecipe { .. }) {
                damage.unreliable.insert(place.pack);
            }
            damage.windows.insert((place.pack, place.frame, place.offset), finding);
        }
    }
    Ok(())
}

/// Tells whether the recipe at a place, whose window could not be put together because of `error`, names something that is nowhere.
async fn names_nothing(run: &DataCheck<'_>, location: ChunkPlace, error: &ReadError) -> Result<bool, ReadError> {
    let ReadError::Part { window, .. } = error else { return Ok(false) };
    let window = WindowAt { key: *window, id: None, length: None, location };
    match run.reader.resolve(&window, &|place| run.sizes.contains_key(&place.pack)).await {
        Ok(resolved) => Ok(resolved.missing.values().any(|error| matches!(error, ReadError::Unknown { .. }))),
        Err(error) if error.is_damage() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The packs to be read, and whether they bring a cycle to its end.
struct Due {
    packs: Vec<PackInfo>,
    completes: bool,
}

/// Chooses the packs behind `cursor`, in order of their ids and beginning anew at the end. Ids are random, so packs
/// added meanwhile are reached in the same cycle or the next.
fn choose(packs: Vec<PackInfo>, read_data: ReadData, cursor: Option<PackId>) -> Due {
    let total: u64 = packs.iter().map(|pack| u64::from(pack.size)).sum();
    let wanted = match read_data {
        ReadData::No => 0,
        ReadData::All => return Due { packs, completes: true },
        ReadData::Percent(percent) => (total as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as u64,
        ReadData::Bytes(bytes) => bytes,
        ReadData::Share { nth, of } => {
            let share = |pack: &PackInfo| u16::from_be_bytes([pack.id.0[0], pack.id.0[1]]) % of.max(1) + 1;
            let packs = packs.into_iter().filter(|pack| share(pack) == nth).collect();
            return Due { packs, completes: of <= 1 };
        }
    };
    let first = cursor.map_or(0, |cursor| packs.partition_point(|pack| pack.id <= cursor));
    let count = packs.len();
    let mut bytes = 0;
    let mut chosen = Vec::new();
    for step in 0..count {
        if bytes >= wanted {
            break;
        }
        let pack = &packs[(first + step) % count];
        bytes += u64::from(pack.size);
        chosen.push(pack.clone());
    }
    let completes = first + chosen.len() >= count;
    Due { packs: chosen, completes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
    use crate::format::pack::PackKind;

    fn packs(count: u8) -> Vec<PackInfo> {
        let header = Arc::new(SessionHeader::from_bytes(&[0; SESSION_HEADER_LEN]));
        let pack = |i| PackInfo {
            id: PackId([i; 16]),
            kind: PackKind::Data,
            size: 100,
            frames: 1,
            commitment: [0; 32],
            header: header.clone(),
            digest: [0; 32],
            locked_until: 0,
            author: crate::model::author::Author::Reader,
        };
        (0..count).map(pack).collect()
    }

    #[test]
    fn parts_reach_everything_in_turn() {
        let (mut cursor, mut seen, mut runs) = (None, Vec::new(), 0);
        loop {
            let due = choose(packs(10), ReadData::Percent(30.0), cursor);
            assert_eq!(due.packs.len(), 3);
            seen.extend(due.packs.iter().map(|pack| pack.id.0[0]));
            cursor = due.packs.last().map(|pack| pack.id);
            runs += 1;
            if due.completes {
                break;
            }
        }
        assert_eq!(runs, 4);
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    #[test]
    fn a_cursor_whose_pack_is_gone_still_points_somewhere() {
        let due = choose(packs(4), ReadData::Bytes(150), Some(PackId([9; 16])));
        assert_eq!(due.packs.iter().map(|pack| pack.id.0[0]).collect::<Vec<_>>(), [0, 1]);
    }
}
