//! Writers: hosts that back up with keys of their own and read nothing, and the keyring that says who they are.
//!
//! Whoever changes the keyring publishes the next one. Two who do so at the same time give theirs the same number, of which one
//! counts, and which that is may change while the other has looked already; so every change is looked for afterwards in all keyrings of
//! the highest number, and made again, with the next number, on top of the first that lacks it. Running sessions have taken their keys and are not disturbed.

use crate::blocking::blocking;
use crate::crypto::derive::WriterKey;
use crate::crypto::slot::{SlotLock, seal_slot};
use crate::crypto::{CryptoError, random};
use crate::format::keyring::{Keyring, SlotName, SlotRecord};
use crate::format::slot::{Role, RootKey, Slot};
use crate::format::writer::{WriterName, WriterRecord};
use crate::model::id::{DomainEpoch, SlotId, WriterId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::Timestamp;
use crate::repository::access::AccessError;
use crate::repository::{FormatError, OpenError, Repository};
use crate::store::StoreError;

/// Times that a change of the keyring is made again because somebody else changed it at the same moment.
const ATTEMPTS: usize = 20;

/// Why the keyring could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Only a holder of the reader key changes it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The keyring has no domain of that name.
    #[error("there is no domain {0:?}")]
    NoDomain(String),
    /// The keyring has no such writer.
    #[error("there is no writer {0}")]
    NoWriter(WriterId),
    /// There is no such key slot.
    #[error("there is no key slot {0}")]
    NoSlot(SlotId),
    /// Without this slot nobody could read any more.
    #[error("key slot {0} is the last that opens what is stored; add another one first")]
    LastSlot(SlotId),
    /// A slot could not be sealed.
    #[error("the key slot cannot be sealed")]
    Seal(#[from] CryptoError),
    /// What readers alone may know of a writer cannot be opened.
    #[error("the keyring cannot be used")]
    Invalid(#[from] FormatError),
    /// The newest keyring could not be had.
    #[error("the newest keyring cannot be had")]
    Newest(#[from] OpenError),
    /// The next keyring, or a slot, could not be stored.
    #[error("the keyring could not be stored")]
    Store(#[from] StoreError),
    /// Others changed it again and again.
    #[error("others keep changing the keyring at the same time; try again")]
    Contended,
}

impl Ended for KeyringError {
    fn outcome(&self) -> Outcome {
        match self {
            KeyringError::Access(error) => error.outcome(),
            KeyringError::NoDomain(_) | KeyringError::NoWriter(_) | KeyringError::NoSlot(_) => Outcome::Missing,
            KeyringError::LastSlot(_) => Outcome::Refused,
            KeyringError::Seal(error) => error.outcome(),
            KeyringError::Invalid(error) => error.outcome(),
            KeyringError::Newest(error) => error.outcome(),
            KeyringError::Store(error) => error.outcome(),
            KeyringError::Contended => Outcome::Failed,
        }
    }
}

/// A writer that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWriter {
    /// What people call it, and the hosts that its snapshots may state.
    pub name: WriterName,
    /// Names of the domains that it may write to, in their newest epochs.
    pub domains: Vec<String>,
    /// The writers whose index it relies on, and that rely on its; none but itself without one.
    pub group: Option<u64>,
    /// When it is added.
    pub made: Timestamp,
}

/// Where the slot of a new writer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotPlace {
    /// Into the repository, where its passphrase opens it.
    Repository,
    /// Into a file that is carried to the host; the repository does not have it.
    Elsewhere,
}

/// A writer that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedWriter {
    /// The writer.
    pub id: WriterId,
    /// Its slot, sealed.
    pub slot: Vec<u8>,
    /// The slot's id, where the repository has it.
    pub slot_id: Option<SlotId>,
}

/// A writer of the repository, for whoever may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWriter {
    /// The writer.
    pub id: WriterId,
    /// What people call it, and the hosts that its snapshots may state.
    pub name: WriterName,
    /// What it may write to.
    pub granted: Vec<DomainEpoch>,
    /// Its group.
    pub group: Option<u64>,
    /// Whether it was thrown out.
    pub is_revoked: bool,
}

impl Repository {
    /// Lists the writers as of when the repository was opened.
    ///
    /// # Errors
    /// [`KeyringError::Access`] without the reader key, [`KeyringError::Invalid`] when a name cannot be opened.
    pub fn writers(&self) -> Result<Vec<KnownWriter>, KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let known = |record: &WriterRecord| {
            let (granted, group, is_revoked) = (record.granted().collect(), record.group, record.is_revoked);
            Ok(KnownWriter { id: record.id, name: record.open_name(self.id(), reader)?, granted, group, is_revoked })
        };
        self.keys().writers().iter().map(known).collect()
    }

    /// Adds a writer with a key of its own, which its slot alone holds.
    ///
    /// # Errors
    /// [`KeyringError`]; the keyring is as it was then, and a slot that was stored already is not listed in it.
    pub async fn add_writer(
        &self,
        new: &NewWriter,
        lock: &SlotLock,
        place: SlotPlace,
    ) -> Result<AddedWriter, KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let (id, key) = (WriterId(random()), WriterKey::random());
        let mut record = WriterRecord::new(self.id(), reader, id, &key, &new.name, new.group);
        for domain in &new.domains {
            let newest = self.keys().newest_epoch(domain);
            let (dedup, _) = newest.ok_or_else(|| KeyringError::NoDomain(domain.clone()))?;
            record.grant(self.id(), &key, domain, dedup);
        }
        let content = Slot {
            repository: self.id(),
            root: RootKey::Writer(key),
            verifying_key: self.keys().verifying_key(),
            label: new.name.name.clone(),
            hosts: new.name.hosts.clone(),
        };
        let (lock, content) = (lock.clone(), content.encode());
        let slot = blocking(move || seal_slot(&lock, &content)).await?;
        let mut slot_record = None;
        if place == SlotPlace::Repository {
            let slot_id = SlotId(random());
            self.objects().put_slot(slot_id, slot.clone()).await?;
            let name = SlotName { label: new.name.name.clone(), made: new.made };
            slot_record = Some(SlotRecord::new(self.id(), reader, (slot_id, Role::Writer), &slot, &name));
        }
        self.change_keyring(|keyring| {
            if keyring.writers.iter().all(|writer| writer.id != id) {
                keyring.writers.push(record.clone());
                keyring.slots.extend(slot_record.clone());
            }
            Ok(())
        })
        .await?;
        Ok(AddedWriter { id, slot, slot_id: slot_record.map(|slot| slot.id) })
    }

    /// Throws a writer out: its snapshots count nowhere any more, and its own programs are told so.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn revoke_writer(&self, id: WriterId) -> Result<(), KeyringError> {
        self.change_keyring(|keyring| {
            let writer = keyring.writers.iter_mut().find(|writer| writer.id == id);
            writer.ok_or(KeyringError::NoWriter(id))?.is_revoked = true;
            Ok(())
        })
        .await
    }

    /// Publishes the next keyring, in which `change` was made to the newest; none when that is as it should be already.
    ///
    /// `change` must leave alone a keyring in which it was made: it is asked again about the one that counts afterwards.
    ///
    /// # Errors
    /// What `change` says; otherwise why the keyring can be neither read nor written.
    pub(super) async fn change_keyring(
        &self,
        change: impl Fn(&mut Keyring) -> Result<(), KeyringError>,
    ) -> Result<(), KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let mut has_written = false;
        for _ in 0..ATTEMPTS {
            let newest = self.newest_keyrings().await?;
            let (mut next, mut refused) = (None, None);
            for keyring in newest {
                let mut changed = keyring.clone();
                let done = change(&mut changed);
                match done {
                    Ok(()) if changed == keyring => continue,
                    Ok(()) => next = Some(changed),
                    // What was written is taken back: somebody else's keyring, on top of which it cannot be, stays.
                    Err(error) if has_written => (next, refused) = (Some(keyring), Some(error)),
                    Err(error) => return Err(error),
                }
                break;
            }
            let Some(mut next) = next else { return Ok(()) };
            next.counter += 1;
            self.objects().put_keyring(next.counter, next.encode(reader)).await?;
            if let Some(error) = refused {
                return Err(error);
            }
            has_written = true;
        }
        Err(KeyringError::Contended)
    }
}
