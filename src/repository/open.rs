//! Opening a repository: a key slot, the configuration that counts, the keyring that counts.
//!
//! Counters only ever rise. What each replica showed is remembered for it alone, so one that lags behind the others is not
//! taken for one that was rolled back, nor is a rolled back one excused by them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::crypto::secret::Passphrase;
use crate::crypto::sign::VerifyingKey;
use crate::crypto::slot::Opener;
use crate::format::FormatError;
use crate::format::config::Config;
use crate::format::keyring::Keyring;
use crate::format::slot::RootKey;
use crate::model::id::RepositoryId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::repository::cache::Cache;
use crate::repository::keys::Keys;
use crate::repository::known::{Expected, Pin};
use crate::repository::objects::Objects;
use crate::repository::places::LocalPlaces;
use crate::repository::replicas::{Replica, Replicas};
use crate::repository::slots::{Elsewhere, unlock};
use crate::repository::state::LocalState;
use crate::repository::{OpenError, Repository};
use crate::store::StoreErrorKind;

/// A repository that was opened, and what was seen on the way.
#[derive(Debug)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct Opened {
    /// The repository.
    pub repository: Repository,
    /// Which one it is, to be remembered.
    pub pin: Pin,
    /// Key slots that opened as well and lead to other repositories: somebody put them there.
    pub elsewhere: Vec<Elsewhere>,
}

impl Repository {
    /// Opens a repository with a passphrase or recovery identity: whichever one that leads to, if all key slots that open
    /// agree. Who opens one again and again should remember which it is, and use [`Repository::open_expected`].
    ///
    /// # Errors
    /// [`OpenError`] tells apart: no repository, wrong key, damage, roll-back, and an unreachable store.
    pub async fn open(
        replicas: impl Into<Replicas>,
        passphrase: &Passphrase,
        places: impl Into<LocalPlaces>,
    ) -> Result<Self, OpenError> {
        Ok(Self::open_expected(replicas, passphrase, &Expected::default(), places).await?.repository)
    }

    /// Opens the repository that is expected, and no other that somebody put in its place; with private keys only where one is.
    ///
    /// # Errors
    /// As [`Repository::open`], [`OpenError::Another`], and [`OpenError::Unknown`].
    pub async fn open_expected(
        replicas: impl Into<Replicas>,
        opener: impl Into<Opener>,
        expected: &Expected,
        places: impl Into<LocalPlaces>,
    ) -> Result<Opened, OpenError> {
        let objects = Objects::new(replicas.into());
        let configs = configs(&objects).await?;
        let unlocked = unlock(&objects, &opener.into(), expected).await?;
        let (slot, elsewhere, opened_by) = (unlocked.slot, unlocked.elsewhere, Some(unlocked.id));
        let pin = Pin { repository: slot.repository, verifying_key: slot.verifying_key };
        let places = places.into();
        let (cache, state) = (Cache::open(slot.repository, &places), LocalState::open(slot.repository, &places));
        let cache = match &slot.root {
            RootKey::Reader(_) => cache,
            RootKey::Writer(writer) => cache.of_writer(&writer.verifying_key(slot.repository)),
        };
        let decode = |bytes: &[u8]| {
            let config = Config::decode(bytes, slot.repository, &slot.verifying_key)?;
            Ok((config.counter, config))
        };
        let (config_key, config) =
            newest(&objects, ObjectKind::Config, "configuration", &state, &configs, decode).await?;
        config
            .check_features(&config.required.read)
            .map_err(|source| OpenError::Damaged { key: config_key, source })?;
        let keyrings = keyrings(&objects).await?;
        let (keyring_key, keyring) =
            newest_keyring(&objects, &state, &keyrings, slot.repository, &slot.verifying_key).await?;
        let keys = Keys::open(slot, keyring).map_err(|source| OpenError::Damaged { key: keyring_key, source })?;
        let repository = Self {
            objects,
            config: config.into(),
            keys: keys.into(),
            cache,
            state,
            opened_by,
            lists: tokio::sync::RwLock::default(),
            kept: tokio::sync::RwLock::default(),
        };
        Ok(Opened { repository, pin, elsewhere })
    }

    /// Returns all keyrings of the highest number, the one that counts first. There are several where two who changed the
    /// keyring at the same time have not looked again yet.
    pub(super) async fn newest_keyrings(&self) -> Result<Vec<Keyring>, OpenError> {
        let at = |source| OpenError::Store { location: self.location(), source };
        let listed = keyrings(self.objects()).await?;
        let verifying_key = self.keys().verifying_key();
        let (counts, first) = newest_keyring(self.objects(), self.state(), &listed, self.id(), &verifying_key).await?;
        let keys = listed.into_iter().flat_map(|(_, keys)| keys);
        let same: BTreeSet<_> = keys.filter(|key| key.counter() == Some(first.counter) && *key != counts).collect();
        let mut keyrings = vec![first];
        for key in same {
            let decode = |bytes: &Bytes| Keyring::decode(bytes, self.id(), &verifying_key);
            let decoded = match self.objects().get(&key, decode).await {
                Ok(decoded) => decoded,
                Err(error) if error.kind.is_damage() => continue,
                Err(error) => return Err(at(error)),
            };
            // One that is not valid never counts.
            let keyring = decoded.ok().filter(|keyring| keyring.counter == keyrings[0].counter);
            keyrings.extend(keyring.filter(|keyring| !keyrings.contains(keyring)));
        }
        Ok(keyrings)
    }

    /// Tells whether the keyring with which the repository was opened counts still.
    ///
    /// # Errors
    /// [`OpenError`] when that is not known.
    pub async fn has_newest_keyring(&self) -> Result<bool, OpenError> {
        Ok(self.keys().is_of(&self.newest_keyring().await?))
    }

    /// Returns the keyring that counts now.
    pub(super) async fn newest_keyring(&self) -> Result<Keyring, OpenError> {
        let (listed, verifying_key) = (keyrings(self.objects()).await?, self.keys().verifying_key());
        Ok(newest_keyring(self.objects(), self.state(), &listed, self.id(), &verifying_key).await?.1)
    }
}

/// What each replica that answers lists of a kind.
type ListedByEach<'a> = [(&'a Replica, Vec<ObjectKey>)];

async fn keyrings(objects: &Objects) -> Result<Vec<(&Replica, Vec<ObjectKey>)>, OpenError> {
    let at = |source| OpenError::Store { location: objects.replicas().location(), source };
    objects.signed(ObjectKind::Keyring).await.map_err(at)
}

/// Lists the configurations, without which there is no repository.
async fn configs(objects: &Objects) -> Result<Vec<(&Replica, Vec<ObjectKey>)>, OpenError> {
    let at = |source| OpenError::Store { location: objects.replicas().location(), source };
    let configs = objects.signed(ObjectKind::Config).await.map_err(at)?;
    if configs.iter().any(|(_, keys)| !keys.is_empty()) {
        return Ok(configs);
    }
    // What `init` leaves when it is cut off has no snapshots.
    let has_snapshots = !objects.list(ObjectKind::Snapshot).await.map_err(at)?.is_empty();
    Err(if has_snapshots {
        let source = FormatError::Invalid { what: "configuration", why: "there is none".into() };
        OpenError::Damaged { key: ObjectKey::from_listed(ObjectKind::Config.prefix()), source }
    } else {
        OpenError::Missing { location: objects.replicas().location() }
    })
}

async fn newest_keyring(
    objects: &Objects,
    state: &LocalState,
    listed: &ListedByEach<'_>,
    repository: RepositoryId,
    key: &VerifyingKey,
) -> Result<(ObjectKey, Keyring), OpenError> {
    let decode = |bytes: &[u8]| Keyring::decode(bytes, repository, key).map(|keyring| (keyring.counter, keyring));
    newest(objects, ObjectKind::Keyring, "keyring", state, listed, decode).await
}

/// Returns the object of `kind` with the highest counter that `decode` accepts, and refuses a roll-back.
async fn newest<T>(
    objects: &Objects,
    kind: ObjectKind,
    what: &'static str,
    state: &LocalState,
    listed: &ListedByEach<'_>,
    decode: impl Fn(&[u8]) -> Result<(u64, T), FormatError>,
) -> Result<(ObjectKey, T), OpenError> {
    let at = |source| OpenError::Store { location: objects.replicas().location(), source };
    let mut keys: Vec<&ObjectKey> = listed.iter().flat_map(|(_, keys)| keys).collect();
    keys.sort_by_key(|key| (Reverse(key.counter()), *key));
    keys.dedup();
    let mut damaged = None;
    for key in keys {
        let decoded = match objects.get(key, |bytes| decode(bytes)).await {
            Ok(decoded) => decoded,
            Err(error) if error.kind == StoreErrorKind::NotFound => continue,
            Err(error) if error.kind.is_damage() => Err(FormatError::Invalid { what, why: error.clause() }),
            Err(error) => return Err(at(error)),
        };
        match decoded {
            Ok((counter, _)) if key.counter() != Some(counter) => {
                let why = format!("it is number {counter} under another name");
                damaged = damaged.or(Some((key.clone(), FormatError::Invalid { what, why })));
            }
            Ok((counter, value)) => {
                let shown = ShownCounters { kind, what, counter, listed };
                shown.compare(objects.replicas(), state).map_err(|rolled_back| match damaged {
                    Some((key, source)) => OpenError::Damaged { key, source },
                    None => rolled_back,
                })?;
                return Ok((key.clone(), value));
            }
            // It is signed and counts; falling back on an older one would undo what it says.
            Err(source @ FormatError::Newer { .. }) => return Err(OpenError::Damaged { key: key.clone(), source }),
            Err(source) => damaged = damaged.or(Some((key.clone(), source))),
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

/// The counter that counts, and what each replica that answered lists.
struct ShownCounters<'a> {
    kind: ObjectKind,
    what: &'static str,
    counter: u64,
    listed: &'a ListedByEach<'a>,
}

impl ShownCounters<'_> {
    /// Compares with what each replica showed before, and remembers what it shows now.
    ///
    /// A replica that shows less than it did was rolled back. Where another still shows as much, that is a concern and no
    /// more; where none does, what counts now is not what counted.
    fn compare(&self, replicas: &Replicas, state: &LocalState) -> Result<(), OpenError> {
        let seen = |replica: &Replica| state.highest_counter(self.kind, replica.name());
        let highest = self.listed.iter().map(|(replica, _)| seen(replica)).max().unwrap_or(0);
        if self.counter < highest {
            return Err(OpenError::RolledBack { what: self.what, found: self.counter, seen: highest });
        }
        for (replica, keys) in self.listed {
            let counters = keys.iter().filter_map(ObjectKey::counter);
            let shows = counters.filter(|counter| *counter <= self.counter).max().unwrap_or(0);
            let seen = seen(replica);
            if shows < seen {
                let what = self.what;
                let message = format!("shows {what} {shows}, where it has shown {seen} before: it was rolled back");
                replicas.note_concern(replica, message);
            }
            state.remember_counter(self.kind, replica.name(), shows);
        }
        Ok(())
    }
}
