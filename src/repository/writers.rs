//! Writers: hosts that back up with keys of their own and read nothing, and the keyring that says who they are.
//!
//! Whoever changes the keyring publishes the next one. Two who do so at the same time give theirs the same number, of which one
//! counts, and which that is may change while the other has looked already; so every change is looked for afterwards in all keyrings of
//! the highest number, and made again, with the next number, on top of the first that lacks it. Running sessions have taken their keys and are not disturbed.

use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
use crate::crypto::slot::SlotLock;
use crate::crypto::{CryptoError, random};
use crate::format::keyring::Keyring;
use crate::format::slot::{Role, RootKey, Slot};
use crate::format::writer::{WriterName, WriterRecord};
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, SlotId, WriterId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::Timestamp;
use crate::repository::access::AccessError;
use crate::repository::session::SessionError;
use crate::repository::slots::NewSlot;
use crate::repository::snapshots::SnapshotError;
use crate::repository::{FormatError, OpenError, Repository};
use crate::store::StoreError;

/// Times that a change of the keyring is made again because somebody else changed it at the same moment.
pub(super) const ATTEMPTS: usize = 20;

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
    /// Which snapshots a writer made is not known.
    #[error("what the writer backed up cannot be listed")]
    Snapshots(#[from] SnapshotError),
    /// What is told before a writer is thrown out cannot be sealed.
    #[error("the list of the writer's snapshots cannot be sealed")]
    Session(#[from] SessionError),
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
            KeyringError::Snapshots(error) => error.outcome(),
            KeyringError::Session(error) => error.outcome(),
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

    /// Finds the slot that was made for a writer, as far as its name tells, as of when the repository was opened.
    ///
    /// # Errors
    /// As for [`Repository::writers`].
    pub fn slot_of_writer(&self, writer: &KnownWriter) -> Result<Option<SlotId>, KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let mut fitting = None;
        for record in self.keys().slots().iter().filter(|record| record.role == Role::Writer as u64) {
            if record.open_name(self.id(), reader)?.label == writer.name.name {
                if fitting.is_some() {
                    return Ok(None);
                }
                fitting = Some(record.id);
            }
        }
        Ok(fitting)
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
        let record = WriterRecord::new(self.id(), reader, id, &key, &new.name, new.group);
        let slot = Slot {
            repository: self.id(),
            root: RootKey::Writer(key),
            verifying_key: self.keys().verifying_key(),
            label: new.name.name.clone(),
            hosts: new.name.hosts.clone(),
        };
        let slot = NewSlot::seal(reader, &slot, lock, new.made).await?;
        if place == SlotPlace::Repository {
            slot.store(self.objects()).await?;
        }
        let slot_record = (place == SlotPlace::Repository).then_some(&slot.record);
        self.change_keyring(|keyring| {
            if keyring.writers.iter().all(|writer| writer.id != id) {
                let mut record = record.clone();
                for name in &new.domains {
                    let newest = newest_epoch(self.id(), reader, keyring, |(called, _)| called == name)?;
                    let (_, dedup) = newest.ok_or_else(|| KeyringError::NoDomain(name.clone()))?;
                    record.grant(self.id(), reader, name, &dedup)?;
                }
                keyring.writers.push(record);
                keyring.slots.extend(slot_record.cloned());
            }
            Ok(())
        })
        .await?;
        Ok(AddedWriter { id, slot_id: slot_record.map(|slot| slot.id), slot: slot.object })
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

/// Returns the newest epoch of a domain that `wanted` accepts, with the domain's name and the secret.
pub(super) fn newest_epoch(
    repository: RepositoryId,
    reader: &ReaderKey,
    keyring: &Keyring,
    wanted: impl Fn((&str, DomainId)) -> bool,
) -> Result<Option<(String, DedupSecret)>, FormatError> {
    let mut newest: Option<(String, DedupSecret)> = None;
    for record in &keyring.domains {
        let opened = record.open_dedup(repository, reader)?;
        let is_newer = newest.as_ref().is_none_or(|(_, dedup)| dedup.at.epoch < record.at.epoch);
        if is_newer && wanted((&opened.0, record.at.domain)) {
            newest = Some(opened);
        }
    }
    Ok(newest)
}
