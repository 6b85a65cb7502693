//! The repository: what the objects of a store mean together.
//!
//! [`Repository::open`] needs a replica or several ([`replicas`]), what opens a key slot, and directories for a cache
//! and for what must not be lost with it. From there a
//! [`writer`] stores chunks and trees and commits a snapshot, a [`reader`] finds and opens them again. Whatever is stored
//! passes one door, [`objects`]. Order is kept by types: only [`packer`] makes a `PackImage`, only a durable put an
//! `UploadedPack`, and an index segment is made from those alone.
//!
//! The errors of what lies below are part of the errors here, and are named here for whoever looks into them.

use std::sync::Arc;

pub use crate::crypto::CryptoError;
pub use crate::crypto::fingerprint::Fingerprint;
pub use crate::format::FormatError;
use crate::format::config::Config;
use crate::model::id::{RepositoryId, SlotId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::repository::cache::Cache;
use crate::repository::cleanups::Cleanups;
pub use crate::repository::init::InitOptions;
use crate::repository::keys::Keys;
use crate::repository::known::Pin;
use crate::repository::objects::Objects;
pub use crate::repository::open::Opened;
use crate::repository::retention::Retention;
use crate::repository::state::LocalState;
pub use crate::store::tampering::{Tampered, Tampering};
pub use crate::store::{StoreError, StoreErrorKind};

pub mod access;
pub mod cache;
pub mod choose;
pub mod claims;
pub mod cleanups;
pub mod damaged;
pub mod deleting;
pub mod expired;
pub mod frame;
pub mod index;
mod init;
pub mod inspect;
pub mod key_slots;
pub mod keys;
pub mod known;
pub mod lease;
pub mod ledger;
pub mod leftovers;
pub mod newest_first;
pub mod nights;
pub mod objects;
mod open;
pub mod packer;
pub mod places;
pub mod reader;
pub mod recheck;
pub mod removing;
pub mod replicas;
pub mod retention;
pub mod revoking;
pub mod rewriting;
pub mod running;
pub mod runs;
pub mod sequences;
pub mod session;
mod sessions;
pub mod slots;
mod snapshot_cache;
pub mod snapshots;
mod sound;
pub mod state;
pub mod tree;
pub mod trial;
pub mod uploader;
mod verdict;
pub mod vouching;
pub mod writer;
pub mod writers;

/// The domain that is used unless another is configured.
pub const MAIN_DOMAIN: &str = "main";

/// Why a repository could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no repository at this place.
    #[error("there is no repository at {location}")]
    Missing {
        /// Where it was looked for.
        location: String,
    },
    /// `init` was asked to make one where one is.
    #[error("there is a repository at {location} already")]
    Exists {
        /// Where it is.
        location: String,
    },
    /// No key slot opens with what was given.
    #[error("none of the {slots} key slots opens with this passphrase{}", more_untried(*untried))]
    WrongKey {
        /// Number of slots tried.
        slots: usize,
        /// Number of slots that ask for more work or room than is spent on them.
        untried: usize,
    },
    /// No key slot was made for the private key.
    #[error("none of the {slots} key slots for private keys opens with this one{}", more_untried(*untried))]
    WrongIdentity {
        /// Number of slots tried.
        slots: usize,
        /// Number of slots that ask for more work or room than is spent on them.
        untried: usize,
    },
    /// A private key opens slots that anybody can make, and nobody said which repository is meant.
    #[error(
        "a private key opens only a repository whose fingerprint is known, and nothing is known of the one at {location}"
    )]
    Unknown {
        /// Where it is.
        location: String,
    },
    /// The passphrase opens another repository than the one that was expected here.
    #[error(
        "the repository at {location} is not {}: its fingerprint is {found}, not {expected}",
        if *was_given { "the one that was asked for" } else { "the one that was there before" }
    )]
    Another {
        /// Where it is.
        location: String,
        /// The fingerprint of the one that was expected.
        expected: Fingerprint,
        /// The fingerprint of the one that opens.
        found: Fingerprint,
        /// Whether it was expected because its fingerprint was given, and not because it was there before.
        was_given: bool,
    },
    /// Several key slots open, and lead to different repositories.
    #[error("this passphrase opens {} repositories at {location}, with the fingerprints {}", fingerprints.len(), listed(fingerprints))]
    Disagreeing {
        /// Where they are.
        location: String,
        /// Their fingerprints.
        fingerprints: Vec<Fingerprint>,
    },
    /// A recovery identity's check digits do not fit.
    #[error("the recovery identity is mistyped: its check digits do not fit")]
    MistypedRecovery,
    /// An object that every operation needs is damaged.
    #[error("{key} cannot be used")]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// The provider shows an older state than this machine has seen.
    #[error("{what} {found} is older than {seen}, which this machine has seen: the store was rolled back")]
    RolledBack {
        /// `keyring` or `configuration`.
        what: &'static str,
        /// Counter found.
        found: u64,
        /// Counter remembered.
        seen: u64,
    },
    /// A key could not be used.
    #[error("the keys cannot be used")]
    Crypto(#[from] CryptoError),
    /// The store failed.
    #[error("the repository at {location} cannot be {}", if source.kind.is_outage() { "reached" } else { "opened" })]
    Store {
        /// Where it is.
        location: String,
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl Ended for OpenError {
    fn outcome(&self) -> Outcome {
        match self {
            OpenError::Missing { .. } => Outcome::NoRepository,
            OpenError::Exists { .. } => Outcome::Refused,
            OpenError::WrongKey { .. }
            | OpenError::WrongIdentity { .. }
            | OpenError::MistypedRecovery
            | OpenError::Unknown { .. }
            | OpenError::Another { .. }
            | OpenError::Disagreeing { .. } => Outcome::WrongKey,
            OpenError::Damaged { .. } | OpenError::RolledBack { .. } => Outcome::Damaged,
            OpenError::Crypto(error) => error.outcome(),
            OpenError::Store { source, .. } => source.outcome(),
        }
    }
}

/// Says how many slots were left alone, where there are any.
fn more_untried(slots: usize) -> String {
    match slots {
        0 => String::new(),
        1 => "; 1 more was not tried, because it asks for too much".to_owned(),
        slots => format!("; {slots} more were not tried, because they ask for too much"),
    }
}

fn listed(fingerprints: &[Fingerprint]) -> String {
    fingerprints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    objects: Objects,
    config: Arc<Config>,
    keys: Arc<Keys>,
    cache: Cache,
    state: LocalState,
    opened_by: Option<SlotId>,
    /// What cleaning up had told when it was last read.
    lists: tokio::sync::RwLock<Option<Arc<Cleanups>>>,
    /// What records of retention said when they were last read.
    kept: tokio::sync::RwLock<Option<Arc<Retention>>>,
}

impl Repository {
    /// Returns the door to what is stored.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Returns where the repository is, for people.
    pub fn location(&self) -> String {
        self.objects.replicas().location()
    }

    /// Returns the repository as one of its replicas has it, without help from the others: what is verified, and copied to.
    /// `None` when no replica has this name.
    pub fn alone(&self, replica: &str) -> Option<Self> {
        let objects = Objects::new(self.objects.replicas().alone(replica)?);
        Some(Self {
            objects,
            config: self.config.clone(),
            keys: self.keys.clone(),
            cache: self.cache.clone(),
            state: self.state.clone(),
            opened_by: self.opened_by,
            lists: tokio::sync::RwLock::default(),
            kept: tokio::sync::RwLock::default(),
        })
    }

    /// Returns the name of the replica that is asked first.
    pub fn first_replica(&self) -> &str {
        self.objects.replicas().all()[0].name()
    }

    /// Returns what was seen so far of objects in the first replica that somebody overwrote or deleted, although they are given as
    /// they were.
    pub fn tampered(&self) -> Tampered {
        self.objects.replicas().all()[0].store().tampered()
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns the key slot that it was opened with; none when it was just made.
    pub fn opened_by(&self) -> Option<SlotId> {
        self.opened_by
    }

    /// Returns the local cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns what this machine remembers of the repository.
    pub fn state(&self) -> &LocalState {
        &self.state
    }

    /// Returns the repository's fingerprint, which people compare with their recovery kit.
    pub fn fingerprint(&self) -> Fingerprint {
        self.keys.fingerprint()
    }

    /// Returns which repository it is, to be remembered.
    pub fn pin(&self) -> Pin {
        Pin { repository: self.id(), verifying_key: self.keys.verifying_key() }
    }

    /// Returns the repository's id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }
}
