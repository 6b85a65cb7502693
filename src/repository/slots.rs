//! Key slots: what a passphrase or recovery identity opens.

use bytes::Bytes;

use crate::blocking::blocking;
pub use crate::crypto::secret::Passphrase;
pub use crate::crypto::slot::{SlotLock, new_recovery_identity};
use crate::crypto::slot::{check_recovery_identity, open_slot, resembles_recovery_identity};
use crate::format::FormatError;
use crate::format::slot::Slot;
use crate::model::id::SlotId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::repository::OpenError;
use crate::repository::objects::Objects;
use crate::store::StoreErrorKind;

/// Tries a passphrase on every slot, the cheap ones first.
pub(super) async fn open_any_slot(objects: &Objects, passphrase: &Passphrase) -> Result<Slot, OpenError> {
    let at = |source| OpenError::Store { location: objects.replicas().location(), source };
    let configs = objects.list(ObjectKind::Config).await.map_err(at)?;
    if configs.iter().all(|object| object.key.counter().is_none()) {
        // What `init` leaves when it is cut off has no snapshots.
        let has_snapshots = !objects.list(ObjectKind::Snapshot).await.map_err(at)?.is_empty();
        return Err(if has_snapshots {
            let source = FormatError::Invalid { what: "configuration", why: "there is none".into() };
            OpenError::Damaged { key: ObjectKey::from_listed(ObjectKind::Config.prefix()), source }
        } else {
            OpenError::Missing { location: objects.replicas().location() }
        });
    }
    if check_recovery_identity(passphrase.expose()) == Some(false) {
        return Err(OpenError::MistypedRecovery);
    }
    let ids = objects.slots().await.map_err(at)?.ids;
    let (mut slots, mut failed) = (Vec::new(), None);
    for &id in &ids {
        match objects.slot(id).await {
            Ok(bytes) => slots.push((id, bytes)),
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) if error.kind.is_damage() => {
                let source = FormatError::Invalid { what: "a key slot", why: error.clause() };
                failed = Some(OpenError::Damaged { key: ObjectKey::slot(id), source });
            }
            Err(error) => return Err(at(error)),
        }
    }
    slots.sort_by_key(|(_, bytes)| scrypt_work(bytes));
    for (id, bytes) in &slots {
        match try_slot(passphrase, *id, bytes.clone()).await {
            Ok(Some(slot)) => return Ok(slot),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    // A slot that came wrong once is not damaged, nor is the passphrase wrong: those that come otherwise now are tried.
    let mut damaged = None;
    for (id, first) in slots {
        for bytes in objects.slot_everywhere(id).await.map_err(at)? {
            if bytes == first {
                continue;
            }
            match try_slot(passphrase, id, bytes).await {
                Ok(Some(slot)) => return Ok(slot),
                Ok(None) => {}
                Err(error) => damaged = Some(error),
            }
        }
    }
    let wrong = match resembles_recovery_identity(passphrase.expose()) {
        true => OpenError::MistypedRecovery,
        false => OpenError::WrongKey { slots: ids.len() },
    };
    Err(damaged.or(failed).unwrap_or(wrong))
}

/// Tries a passphrase on one slot; `None` when it is not the slot's.
async fn try_slot(passphrase: &Passphrase, id: SlotId, bytes: Bytes) -> Result<Option<Slot>, OpenError> {
    let passphrase = passphrase.clone();
    let opened = blocking(move || open_slot(&passphrase, &bytes)).await;
    let damaged = |source| OpenError::Damaged { key: ObjectKey::slot(id), source };
    match opened {
        Ok(Some(content)) => Slot::decode(&content).map(Some).map_err(damaged),
        Ok(None) => Ok(None),
        Err(error) => Err(damaged(FormatError::Invalid { what: "a key slot", why: error.to_string() })),
    }
}

/// Reads the work factor from an age file's scrypt stanza, so that cheap slots are tried first.
fn scrypt_work(slot: &[u8]) -> u32 {
    let head = String::from_utf8_lossy(&slot[..slot.len().min(200)]);
    let stanza = head.lines().find_map(|line| line.strip_prefix("-> scrypt "));
    stanza.and_then(|stanza| stanza.split(' ').nth(1)?.parse().ok()).unwrap_or(u32::MAX)
}
