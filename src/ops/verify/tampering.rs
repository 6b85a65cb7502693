//! What somebody tried to change in a place that keeps versions: nothing is lost by it, and it shows that somebody has a key.

use crate::model::key::{ObjectKey, ObjectKind};
use crate::ops::verify::VerifyReport;
use crate::ops::verify::damage::Damage;
use crate::ops::verify::found::FoundDamage;
use crate::repository::Repository;
use crate::repository::cleanups::Cleanups;

/// Adds what was seen of changes to what was found. What a list of cleaning up names as gone, and a key slot that the keyring does not
/// have, may well have been deleted.
pub(super) fn tell(repository: &Repository, cleanups: &Cleanups, report: &mut VerifyReport, damage: &mut FoundDamage) {
    let seen = repository.tampered();
    let is_slot = |key: &ObjectKey| repository.keys().slots().iter().any(|slot| key.slot_id() == Some(slot.id));
    let is_ours = |key: &ObjectKey| key.is_ours() && (key.kind() != Some(ObjectKind::Key) || is_slot(key));
    for (key, change) in seen.changed.iter().filter(|(key, _)| is_ours(key) && !cleanups.is_gone(key)) {
        damage.add(key, Damage::Tampered(*change));
    }
    if seen.more > 0 {
        report.notes.push(format!("more than {} objects were overwritten or deleted", seen.changed.len()));
    }
    if seen.is_unseen {
        let why = "the bucket keeps versions, which these credentials may not list: what was overwritten or deleted is not seen";
        report.notes.push(why.to_owned());
    }
}
