//! The first step: every object is listed, every small one opened, every pack compared with what the index says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::model::id::{PackId, SegmentId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::time::Timestamp;
use crate::ops::LookError;
use crate::ops::verify::damage::Damage;
use crate::ops::verify::foreign::ForeignNames;
use crate::ops::verify::found::FoundDamage;
use crate::ops::verify::{VerifyError, VerifyReport};
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::index::anew::Sum;
use crate::repository::index::{Lie, Truth};
use crate::repository::inspect::Inspected;
use crate::repository::objects::ListedPacks;
use crate::repository::reader::Reader;

/// Objects fetched at the same time.
const FETCHES: usize = 8;

/// Lists configurations, keyrings and index segments and opens each of them. Returns the sums of the segments.
pub(super) async fn check(
    repository: &Arc<Repository>,
    report: &mut VerifyReport,
    damage: &mut FoundDamage,
    foreign: &mut ForeignNames,
) -> Result<HashMap<SegmentId, Sum>, VerifyError> {
    let mut sums = HashMap::new();
    for kind in [ObjectKind::Config, ObjectKind::Keyring, ObjectKind::Index] {
        let listed = repository.names(kind).await?;
        foreign.add_all(&listed.foreign);
        let mut answers = stream::iter(listed.ids)
            .map(|key| async move {
                let inspected = repository.inspect(&key).await;
                (key, inspected)
            })
            .buffered(FETCHES);
        while let Some((key, inspected)) = answers.next().await {
            match inspected? {
                Inspected::Segment(sum) => {
                    report.segments += 1;
                    sums.extend(key.segment_id().map(|id| (id, sum)));
                }
                Inspected::Whole | Inspected::Missing => {}
                Inspected::Damaged(problem) | Inspected::Unreadable(problem) => {
                    damage.add(&key, Damage::Unusable(problem));
                }
            }
        }
    }
    Ok(sums)
}

/// Lists the packs for an index. As long as it names one that is not there, it is loaded again: a clean-up beside this run may
/// have moved what the pack held. One that no segment names any more, or that a clean-up deleted, is damage only if something of it is
/// needed.
pub(super) async fn listed_packs(
    index: &mut Index,
    repository: &Repository,
    now: Timestamp,
    monitor: &dyn Monitor,
    damage: &mut FoundDamage,
) -> Result<ListedPacks, VerifyError> {
    let mut missed = HashSet::new();
    loop {
        let listing = index.check_packs(repository, usize::MAX, now, monitor);
        let mut listed = listing.await.map_err(LookError::Index)?;
        if let Some(refused) = listed.refused.take() {
            return Err(refused.into());
        }
        let gone = index.packs().into_iter().map(|pack| pack.id).filter(|pack| !listed.sizes.contains_key(pack));
        let (deleted, gone): (Vec<PackId>, Vec<PackId>) = gone.partition(|pack| listed.deleting.contains(pack));
        let is_news = gone.into_iter().filter(|pack| missed.insert(*pack)).count() > 0;
        if !is_news || !index.load_again(repository, monitor).await.map_err(LookError::Index)? {
            damage.packs.extend(missed.into_iter().filter(|pack| !index.names(*pack)).chain(deleted));
            return Ok(listed);
        }
    }
}

/// Compares the packs that the store lists with those that the index knows. Where segments contradict the listing or one another,
/// the pack itself is asked before it is called damaged.
pub(super) async fn compare_packs(
    reader: &Reader,
    listed: &ListedPacks,
    report: &mut VerifyReport,
    damage: &mut FoundDamage,
    foreign: &mut ForeignNames,
) -> Result<(), VerifyError> {
    let index = reader.index();
    let sizes = &listed.sizes;
    foreign.add_all(&listed.foreign);
    for pack in index.packs() {
        if listed.deleting.contains(&pack.id) && !sizes.contains_key(&pack.id) {
            continue;
        }
        report.packs += 1;
        let Some(&size) = sizes.get(&pack.id) else {
            damage.add_pack(pack.id, Damage::Missing);
            continue;
        };
        let records = index.pack(pack.id);
        if records.len() == 1 && size == u64::from(pack.size) {
            continue;
        }
        match reader.own_record(pack.id).await? {
            Ok(own) => {
                if !records.iter().all(|record| record.agrees(own.info())) {
                    damage.lied_about.insert(pack.id, Truth::of(&own, None));
                }
            }
            Err(_) if records.iter().all(|record| size != u64::from(record.size)) => {
                damage.add_pack(pack.id, Damage::Length { bytes: size, wanted: u64::from(pack.size) });
            }
            Err(why) => damage.add_pack(pack.id, Damage::Unusable(why)),
        }
    }
    report.chunks = index.content(&listed.deleting).0;
    let unknown: Vec<u64> = sizes.iter().filter(|(pack, _)| !index.names(**pack)).map(|(_, size)| *size).collect();
    if !unknown.is_empty() {
        let bytes = unknown.iter().copied().fold(0, u64::saturating_add);
        // What only a damaged segment knows is no rubbish.
        let why = match index.damaged().is_empty() {
            true => "are in no index segment: left by interrupted runs, or their segment is lost",
            false => "are in no index segment that can be read",
        };
        report.notes.push(format!("{} packs ({}) {why}", unknown.len(), crate::model::units::ByteSize(bytes)));
    }
    Ok(())
}

/// Names the segments that tell of packs what these are not.
pub(super) async fn name_liars(reader: &Reader, damage: &mut FoundDamage) -> Result<(), VerifyError> {
    if damage.lied_about.is_empty() {
        return Ok(());
    }
    let liars = reader.index().liars(reader.repository(), &damage.lied_about).await?;
    for ((segment, lie), (packs, pack)) in liars {
        let found = match lie {
            Lie::Content => Damage::Lies { packs, pack },
            Lie::Digest => Damage::Digest { packs, pack },
        };
        damage.add(&ObjectKey::segment(segment), found);
    }
    Ok(())
}
