//! The keys of an open repository: what the slot gave, and what the keyring opens with it.

use std::collections::HashMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::CryptoError;
use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
use crate::crypto::fingerprint::Fingerprint;
use crate::crypto::seal::{Purpose, open_envelope};
use crate::crypto::session::{DomainPublicKey, DomainSecretKey, SessionHeader, SessionSecret};
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::keyring::{Keyring, SlotRecord};
use crate::format::slot::RootKey;
use crate::model::id::{DomainEpoch, RepositoryId};
use crate::model::outcome::{Ended, Outcome};
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
    sessions: Sessions,
}

impl Keys {
    /// Opens every domain that `root` can open.
    pub(crate) fn open(root: RootKey, verifying_key: VerifyingKey, keyring: Keyring) -> Result<Self, FormatError> {
        let repository = keyring.repository;
        let (writer, reader) = match &root {
            RootKey::Reader(reader) => (reader.writer_key(repository), Some(reader)),
            RootKey::Writer(writer) => (writer.clone(), None),
        };
        let mut domains = HashMap::new();
        for record in &keyring.domains {
            let (name, dedup) = record.open_dedup(repository, &writer)?;
            let secret = reader.map(|reader| record.open_secret(repository, reader)).transpose()?;
            let public = record.public_key.clone();
            domains.insert(record.at, DomainKeys { name, public, dedup, secret });
        }
        Ok(Self { root, verifying_key, keyring, domains, sessions: Sessions::default() })
    }

    /// Returns the repository's id.
    pub fn repository(&self) -> RepositoryId {
        self.keyring.repository
    }

    /// Tells whether this key can read what is stored.
    pub fn can_read(&self) -> bool {
        matches!(self.root, RootKey::Reader(_))
    }

    /// Returns the reader key, for making slots and signing.
    pub fn reader_key(&self) -> Option<&ReaderKey> {
        match &self.root {
            RootKey::Reader(reader) => Some(reader),
            RootKey::Writer(_) => None,
        }
    }

    /// Returns the writer key.
    pub fn writer_key(&self) -> WriterKey {
        match &self.root {
            RootKey::Reader(reader) => reader.writer_key(self.repository()),
            RootKey::Writer(writer) => writer.clone(),
        }
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

    /// Returns the dedup secret of a domain's epoch, if the keyring has it.
    pub fn dedup(&self, at: DomainEpoch) -> Option<&DedupSecret> {
        self.domains.get(&at).map(|keys| &keys.dedup)
    }

    /// Opens what a session sealed for every writer, of any domain and epoch in the keyring; `what` names it in errors.
    pub(super) fn open_for_writers(
        &self,
        what: &'static str,
        purpose: Purpose,
        object: &[u8; 16],
        (at, envelope): (DomainEpoch, &[u8]),
    ) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        let invalid = |why: String| FormatError::Invalid { what, why };
        let dedup = self.dedup(at).ok_or_else(|| invalid(SessionKeyError::NoDomain(at).to_string()))?;
        open_envelope(&dedup.index_key(), self.repository(), purpose, object, envelope)
            .map_err(|error| invalid(error.to_string()))
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
