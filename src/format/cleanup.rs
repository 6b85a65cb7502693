//! Lists of cleaning up: what a reader intends to delete and what it knew then, told before it does, so that no writer relies
//! on it any more and everybody can tell afterwards what was removed from what was lost. What was found damaged is told in the
//! same way, and nothing is deleted because of that.

use minicbor::Decoder;

use crate::format::FormatError;
use crate::format::object::CLEANUP;
use crate::format::wire::{encode_record, read_array, read_bytes, read_items, read_map, write_array};
use crate::model::cleanup::{CleanupList, RemovedSnapshot};
use crate::model::id::{PackId, SessionId};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;

const WHAT: &str = CLEANUP.0.what;

/// Encodes the value that is sealed under the index key.
pub fn encode_cleanup(list: &CleanupList) -> Vec<u8> {
    let packs: Vec<u8> = list.packs.iter().flat_map(|pack| pack.0).collect();
    let given_up: Vec<u8> = list.given_up.iter().flat_map(|session| session.0).collect();
    let digests = |snapshots: &[(SnapshotId, [u8; 32])]| -> Vec<u8> {
        snapshots.iter().flat_map(|(id, digest)| [&id.to_bytes()[..], digest].concat()).collect()
    };
    let (accounted, counting) = (digests(&list.accounted), digests(&list.counting));
    let removed: Vec<u8> = list.removed.iter().flat_map(removed_bytes).collect();
    let some = |bytes: &Vec<u8>| Some(bytes.clone()).filter(|bytes| !bytes.is_empty());
    let gone = Some(&list.gone).filter(|gone| !gone.is_empty());
    encode_record(|r| {
        r.field(0, |e| e.i64(list.made.seconds)).field(1, |e| e.bytes(&packs));
        r.field_if(2, some(&given_up), |e, it| e.bytes(&it)).field_if(3, some(&accounted), |e, it| e.bytes(&it));
        r.field_if(4, gone, |e, gone| write_array(e, gone, |e, name| e.str(name).map(drop)));
        r.field_if(5, list.is_deleting.then_some(1), |e, it| e.u8(it));
        r.field_if(6, list.before, |e, digest| e.bytes(&digest)).field_if(7, list.first, |e, first| e.u64(first));
        r.field_if(8, some(&counting), |e, it| e.bytes(&it));
        r.field_if(9, list.is_of_damage.then_some(1), |e, it| e.u8(it));
        r.field_if(10, some(&removed), |e, it| e.bytes(&it));
        r.field_if(11, list.is_complete.then_some(1), |e, it| e.u8(it));
    })
}

/// Decodes an opened value.
///
/// # Errors
/// [`FormatError`] when it is not a list of cleaning up.
pub fn decode_cleanup(bytes: &[u8]) -> Result<CleanupList, FormatError> {
    let mut list = CleanupList::default();
    read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
        match key {
            0 => list.made = Timestamp::from_seconds(d.i64()?),
            1 => list.packs = read_items(d, PackId)?,
            2 => list.given_up = read_items(d, SessionId)?,
            3 => list.accounted = read_items(d, read_accounted)?,
            4 => list.gone = read_array(d, |d| d.str().map(str::to_owned))?,
            5 => list.is_deleting = d.u64()? == 1,
            6 => list.before = Some(read_bytes(d)?),
            7 => list.first = Some(d.u64()?),
            8 => list.counting = read_items(d, read_accounted)?,
            9 => list.is_of_damage = d.u64()? == 1,
            10 => list.removed = read_items(d, read_removed)?,
            11 => list.is_complete = d.u64()? == 1,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(list)
}

fn read_accounted(item: [u8; 48]) -> (SnapshotId, [u8; 32]) {
    let (id, digest) = item.split_first_chunk().expect("48 bytes");
    (SnapshotId::from_bytes(*id), digest.try_into().expect("32 bytes"))
}

/// Stands where nothing is before a snapshot that was removed.
const NOTHING: [u8; 32] = [0; 32];

pub(super) fn removed_bytes(removed: &RemovedSnapshot) -> Vec<u8> {
    [&removed.id.to_bytes()[..], &removed.digest, &removed.before.unwrap_or(NOTHING)].concat()
}

pub(super) fn read_removed(item: [u8; 80]) -> RemovedSnapshot {
    let (id, digests) = item.split_first_chunk().expect("80 bytes");
    let (digest, before) = digests.split_first_chunk().expect("64 bytes");
    let before = <[u8; 32]>::try_from(before).expect("32 bytes");
    let before = Some(before).filter(|digest| *digest != NOTHING);
    RemovedSnapshot { id: SnapshotId::from_bytes(*id), digest: *digest, before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_round_trips_and_a_cut_id_is_refused() {
        let list = CleanupList {
            made: Timestamp::from_seconds(7),
            packs: vec![PackId([1; 16]), PackId([2; 16])],
            given_up: vec![SessionId([3; 16])],
            accounted: vec![(SnapshotId::new(Timestamp::from_seconds(-1), [4; 8]), [5; 32])],
            gone: vec!["index/0606".into()],
            is_deleting: true,
            before: Some([7; 32]),
            first: Some(8),
            counting: vec![(SnapshotId::new(Timestamp::from_seconds(9), [6; 8]), [9; 32])],
            is_of_damage: false,
            removed: [None, Some([9; 32])]
                .map(|before| RemovedSnapshot {
                    id: SnapshotId::new(Timestamp::from_seconds(2), [1; 8]),
                    digest: [8; 32],
                    before,
                })
                .into(),
            is_complete: true,
        };
        let damaged = CleanupList { is_deleting: false, is_of_damage: true, ..list.clone() };
        for list in [list, damaged, CleanupList::default()] {
            assert_eq!(decode_cleanup(&encode_cleanup(&list)), Ok(list));
        }
        for (key, len) in [(1, 17), (2, 15), (3, 47), (6, 31), (8, 47), (10, 79)] {
            let cut = encode_record(|r| {
                r.field(key, |e| e.bytes(&[1; 80][..len]));
            });
            assert!(decode_cleanup(&cut).is_err(), "{key}");
        }
    }
}
