//! Key slots: what a passphrase or recovery identity opens.
//!
//! Whoever can put objects can put slots, so a slot costs no more than is said here before it has opened, and one that opens
//! is believed only as far as it leads where it should ([`Expected`]).

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use zeroize::Zeroizing;

use crate::blocking::blocking;
use crate::crypto::derive::ReaderKey;
use crate::crypto::fingerprint::Fingerprint;
pub use crate::crypto::identity::{Identities, IdentityError, IdentityFile, ProtectedIdentity};
pub use crate::crypto::secret::Passphrase;
use crate::crypto::slot::{MAX_SLOT_LEN, check_recovery_identity, opens_with, resembles_recovery_identity, seal_slot};
pub use crate::crypto::slot::{Opener, SlotLock, new_recovery_identity};
use crate::crypto::{CryptoError, random};
use crate::format::FormatError;
use crate::format::keyring::{SlotName, SlotRecord};
use crate::format::slot::{RootKey, Slot};
use crate::model::id::SlotId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::time::Timestamp;
use crate::repository::OpenError;
use crate::repository::known::{Expected, Pin};
use crate::repository::objects::Objects;
use crate::store::{StoreError, StoreErrorKind};

/// Work that is done for all slots together, in units of scrypt's N: 64 slots of a passphrase, or 1024 for a key of RSA, some sixteen
/// seconds.
pub(crate) const WORK_MAX: u64 = 1 << 23;

/// Slots that are looked at. Each of a hundred hosts and people may have several.
const SLOTS_MAX: usize = 4096;
/// Bytes of slots that are kept until all are known. The shortest are taken first: those of a passphrase or a key have less than 1 KiB.
const BYTES_MAX: usize = 16 << 20;
/// Slots fetched at the same time: every host may have one, and every start needs them.
const FETCHES: usize = 16;

/// A slot that was sealed, and what the keyring says of it.
pub(super) struct NewSlot {
    pub(super) record: SlotRecord,
    pub(super) object: Vec<u8>,
}

impl NewSlot {
    /// Seals a slot, which has a name of its own from now on.
    pub(super) async fn seal(
        reader: &ReaderKey,
        slot: &Slot,
        lock: &SlotLock,
        made: Timestamp,
    ) -> Result<Self, CryptoError> {
        let (lock, content) = (lock.clone(), slot.encode());
        let object = blocking(move || seal_slot(&lock, &content)).await?;
        let (id, name) = (SlotId(random()), SlotName { label: slot.label.clone(), made });
        let record = SlotRecord::new(slot.repository, reader, (id, slot.root.role()), &object, &name);
        Ok(Self { record, object })
    }

    /// Stores it; whoever lists it does so afterwards.
    pub(super) async fn store(&self, objects: &Objects) -> Result<(), StoreError> {
        objects.put_slot(self.record.id, self.object.clone()).await
    }
}

/// A slot that opened.
#[derive(Debug)]
pub(super) struct Unlocked {
    /// The slot's id.
    pub id: SlotId,
    /// What it holds.
    pub slot: Slot,
    /// Slots that opened as well, and lead to other repositories.
    pub elsewhere: Vec<Elsewhere>,
}

/// A slot that opens and leads to another repository than the one that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// The slot.
    pub slot: SlotId,
    /// The fingerprint of where it leads.
    pub fingerprint: Fingerprint,
}

/// Tries a passphrase on every slot, the cheap ones first; or private keys on every slot that is made for some.
pub(super) async fn unlock(objects: &Objects, opener: &Opener, expected: &Expected) -> Result<Unlocked, OpenError> {
    let at = |source| OpenError::Store { location: objects.replicas().location(), source };
    match opener {
        Opener::Passphrase(text) if check_recovery_identity(text.expose()) == Some(false) => {
            return Err(OpenError::MistypedRecovery);
        }
        // Anybody can make a slot for a public key.
        Opener::Identities(_) if expected.expected().is_none() => {
            return Err(OpenError::Unknown { location: objects.replicas().location() });
        }
        _ => {}
    }
    let mut search = Search::new(opener, expected);
    let listed = objects.list(ObjectKind::Key).await.map_err(at)?;
    let listed = listed.iter().filter_map(|object| Some((object.key.slot_id()?, object.size)));
    let (mut small, large): (Vec<_>, Vec<_>) = listed.partition(|(_, size)| *size <= MAX_SLOT_LEN);
    small.sort_by_key(|(_, size)| *size);
    search.untried = small.len() + large.len();
    let (mut slots, mut kept) = (Vec::new(), 0);
    let fetches = stream::iter(small).map(|(id, _)| async move { (id, objects.slot(id).await) });
    let mut fetched = Box::pin(fetches.buffered(FETCHES));
    while slots.len() < SLOTS_MAX
        && kept < BYTES_MAX
        && let Some((id, answer)) = fetched.next().await
    {
        search.untried -= 1;
        match answer {
            Ok(bytes) => {
                kept += bytes.len();
                slots.push((id, bytes));
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) if error.kind.is_damage() => search.fail(id, error.clause()),
            Err(error) => return Err(at(error)),
        }
    }
    slots.sort_by_key(|(_, bytes)| opener.work(bytes));
    for (id, bytes) in &slots {
        search.try_slot(*id, bytes.clone()).await;
        if search.is_settled() {
            return search.end(objects);
        }
    }
    if search.opened.is_empty() {
        // A slot that came wrong once is not damaged, nor is the passphrase wrong: those that come otherwise now are tried.
        for (id, first) in slots {
            for bytes in objects.slot_everywhere(id).await.map_err(at)? {
                if bytes != first {
                    search.try_slot(id, bytes).await;
                }
                if search.is_settled() {
                    return search.end(objects);
                }
            }
        }
    }
    search.end(objects)
}

/// What is known while slots are tried.
struct Search<'a> {
    opener: &'a Opener,
    expected: &'a Expected,
    /// Work done so far.
    spent: u64,
    tried: usize,
    /// Slots that ask for more than may be spent on them.
    untried: usize,
    /// Slots that opened and may be the right ones, with where they lead.
    opened: Vec<(SlotId, Slot, Pin)>,
    elsewhere: Vec<Elsewhere>,
    failed: Option<OpenError>,
}

impl<'a> Search<'a> {
    fn new(opener: &'a Opener, expected: &'a Expected) -> Self {
        let (opened, elsewhere) = (Vec::new(), Vec::new());
        Self { opener, expected, spent: 0, tried: 0, untried: 0, opened, elsewhere, failed: None }
    }

    /// Tells whether no other slot could change the answer. As long as any repository may be meant, all slots must agree.
    fn is_settled(&self) -> bool {
        !self.opened.is_empty() && self.expected.expected().is_some()
    }

    fn fail(&mut self, id: SlotId, why: String) {
        let source = FormatError::Invalid { what: "a key slot", why };
        self.failed = Some(OpenError::Damaged { key: ObjectKey::slot(id), source });
    }

    async fn try_slot(&mut self, id: SlotId, bytes: Bytes) {
        let Some(work) = self.opener.work(&bytes) else {
            // One that something else opens is as it should be.
            if opens_with(&bytes).is_none() {
                self.fail(id, "it is not in the expected form".into());
            }
            return;
        };
        if self.spent.saturating_add(work) > WORK_MAX || bytes.len() as u64 > MAX_SLOT_LEN {
            self.untried += 1;
            return;
        }
        self.spent += work;
        self.tried += 1;
        let opener = self.opener.clone();
        let opened = blocking(move || opener.open(&bytes)).await;
        self.take(id, opened);
    }

    /// Looks at what a slot gave.
    fn take(&mut self, id: SlotId, opened: Result<Option<Zeroizing<Vec<u8>>>, CryptoError>) {
        let content = match opened {
            Ok(Some(content)) => content,
            Ok(None) => return,
            Err(error) => return self.fail(id, error.to_string()),
        };
        match Slot::decode(&content).and_then(|slot| agreeing(slot, self.opener)) {
            Ok((slot, pin)) if self.expected.admits(&pin) => self.opened.push((id, slot, pin)),
            Ok((_, pin)) => self.elsewhere.push(Elsewhere { slot: id, fingerprint: pin.fingerprint() }),
            Err(source) => self.failed = Some(OpenError::Damaged { key: ObjectKey::slot(id), source }),
        }
    }

    fn end(self, objects: &Objects) -> Result<Unlocked, OpenError> {
        let location = || objects.replicas().location();
        let mut fingerprints: Vec<Fingerprint> = self.opened.iter().map(|(_, _, pin)| pin.fingerprint()).collect();
        fingerprints.sort();
        fingerprints.dedup();
        if fingerprints.len() > 1 {
            return Err(OpenError::Disagreeing { location: location(), fingerprints });
        }
        if let Some((id, slot, _)) = self.opened.into_iter().next() {
            return Ok(Unlocked { id, slot, elsewhere: self.elsewhere });
        }
        if let (Some(found), Some(expected)) = (self.elsewhere.first(), self.expected.expected()) {
            let was_given = self.expected.fingerprint.is_some();
            return Err(OpenError::Another { location: location(), expected, found: found.fingerprint, was_given });
        }
        let wrong = match self.opener {
            Opener::Passphrase(text) if resembles_recovery_identity(text.expose()) => OpenError::MistypedRecovery,
            Opener::Passphrase(_) => OpenError::WrongKey { slots: self.tried, untried: self.untried },
            Opener::Identities(_) => OpenError::WrongIdentity { slots: self.tried, untried: self.untried },
        };
        // Rubbish that somebody put there must not hide that the right slot may be among those left alone.
        Err(self.failed.filter(|_| self.untried == 0).unwrap_or(wrong))
    }
}

/// Returns where a slot leads, once its keys were found to belong together. One for a public key must have the reader key, so that only
/// who has that can make one that leads here: a writer's own key belongs to no other, and anybody could put his own in.
fn agreeing(slot: Slot, opener: &Opener) -> Result<(Slot, Pin), FormatError> {
    let pin = Pin { repository: slot.repository, verifying_key: slot.verifying_key };
    let invalid = |why: &str| Err(FormatError::Invalid { what: "a key slot", why: why.into() });
    match (&slot.root, opener) {
        (RootKey::Reader(reader), _) if reader.verifying_key(slot.repository) != slot.verifying_key => {
            invalid("its keys do not belong together")
        }
        (RootKey::Writer(_), Opener::Identities(_)) => {
            invalid("it is for a public key, and has the key of a host that backs up")
        }
        _ => Ok((slot, pin)),
    }
}
