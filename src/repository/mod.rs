//! The repository: what the objects of a store mean together.
//!
//! [`Repository::open`] needs a store, a way to open a key slot, and a cache directory. From there a [`writer`] stores
//! chunks and trees and commits a snapshot, a [`reader`] finds and opens them again. Order is kept by types: only
//! [`packer`] makes a `PackImage`, only a durable put an `UploadedPack`, and an index segment is made from those alone.

use std::sync::Arc;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::crypto::derive::{DedupSecret, ReaderKey};
use crate::crypto::secret::Passphrase;
use crate::crypto::session::new_domain_key;
use crate::crypto::sign::Signed;
use crate::crypto::slot::{SlotLock, open_slot, seal_slot};
use crate::crypto::{CryptoError, random};
use crate::format::FORMAT_VERSION;
use crate::format::FormatError;
use crate::format::config::{ChunkerProfile, Config, RequiredFeatures};
use crate::format::keyring::{DomainRecord, Keyring, SlotRecord};
use crate::format::slot::{Role, RootKey, Slot};
use crate::model::id::{DomainId, RepositoryId, SlotId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::Timestamp;
use crate::repository::cache::Cache;
use crate::repository::keys::Keys;
use crate::repository::sound::get_sound;
use crate::store::{Store, StoreError, StoreErrorKind};

pub mod cache;
pub mod frame;
pub mod index;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod newest_first;
pub mod packer;
pub mod reader;
pub mod recheck;
mod sessions;
mod snapshot_cache;
pub mod snapshots;
pub mod sound;
pub mod tree;
pub mod uploader;
pub mod writer;

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
    #[error("none of the {slots} key slots opens with this passphrase")]
    WrongKey {
        /// Number of slots tried.
        slots: usize,
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
            OpenError::WrongKey { .. } | OpenError::MistypedRecovery => Outcome::WrongKey,
            OpenError::Damaged { .. } | OpenError::RolledBack { .. } => Outcome::Damaged,
            OpenError::Crypto(error) => error.outcome(),
            OpenError::Store { source, .. } => source.outcome(),
        }
    }
}

/// What `init` may be told.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// How file contents are cut.
    pub files: ChunkerProfile,
    /// How streams are cut.
    pub streams: ChunkerProfile,
    /// Size at which a pack is complete, in bytes.
    pub pack_target_bytes: u32,
}

impl Default for InitOptions {
    /// Profiles measured on source trees, disk images and database dumps (`docs/performance.md`).
    fn default() -> Self {
        let profile =
            |min, avg, max| ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min, avg, max, normalization: 2 };
        Self {
            files: profile(64 << 10, 256 << 10, 1 << 20),
            streams: profile(1 << 10, 4 << 10, 16 << 10),
            pack_target_bytes: 32 << 20,
        }
    }
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: Config,
    keys: Keys,
    cache: Cache,
}

impl Repository {
    /// Makes a repository: root secrets, one domain, the configuration and one key slot for each lock.
    ///
    /// The configuration is written last, so a cut-off `init` leaves nothing that counts as a repository.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is one; otherwise what the store reports.
    pub async fn init(
        store: Arc<dyn Store>,
        locks: &[(SlotLock, &str)],
        options: &InitOptions,
        now: Timestamp,
        cache_root: Option<&std::path::Path>,
    ) -> Result<Self, OpenError> {
        let at = |source| OpenError::Store { location: store.location().to_owned(), source };
        for kind in [ObjectKind::Config, ObjectKind::Key, ObjectKind::Keyring, ObjectKind::Pack] {
            if !store.list(kind.prefix()).await.map_err(at)?.is_empty() {
                return Err(OpenError::Exists { location: store.location().to_owned() });
            }
        }
        let repository = RepositoryId(random());
        let reader = ReaderKey::random();
        let verifying_key = reader.verifying_key(repository);

        let (secret_key, public_key) = new_domain_key();
        let dedup = DedupSecret::random(DomainId(random()), 1);
        let domain = DomainRecord::seal(repository, &reader, MAIN_DOMAIN, &dedup, &secret_key, public_key);
        let mut slots = Vec::new();
        for (lock, label) in locks {
            let slot =
                Slot { repository, root: RootKey::Reader(reader.clone()), verifying_key, label: (*label).to_owned() };
            let (lock, content) = (lock.clone(), slot.encode());
            let sealed = blocking(move || seal_slot(&lock, &content)).await?;
            let id = SlotId(random());
            slots.push(SlotRecord::of(id, Role::Reader, &sealed));
            store.put(&ObjectKey::slot(id), sealed.into()).await.map_err(at)?;
        }
        let keyring = Keyring { repository, counter: 1, domains: vec![domain], slots };
        let keyring_bytes = keyring.encode(&reader);
        store.put(&ObjectKey::keyring(1, random()), keyring_bytes.into()).await.map_err(at)?;

        let config = Config {
            repository,
            counter: 1,
            version: FORMAT_VERSION,
            created: now,
            required: RequiredFeatures::default(),
            files: options.files,
            streams: options.streams,
            pack_target_bytes: options.pack_target_bytes,
        };
        let config_bytes = config.encode(|payload| reader.sign(Signed::Config, repository, payload));
        store.put(&ObjectKey::config(1, random()), config_bytes.into()).await.map_err(at)?;

        let cache = Cache::open(repository, cache_root);
        let keys = Keys::open(RootKey::Reader(reader), verifying_key, keyring)
            .map_err(|source| OpenError::Damaged { key: ObjectKey::from_listed("keyring/"), source })?;
        Ok(Self { store, config, keys, cache })
    }

    /// Opens a repository with a passphrase or recovery identity.
    ///
    /// # Errors
    /// [`OpenError`] tells apart: no repository, wrong key, damage, roll-back, and an unreachable store.
    pub async fn open(
        store: Arc<dyn Store>,
        passphrase: &Passphrase,
        cache_root: Option<&std::path::Path>,
    ) -> Result<Self, OpenError> {
        let slot = open_any_slot(&*store, passphrase).await?;
        let cache = Cache::open(slot.repository, cache_root);
        let (config_key, config) = newest(&*store, ObjectKind::Config, "configuration", &cache, |bytes| {
            let config = Config::decode(bytes, slot.repository, &slot.verifying_key)?;
            Ok((config.counter, config))
        })
        .await?;
        config
            .check_features(&config.required.read)
            .map_err(|source| OpenError::Damaged { key: config_key, source })?;
        let (keyring_key, keyring) = newest(&*store, ObjectKind::Keyring, "keyring", &cache, |bytes| {
            let keyring = Keyring::decode(bytes, slot.repository, &slot.verifying_key)?;
            Ok((keyring.counter, keyring))
        })
        .await?;
        let keys = Keys::open(slot.root, slot.verifying_key, keyring)
            .map_err(|source| OpenError::Damaged { key: keyring_key, source })?;
        Ok(Self { store, config, keys, cache })
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns the local cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns the repository's id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }
}

/// Tries a passphrase on every slot, the cheap ones first.
async fn open_any_slot(store: &dyn Store, passphrase: &Passphrase) -> Result<Slot, OpenError> {
    let at = |source| OpenError::Store { location: store.location().to_owned(), source };
    let configs = store.list(ObjectKind::Config.prefix()).await.map_err(at)?;
    if configs.iter().all(|object| object.key.counter().is_none()) {
        // What `init` leaves when it is cut off has no snapshots.
        let has_snapshots = !store.list(ObjectKind::Snapshot.prefix()).await.map_err(at)?.is_empty();
        return Err(if has_snapshots {
            let source = FormatError::Invalid { what: "configuration", why: "there is none".into() };
            OpenError::Damaged { key: ObjectKey::from_listed(ObjectKind::Config.prefix()), source }
        } else {
            OpenError::Missing { location: store.location().to_owned() }
        });
    }
    if crate::crypto::slot::check_recovery_identity(passphrase.expose()) == Some(false) {
        return Err(OpenError::MistypedRecovery);
    }
    let mut listed = store.list(ObjectKind::Key.prefix()).await.map_err(at)?;
    listed.retain(|object| object.key.slot_id().is_some());
    let mut slots = Vec::new();
    let mut failed = None;
    for object in &listed {
        match store.get(&object.key).await {
            Ok(bytes) => slots.push((object.key.clone(), bytes)),
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) if error.kind.is_damage() => {
                let source = FormatError::Invalid { what: "a key slot", why: error.clause() };
                failed = Some(OpenError::Damaged { key: object.key.clone(), source });
            }
            Err(error) => return Err(at(error)),
        }
    }
    slots.sort_by_key(|(_, bytes)| scrypt_work(bytes));
    for (key, bytes) in &slots {
        match try_slot(passphrase, key, bytes.clone()).await {
            Ok(Some(slot)) => return Ok(slot),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    // A slot that came wrong once is not damaged, nor is the passphrase wrong: those that come otherwise now are tried.
    let mut damaged = None;
    for (key, before) in slots {
        let bytes = match store.get(&key).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind.is_damage() => continue,
            Err(error) => return Err(at(error)),
        };
        if bytes == before {
            continue;
        }
        match try_slot(passphrase, &key, bytes).await {
            Ok(Some(slot)) => return Ok(slot),
            Ok(None) => {}
            Err(error) => damaged = Some(error),
        }
    }
    let wrong = match crate::crypto::slot::resembles_recovery_identity(passphrase.expose()) {
        true => OpenError::MistypedRecovery,
        false => OpenError::WrongKey { slots: listed.len() },
    };
    Err(damaged.or(failed).unwrap_or(wrong))
}

/// Tries a passphrase on one slot; `None` when it is not the slot's.
async fn try_slot(passphrase: &Passphrase, key: &ObjectKey, bytes: Bytes) -> Result<Option<Slot>, OpenError> {
    let passphrase = passphrase.clone();
    let opened = blocking(move || open_slot(&passphrase, &bytes)).await;
    let damaged = |source| OpenError::Damaged { key: key.clone(), source };
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

/// Returns the object of `kind` with the highest counter that `decode` accepts, and refuses a roll-back.
async fn newest<T>(
    store: &dyn Store,
    kind: ObjectKind,
    what: &'static str,
    cache: &Cache,
    decode: impl Fn(&[u8]) -> Result<(u64, T), FormatError>,
) -> Result<(ObjectKey, T), OpenError> {
    let at = |source| OpenError::Store { location: store.location().to_owned(), source };
    let mut listed = store.list(kind.prefix()).await.map_err(at)?;
    listed.retain(|object| object.key.counter().is_some());
    listed.sort_by_key(|object| std::cmp::Reverse(object.key.counter()));
    let mut damaged = None;
    for object in listed {
        let decoded = match get_sound(store, &object.key, |bytes| decode(bytes)).await {
            Ok(decoded) => decoded,
            Err(error) if error.kind == StoreErrorKind::NotFound => continue,
            Err(error) if error.kind.is_damage() => Err(FormatError::Invalid { what, why: error.clause() }),
            Err(error) => return Err(at(error)),
        };
        match decoded {
            Ok((counter, _)) if object.key.counter() != Some(counter) => {
                let why = format!("it is number {counter} under another name");
                damaged = damaged.or(Some((object.key, FormatError::Invalid { what, why })));
            }
            Ok((counter, value)) => {
                let seen = cache.highest_counter(kind);
                if counter < seen {
                    return Err(match damaged {
                        Some((key, source)) => OpenError::Damaged { key, source },
                        None => OpenError::RolledBack { what, found: counter, seen },
                    });
                }
                cache.remember_counter(kind, counter);
                return Ok((object.key, value));
            }
            // It is signed and counts; falling back on an older one would undo what it says.
            Err(source @ FormatError::Newer { .. }) => return Err(OpenError::Damaged { key: object.key, source }),
            Err(source) => damaged = damaged.or(Some((object.key, source))),
        }
    }
    Err(match damaged {
        Some((key, source)) => OpenError::Damaged { key, source },
        None => OpenError::Damaged {
            key: ObjectKey::from_listed(kind.prefix()),
            source: FormatError::Invalid { what, why: "there is none".into() },
        },
    })
}
