//! Key slots: the signed keyring says which there must be and what their bytes are, so that one which rots is told while
//! another still opens the repository.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::id::SlotId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::ops::verify::foreign::Foreign;
use crate::ops::verify::{Damage, VerifyError, VerifyReport};
use crate::repository::Repository;
use crate::repository::sound::get_sound;
use crate::store::StoreErrorKind;

/// Compares the key slots that are there with those that there must be.
pub(super) async fn check(
    repository: &Arc<Repository>,
    report: &mut VerifyReport,
    damage: &mut Damage,
    foreign: &mut Foreign,
) -> Result<(), VerifyError> {
    let listed = foreign.leave_out(repository.store().list(ObjectKind::Key.prefix()).await?);
    let mut surplus: BTreeSet<SlotId> = listed.iter().filter_map(|object| object.key.slot_id()).collect();
    for slot in repository.keys().slots() {
        surplus.remove(&slot.id);
        let key = ObjectKey::slot(slot.id);
        let compare = |bytes: &Bytes| if slot.is(bytes) { Ok(()) } else { Err(()) };
        match get_sound(&**repository.store(), &key, compare).await {
            Ok(Ok(())) => {}
            Ok(Err(())) => {
                let problem =
                    "is not what was written: the passphrase or recovery identity of this key slot opens nothing";
                damage.add(&key, problem);
            }
            Err(error) if error.kind.is_damage() => {
                let problem = match error.kind {
                    StoreErrorKind::NotFound => {
                        "is missing: the passphrase or recovery identity of this key slot opens nothing"
                    }
                    _ => "cannot be read: the passphrase or recovery identity of this key slot opens nothing",
                };
                damage.add(&key, problem);
            }
            Err(error) => return Err(error.into()),
        }
    }
    report.notes.extend(surplus.into_iter().map(|id| {
        format!(
            "{} is a key slot that the keyring does not have: removed, or put there by somebody else",
            ObjectKey::slot(id)
        )
    }));
    Ok(())
}
