//! The first step: every object is listed, every small one opened, every pack compared with what the index says.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use crate::format::config::Config;
use crate::format::keyring::Keyring;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::ops::verify::foreign::Foreign;
use crate::ops::verify::{Damage, VerifyError, VerifyReport};
use crate::repository::Repository;
use crate::repository::index::presence::ListedPacks;
use crate::repository::index::{Index, open_segment};
use crate::repository::sound::get_sound;
use crate::store::StoreErrorKind;

/// Objects fetched at the same time.
const FETCHES: usize = 8;

/// Lists configurations, keyrings and index segments and opens each of them.
pub(super) async fn check(
    repository: &Arc<Repository>,
    report: &mut VerifyReport,
    damage: &mut Damage,
    foreign: &mut Foreign,
) -> Result<(), VerifyError> {
    for kind in [ObjectKind::Config, ObjectKind::Keyring, ObjectKind::Index] {
        let listed = foreign.leave_out(repository.store().list(kind.prefix()).await?);
        let mut answers = stream::iter(listed)
            .map(|object| async move {
                let check = |bytes: &Bytes| open(repository, &object.key, bytes);
                let checked = get_sound(&**repository.store(), &object.key, check).await;
                (object.key, checked)
            })
            .buffered(FETCHES);
        while let Some((key, checked)) = answers.next().await {
            let checked = match checked {
                Ok(checked) => checked,
                Err(error) if error.kind == StoreErrorKind::NotFound => continue,
                Err(error) if error.kind.is_damage() => Err(error.message),
                Err(error) => return Err(error.into()),
            };
            match checked {
                Ok(()) if kind == ObjectKind::Index => report.segments += 1,
                Ok(()) => {}
                Err(problem) => {
                    damage.add(&key, problem);
                }
            }
        }
    }
    Ok(())
}

/// Opens an object, and says what is wrong with it.
fn open(repository: &Repository, key: &ObjectKey, bytes: &[u8]) -> Result<(), String> {
    let verifying_key = repository.keys().verifying_key();
    let opened = match (key.kind(), key.segment_id()) {
        (Some(ObjectKind::Config), _) => Config::decode(bytes, repository.id(), &verifying_key).map(drop),
        (Some(ObjectKind::Keyring), _) => Keyring::decode(bytes, repository.id(), &verifying_key).map(drop),
        (_, Some(id)) => open_segment(repository, id, bytes).map(drop),
        (_, None) => Ok(()),
    };
    opened.map_err(|error| error.to_string())
}

/// Compares the packs that the store lists with those that the index knows.
pub(super) fn compare_packs(
    index: &Index,
    listed: ListedPacks,
    report: &mut VerifyReport,
    damage: &mut Damage,
    foreign: &mut Foreign,
) {
    let ListedPacks { mut sizes, foreign: others, .. } = listed;
    others.iter().for_each(|key| foreign.add(key));
    for pack in index.packs() {
        report.packs += 1;
        match sizes.remove(&pack.id) {
            None => {
                damage.packs.insert(pack.id);
                damage.add(&ObjectKey::pack(pack.id), "is missing");
            }
            Some(size) if size != u64::from(pack.size) => {
                damage.packs.insert(pack.id);
                let problem = format!("has {size} bytes instead of {}", pack.size);
                damage.add(&ObjectKey::pack(pack.id), problem);
            }
            Some(_) => {}
        }
    }
    report.chunks = index.chunk_count() as u64;
    if !sizes.is_empty() {
        let bytes: u64 = sizes.values().sum();
        report.notes.push(format!(
            "{} packs ({}) are in no index segment: left by interrupted runs, or their segment is lost",
            sizes.len(),
            crate::model::units::ByteSize(bytes)
        ));
    }
}
