//! Key slots: the signed keyring says which there must be and what their bytes are, so that one which rots is told while
//! another still opens the repository.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::id::SlotId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::ops::verify::damage::Damage;
use crate::ops::verify::foreign::ForeignNames;
use crate::ops::verify::found::FoundDamage;
use crate::ops::verify::{VerifyError, VerifyReport};
use crate::repository::Repository;
use crate::repository::inspect::Inspected;

/// Compares the key slots that are there with those that there must be.
pub(super) async fn check(
    repository: &Arc<Repository>,
    report: &mut VerifyReport,
    damage: &mut FoundDamage,
    foreign: &mut ForeignNames,
) -> Result<(), VerifyError> {
    let listed = repository.names(ObjectKind::Key).await?;
    foreign.add_all(&listed.foreign);
    let mut surplus: BTreeSet<SlotId> = listed.ids.iter().filter_map(ObjectKey::slot_id).collect();
    for slot in repository.keys().slots() {
        surplus.remove(&slot.id);
        let problem = match repository.inspect_slot(slot).await? {
            Inspected::Whole | Inspected::Segment(_) => continue,
            Inspected::Damaged(_) => "is not what was written",
            Inspected::Unreadable(_) => "cannot be read",
            Inspected::Missing => "is missing",
        };
        let problem = format!("{problem}: the passphrase or recovery identity of this key slot opens nothing");
        damage.add(&ObjectKey::slot(slot.id), Damage::Unusable(problem));
    }
    report.notes.extend(surplus.into_iter().map(|id| {
        format!(
            "{} is a key slot that the keyring does not have: removed, or put there by somebody else",
            ObjectKey::slot(id)
        )
    }));
    Ok(())
}
