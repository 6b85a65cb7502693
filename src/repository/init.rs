//! Making a repository: root secrets, one domain, the configuration and a key slot for each lock.

use crate::crypto::derive::{DedupSecret, ReaderKey};
use crate::crypto::random;
use crate::crypto::session::new_domain_key;
use crate::crypto::sign::Signed;
use crate::crypto::slot::SlotLock;
use crate::format::FORMAT_VERSION;
use crate::format::config::{ChunkerProfile, Config, RequiredFeatures};
use crate::format::keyring::{DomainRecord, Keyring};
use crate::format::slot::Slot;
use crate::model::id::{DomainEpoch, DomainId, RepositoryId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::time::Timestamp;
use crate::repository::cache::Cache;
use crate::repository::keys::Keys;
use crate::repository::objects::Objects;
use crate::repository::places::LocalPlaces;
use crate::repository::replicas::Replicas;
use crate::repository::slots::NewSlot;
use crate::repository::state::LocalState;
use crate::repository::{MAIN_DOMAIN, OpenError, Repository};

/// What `init` may be told.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
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

impl Repository {
    /// Makes a repository: root secrets, one domain, the configuration and one key slot for each lock.
    ///
    /// The configuration is written last, so a cut-off `init` leaves nothing that counts as a repository.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is one; otherwise what the store reports.
    pub async fn init(
        replicas: impl Into<Replicas>,
        locks: &[(SlotLock, &str)],
        options: &InitOptions,
        now: Timestamp,
        places: impl Into<LocalPlaces>,
    ) -> Result<Self, OpenError> {
        let objects = Objects::new(replicas.into());
        let at = |source| OpenError::Store { location: objects.replicas().location(), source };
        for kind in [ObjectKind::Config, ObjectKind::Key, ObjectKind::Keyring, ObjectKind::Pack] {
            if objects.has_any(kind).await.map_err(at)? {
                return Err(OpenError::Exists { location: objects.replicas().location() });
            }
        }
        let repository = RepositoryId(random());
        let reader = ReaderKey::random();

        let (secret_key, public_key) = new_domain_key();
        let dedup = DedupSecret::random(DomainEpoch { domain: DomainId(random()), epoch: 1 });
        let domain = DomainRecord::seal(repository, &reader, MAIN_DOMAIN, &dedup, &secret_key, public_key);
        let mut slots = Vec::new();
        for (lock, label) in locks {
            let slot = NewSlot::seal(&reader, &Slot::of_reader(repository, &reader, label), lock, now).await?;
            slot.store(&objects).await.map_err(at)?;
            slots.push(slot.record);
        }
        let keyring =
            Keyring { repository, counter: 1, domains: vec![domain], writers: Vec::new(), erased: Vec::new(), slots };
        objects.put_keyring(keyring.counter, keyring.encode(&reader)).await.map_err(at)?;

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
        objects.put_config(config.counter, config_bytes).await.map_err(at)?;

        let places = places.into();
        let (cache, state) = (Cache::open(repository, &places), LocalState::open(repository, &places));
        let keys = Keys::open(Slot::of_reader(repository, &reader, ""), keyring)
            .map_err(|source| OpenError::Damaged { key: ObjectKey::from_listed("keyring/"), source })?;
        Ok(Self {
            objects,
            config: config.into(),
            keys: keys.into(),
            cache,
            state,
            opened_by: None,
            lists: tokio::sync::RwLock::default(),
            kept: tokio::sync::RwLock::default(),
        })
    }
}
