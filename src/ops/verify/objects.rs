//! The first step: every object is listed, every small one opened, every pack compared with what the index says.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::model::id::SegmentId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::ops::verify::damage::{Damage, Found};
use crate::ops::verify::foreign::Foreign;
use crate::ops::verify::{VerifyError, VerifyReport};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::index::anew::Sum;
use crate::repository::inspect::Inspected;
use crate::repository::objects::ListedPacks;

/// Objects fetched at the same time.
const FETCHES: usize = 8;

/// Lists configurations, keyrings and index segments and opens each of them. Returns the sums of the segments.
pub(super) async fn check(
    repository: &Arc<Repository>,
    report: &mut VerifyReport,
    damage: &mut Found,
    foreign: &mut Foreign,
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

/// Compares the packs that the store lists with those that the index knows.
pub(super) fn compare_packs(
    index: &Index,
    listed: ListedPacks,
    report: &mut VerifyReport,
    damage: &mut Found,
    foreign: &mut Foreign,
) {
    let ListedPacks { mut sizes, foreign: others, .. } = listed;
    foreign.add_all(&others);
    for pack in index.packs() {
        report.packs += 1;
        match sizes.remove(&pack.id) {
            None => {
                damage.packs.insert(pack.id);
                damage.add(&ObjectKey::pack(pack.id), Damage::Missing);
            }
            Some(size) if size != u64::from(pack.size) => {
                damage.packs.insert(pack.id);
                let wanted = u64::from(pack.size);
                damage.add(&ObjectKey::pack(pack.id), Damage::Length { bytes: size, wanted });
            }
            Some(_) => {}
        }
    }
    report.chunks = index.chunk_count() as u64;
    if !sizes.is_empty() {
        let bytes: u64 = sizes.values().sum();
        // What only a damaged segment knows is no rubbish.
        let why = match index.require_all_segments() {
            Ok(()) => "are in no index segment: left by interrupted runs, or their segment is lost",
            Err(_) => "are in no index segment that can be read",
        };
        report.notes.push(format!("{} packs ({}) {why}", sizes.len(), crate::model::units::ByteSize(bytes)));
    }
}
