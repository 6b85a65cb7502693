//! The keys of an open repository: what the slot gave, and what the keyring opens with it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::crypto::CryptoError;
use crate::crypto::author::Signer;
use crate::crypto::derive::{DedupSecret, ReaderKey};
use crate::crypto::fingerprint::Fingerprint;
use crate::crypto::secret::Secret;
use crate::crypto::session::{DomainPublicKey, DomainSecretKey, SessionHeader, SessionSecret};
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::keyring::{DomainRecord, Keyring, SlotRecord};
use crate::format::object::{Authored, Authors, DomainForm, SealedAt};
use crate::format::slot::{RootKey, Slot};
use crate::format::writer::{WriterName, WriterRecord};
use crate::model::author::Author;
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, WriterId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{Foreign, Snapshot};
use crate::repository::access::AccessError;
use crate::repository::sessions::Sessions;

/// Why a session's secret cannot be recovered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionKeyError {
    /// The key at hand does not open it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The keyring has no such domain (any more): its data was erased.
    #[error("the key of {0} is not in the keyring")]
    NoDomain(DomainEpoch),
    /// The header was changed or made up.
    #[error("the session header is not valid: {0}")]
    Invalid(#[from] CryptoError),
}

impl Ended for SessionKeyError {
    fn outcome(&self) -> Outcome {
        match self {
            SessionKeyError::Access(error) => error.outcome(),
            SessionKeyError::NoDomain(_) | SessionKeyError::Invalid(_) => Outcome::Damaged,
        }
    }
}

/// One domain's keys as this client holds them.
#[derive(Debug)]
struct DomainKeys {
    name: String,
    public: DomainPublicKey,
    dedup: DedupSecret,
    /// Present for readers.
    secret: Option<DomainSecretKey>,
}

/// All keys of an open repository.
#[derive(Debug)]
pub struct Keys {
    root: RootKey,
    verifying_key: VerifyingKey,
    keyring: Keyring,
    domains: HashMap<DomainEpoch, DomainKeys>,
    /// The hosts that a writer's own slot lets it state; any when there are none.
    hosts: Vec<String>,
    /// Names of writers and the hosts that they may state; for readers.
    names: HashMap<WriterId, WriterName>,
    /// Signs what is written with this key; a writer whom the keyring does not have has none.
    signer: Option<Signer>,
    sessions: Sessions,
}

impl Authors for Keys {
    /// Those who were thrown out have theirs as well.
    fn key_of(&self, author: Author) -> Option<VerifyingKey> {
        match author {
            Author::Reader => Some(self.verifying_key),
            Author::Writer(_) => self.writer(author).map(|writer| writer.verifying_key),
        }
    }
}

impl Keys {
    /// Opens every domain that the key of `slot` can open.
    pub(crate) fn open(slot: Slot, keyring: Keyring) -> Result<Self, FormatError> {
        let repository = keyring.repository;
        let Slot { root, verifying_key, hosts, .. } = slot;
        let (mut domains, mut names) = (HashMap::new(), HashMap::new());
        let mut opened = |record: &DomainRecord, (name, dedup), secret| {
            domains.insert(record.at, DomainKeys { name, public: record.public_key.clone(), dedup, secret });
        };
        let signer = match &root {
            RootKey::Reader(reader) => {
                for record in &keyring.domains {
                    let secret = record.open_secret(repository, reader)?;
                    opened(record, record.open_dedup(repository, reader)?, Some(secret));
                }
                for writer in &keyring.writers {
                    names.insert(writer.id, writer.open_name(repository, reader)?);
                }
                Some(Signer::reader(reader, repository))
            }
            RootKey::Writer(writer) => {
                let own = writer_of(&keyring, writer.verifying_key(repository));
                let dedups = own.map(|own| own.open_dedups(repository, writer)).transpose()?.unwrap_or_default();
                for named in dedups {
                    if let Some(record) = keyring.domains.iter().find(|record| record.at == named.1.at) {
                        opened(record, named, None);
                    }
                }
                own.map(|own| Signer::writer(own.id, writer, repository))
            }
        };
        Ok(Self { root, verifying_key, keyring, domains, hosts, names, signer, sessions: Sessions::default() })
    }

    /// Returns the same key with what another keyring opens for it.
    pub(super) fn with(&self, keyring: Keyring) -> Result<Self, FormatError> {
        let (repository, root, verifying_key) = (self.repository(), self.root.clone(), self.verifying_key);
        Self::open(Slot { repository, root, verifying_key, label: String::new(), hosts: self.hosts.clone() }, keyring)
    }

    /// Tells whether these keys are of a keyring.
    pub(super) fn is_of(&self, keyring: &Keyring) -> bool {
        self.keyring == *keyring
    }

    /// Tells whether what is of a domain's epoch is nothing to this key: it was erased, or this writer was not let into it.
    pub(super) fn is_not_for_us(&self, at: DomainEpoch) -> bool {
        self.is_erased(at) || self.is_closed(at)
    }

    /// Tells whether a domain's epoch is there and not for this key: a writer was not let into it.
    fn is_closed(&self, at: DomainEpoch) -> bool {
        !self.can_read() && self.dedup(at).is_none() && self.keyring.domains.iter().any(|record| record.at == at)
    }

    /// Tells whether an epoch may have begun after the keyring was read: it is behind all others of a domain that there is.
    pub(super) fn is_ahead(&self, at: DomainEpoch) -> bool {
        let epochs = self.keyring.domains.iter().filter(|record| record.at.domain == at.domain);
        epochs.map(|record| record.at.epoch).max().is_some_and(|newest| newest < at.epoch)
    }

    /// Tells whether the keys of a domain's epoch were destroyed, and its data with them.
    pub fn is_erased(&self, at: DomainEpoch) -> bool {
        self.keyring.erased.iter().any(|erased| erased.at == at)
    }

    /// Returns the repository's id.
    pub fn repository(&self) -> RepositoryId {
        self.keyring.repository
    }

    /// Tells whether this key can read what is stored.
    pub fn can_read(&self) -> bool {
        matches!(self.root, RootKey::Reader(_))
    }

    /// Returns the reader key, for making slots, signing, and opening what readers alone may know.
    pub fn reader_key(&self) -> Option<&ReaderKey> {
        match &self.root {
            RootKey::Reader(reader) => Some(reader),
            RootKey::Writer(_) => None,
        }
    }

    /// Tells whether what this key writes counts: it is a reader's, or that of a writer who was not thrown out.
    ///
    /// # Errors
    /// [`AccessError::NotAWriter`] or [`AccessError::Revoked`].
    pub(super) fn may_write(&self) -> Result<(), AccessError> {
        let RootKey::Writer(writer) = &self.root else { return Ok(()) };
        match writer_of(&self.keyring, writer.verifying_key(self.repository())) {
            None => Err(AccessError::NotAWriter),
            Some(own) if own.is_revoked => Err(AccessError::Revoked { writer: own.id.to_string() }),
            Some(_) => Ok(()),
        }
    }

    /// Returns the key of codes by which this client believes its cache; for readers.
    pub(super) fn verdict_key(&self) -> Option<Secret> {
        self.reader_key().map(|reader| reader.verdict_key(self.repository()))
    }

    /// Returns the key under which this host seals what one night leaves for the next in its cache.
    pub(super) fn nights_key(&self) -> Secret {
        match &self.root {
            RootKey::Reader(reader) => reader.nights_key(self.repository()),
            RootKey::Writer(writer) => writer.nights_key(self.repository()),
        }
    }

    /// Returns what signs all that is written with this key; a writer whom the keyring does not have signs nothing.
    pub(super) fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// Returns those whose word on what is stored is taken for what is written with this key: readers, itself, and the other
    /// writers of its group.
    pub(super) fn trusted(&self) -> BTreeSet<Author> {
        let mut trusted: BTreeSet<Author> = [Author::Reader].into();
        let own = self.signer().and_then(|signer| self.writer(signer.author()));
        trusted.extend(own.map(|own| Author::Writer(own.id)));
        if let Some(group) = own.and_then(|own| own.group) {
            let others = self.keyring.writers.iter().filter(|it| it.group == Some(group) && !it.is_revoked);
            trusted.extend(others.map(|it| Author::Writer(it.id)));
        }
        trusted
    }

    /// Tells why a snapshot does not count, `None` where it does. One whose author was thrown out may count all the same, if a list says
    /// so that [`Keys::counting`] names.
    pub(super) fn foreign(&self, snapshot: &Snapshot) -> Option<Foreign> {
        self.foreign_at(snapshot.author, snapshot.at, &snapshot.host)
    }

    /// Tells the same of what an author says about a host, in a domain and epoch.
    pub(super) fn foreign_at(&self, author: Author, at: DomainEpoch, host: &str) -> Option<Foreign> {
        let writer = self.writer(author)?;
        let may_state = |host: &str| self.names.get(&writer.id).is_some_and(|name| name.may_state(host));
        if !writer.may_write(at) {
            Some(Foreign::OtherDomain)
        } else if !may_state(host) {
            Some(Foreign::OtherHost)
        } else {
            writer.is_revoked.then_some(Foreign::Revoked)
        }
    }

    /// Returns the digests of the lists that say which snapshots of a writer count although it was thrown out.
    pub(super) fn counting(&self, author: Author) -> &[[u8; 32]] {
        self.writer(author).map_or(&[], |writer| &writer.counting)
    }

    fn writer(&self, author: Author) -> Option<&WriterRecord> {
        match author {
            Author::Reader => None,
            Author::Writer(id) => self.keyring.writers.iter().find(|writer| writer.id == id),
        }
    }

    /// Returns the hosts that snapshots written with this key may state; any when there are none.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Returns the writers of the repository, thrown out ones among them.
    pub fn writers(&self) -> &[WriterRecord] {
        &self.keyring.writers
    }

    /// Returns the key that checks the repository's signatures.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying_key
    }

    /// Returns the repository's fingerprint, which people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.repository(), &self.verifying_key)
    }

    /// Returns the key slots that there must be.
    pub fn slots(&self) -> &[SlotRecord] {
        &self.keyring.slots
    }

    /// Returns the newest epoch of the domain called `name`, which new sessions write to, with the public key to which they
    /// are sealed.
    pub(super) fn newest_epoch(&self, name: &str) -> Option<(&DedupSecret, &DomainPublicKey)> {
        let named = self.domains.values().filter(|keys| keys.name == name);
        named.max_by_key(|keys| keys.dedup.at.epoch).map(|keys| (&keys.dedup, &keys.public))
    }

    /// Returns the keys of a domain's epoch that a session is sealed with, if the keyring has it.
    pub(super) fn epoch(&self, at: DomainEpoch) -> Option<(&DedupSecret, &DomainPublicKey)> {
        self.domains.get(&at).map(|keys| (&keys.dedup, &keys.public))
    }

    /// Returns the name of a domain.
    pub(super) fn name_of(&self, domain: DomainId) -> Option<&str> {
        self.domains.iter().find(|(at, _)| at.domain == domain).map(|(_, keys)| &*keys.name)
    }

    /// Returns the dedup secret of a domain's epoch, if the keyring has it.
    pub fn dedup(&self, at: DomainEpoch) -> Option<&DedupSecret> {
        self.domains.get(&at).map(|keys| &keys.dedup)
    }

    /// Opens what a session sealed for everybody who writes to a domain's epoch, of any that this key has.
    pub(super) fn open_for_writers(
        &self,
        form: DomainForm,
        name: &[u8; 16],
        object: &[u8],
    ) -> Result<Authored, FormatError> {
        let (at, _) = form.split(object)?;
        let missing = || FormatError::Invalid { what: form.what(), why: SessionKeyError::NoDomain(at).to_string() };
        let root = self.dedup(at).ok_or_else(missing)?.index_key();
        form.open(object, &SealedAt { repository: self.repository(), object: name, root: &root }, self)
    }

    /// Recovers a session's secret; remembers it, since every pack of the session asks for it.
    ///
    /// # Errors
    /// [`SessionKeyError`] tells whether the key at hand, the keyring or the header is the reason.
    pub fn session_secret(&self, header: &SessionHeader) -> Result<Arc<SessionSecret>, SessionKeyError> {
        if let Some(secret) = self.sessions.get(header) {
            return Ok(secret);
        }
        let keys = self.domains.get(&header.at).ok_or(SessionKeyError::NoDomain(header.at))?;
        let private = keys.secret.as_ref().ok_or(AccessError::WriterOnly)?;
        let secret = Arc::new(header.open(self.repository(), private, &keys.dedup)?);
        self.sessions.remember(header, secret.clone());
        Ok(secret)
    }
}

/// Returns the writer whose signatures `key` checks.
fn writer_of(keyring: &Keyring, key: VerifyingKey) -> Option<&WriterRecord> {
    keyring.writers.iter().find(|writer| writer.verifying_key == key)
}
