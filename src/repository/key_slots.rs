//! Key slots that the keyring lists: who opens the repository, and how that is changed.
//!
//! A slot is durable before a keyring lists it, and one that is removed is out of the keyring before its object goes: whatever
//! happens in between, whoever should get in does. Running backups have their keys already and are not disturbed.

use bytes::Bytes;

use crate::crypto::slot::{OpensWith, SlotLock, opens_with};
use crate::format::keyring::{SlotName, SlotRecord};
use crate::format::slot::{Role, Slot};
use crate::model::id::SlotId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::repository::Repository;
use crate::repository::access::AccessError;
use crate::repository::slots::NewSlot;
use crate::repository::writers::KeyringError;
use crate::store::{StoreError, StoreErrorKind};

/// What became of a key slot that the keyring lists, or that it does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// It is what was written.
    Whole,
    /// It is not there.
    Missing,
    /// It is not what was written.
    Changed,
    /// The keyring does not list it: removed, or put there by somebody else.
    Unlisted,
}

/// A key slot, for whoever may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSlot {
    /// The slot.
    pub id: SlotId,
    /// What its key may do; nothing is known of it where the slot is not listed, or a newer program made it.
    pub role: Option<Role>,
    /// What it is for, and since when.
    pub name: SlotName,
    /// What opens it, where it is there.
    pub opens_with: Option<OpensWith>,
    /// What became of it.
    pub state: SlotState,
    /// Whether the repository was opened with it.
    pub is_own: bool,
}

/// A slot that no keyring lists any more.
#[derive(Debug)]
pub struct RemovedSlot {
    /// Why its object is still there, if it is.
    pub left: Option<StoreError>,
}

impl Repository {
    /// Lists the key slots, those that nobody should have put there at the end.
    ///
    /// # Errors
    /// [`KeyringError::Access`] without the reader key; when the slots are out of reach.
    pub async fn key_slots(&self) -> Result<Vec<KnownSlot>, KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let keyring = self.newest_keyring().await?;
        let mut known = Vec::new();
        for record in &keyring.slots {
            let object = self.slot_object(record.id).await?;
            known.push(KnownSlot {
                id: record.id,
                role: Role::from_number(record.role),
                name: record.open_name(self.id(), reader)?,
                opens_with: object.as_deref().and_then(opens_with),
                state: match &object {
                    None => SlotState::Missing,
                    Some(object) if record.is(object) => SlotState::Whole,
                    Some(_) => SlotState::Changed,
                },
                is_own: self.opened_by() == Some(record.id),
            });
        }
        for id in self.names(ObjectKind::Key).await?.ids.iter().filter_map(ObjectKey::slot_id) {
            if known.iter().all(|slot| slot.id != id) {
                let (role, name, opens_with) = (None, SlotName::default(), None);
                let is_own = self.opened_by() == Some(id);
                known.push(KnownSlot { id, role, name, opens_with, state: SlotState::Unlisted, is_own });
            }
        }
        Ok(known)
    }

    async fn slot_object(&self, id: SlotId) -> Result<Option<Bytes>, StoreError> {
        match self.objects().slot(id).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) if error.kind.is_damage() => Ok(Some(Bytes::new())),
            Err(error) => Err(error),
        }
    }

    /// Adds a slot that opens everything.
    ///
    /// # Errors
    /// [`KeyringError`]; a slot that was stored already is not listed then.
    pub async fn add_slot(&self, lock: &SlotLock, name: &SlotName) -> Result<SlotId, KeyringError> {
        let record = self.store_slot(lock, name).await?;
        self.change_keyring(|keyring| {
            list(&mut keyring.slots, &record);
            Ok(())
        })
        .await?;
        Ok(record.id)
    }

    /// Adds a slot that opens everything in place of another, in one step.
    ///
    /// # Errors
    /// [`KeyringError`]; the other slot is as it was then.
    pub async fn replace_slot(
        &self,
        old: SlotId,
        lock: &SlotLock,
        name: &SlotName,
    ) -> Result<(SlotId, RemovedSlot), KeyringError> {
        let record = self.store_slot(lock, name).await?;
        self.change_keyring(|keyring| {
            list(&mut keyring.slots, &record);
            keyring.slots.retain(|slot| slot.id != old);
            Ok(())
        })
        .await?;
        Ok((record.id, self.remove_object(old).await))
    }

    /// Removes a slot, which opens nothing from then on. The keys that it gave stay the same: who had them has them.
    ///
    /// # Errors
    /// [`KeyringError::NoSlot`]; [`KeyringError::LastSlot`] when nobody could read any more.
    pub async fn remove_slot(&self, id: SlotId) -> Result<RemovedSlot, KeyringError> {
        let is_listed = self.newest_keyring().await?.slots.iter().any(|slot| slot.id == id);
        if !is_listed && self.slot_object(id).await?.is_none() {
            return Err(KeyringError::NoSlot(id));
        }
        self.change_keyring(|keyring| {
            keyring.slots.retain(|slot| slot.id != id);
            let has_reader = keyring.slots.iter().any(|slot| slot.role == Role::Reader as u64);
            if has_reader { Ok(()) } else { Err(KeyringError::LastSlot(id)) }
        })
        .await?;
        Ok(self.remove_object(id).await)
    }

    async fn remove_object(&self, id: SlotId) -> RemovedSlot {
        RemovedSlot { left: self.objects().remove_slot(id).await.err() }
    }

    async fn store_slot(&self, lock: &SlotLock, name: &SlotName) -> Result<SlotRecord, KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let slot = NewSlot::seal(reader, &Slot::of_reader(self.id(), reader, &name.label), lock, name.made).await?;
        slot.store(self.objects()).await?;
        Ok(slot.record)
    }
}

/// Lists a slot, once.
fn list(slots: &mut Vec<SlotRecord>, record: &SlotRecord) {
    if slots.iter().all(|slot| slot.id != record.id) {
        slots.push(record.clone());
    }
}
