//! The places that hold the repository's objects, and how several of them act as one.
//!
//! A put is durable when every required replica has it. A get asks one replica after the other until one gives bytes that
//! are believed, so what one place lost, cut off or changed comes from the next. What a replica lacks or cannot do, while
//! another can, ends nothing and is told: [`Replicas::take_concerns`].
//!
//! Only this file, `objects` and `open` know that there are stores.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};

use crate::model::key::ObjectKey;
use crate::progress::Problem;
use crate::repository::sound::get_sound;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

/// Concerns kept until somebody tells them; more say nothing new.
const CONCERNS_MAX: usize = 100;

/// What may be expected of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Nothing counts as stored before it is stored here.
    Required,
    /// It is brought up to date by copying and may lag behind: it is read from, and not written to.
    Lagging,
}

/// One place that holds a copy of the repository.
#[derive(Debug, Clone)]
pub struct Replica {
    name: String,
    store: Arc<dyn Store>,
    role: ReplicaRole,
}

impl Replica {
    /// Names a place to which everything is written.
    ///
    /// What this machine remembers of a replica, such as the highest counters that it showed, is kept under its name: keep it
    /// when the place gets another address, and give two places two names.
    pub fn required(name: impl Into<String>, store: Arc<dyn Store>) -> Self {
        Self { name: name.into(), store, role: ReplicaRole::Required }
    }

    /// Names a place that is read from where the others fail, and that others bring up to date.
    pub fn lagging(name: impl Into<String>, store: Arc<dyn Store>) -> Self {
        Self { name: name.into(), store, role: ReplicaRole::Lagging }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what may be expected of it.
    pub fn role(&self) -> ReplicaRole {
        self.role
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }
}

/// The replicas over which a repository is open, in the order in which they are asked. Clones share their concerns.
#[derive(Debug, Clone)]
pub struct Replicas {
    all: Arc<[Replica]>,
    concerns: Arc<Mutex<BTreeSet<(String, String)>>>,
}

/// One replica, named by its location.
impl From<Arc<dyn Store>> for Replicas {
    fn from(store: Arc<dyn Store>) -> Self {
        let name = store.location().to_owned();
        Self::of([Replica::required(name, store)].into())
    }
}

/// As for any store.
impl<S: Store + 'static> From<Arc<S>> for Replicas {
    fn from(store: Arc<S>) -> Self {
        (store as Arc<dyn Store>).into()
    }
}

impl Replicas {
    /// Puts replicas together, the one to be asked first in front.
    ///
    /// # Errors
    /// [`NoneRequired`] when writing would write nothing.
    pub fn new(replicas: Vec<Replica>) -> Result<Self, NoneRequired> {
        let has_required = replicas.iter().any(|replica| replica.role == ReplicaRole::Required);
        if has_required { Ok(Self::of(replicas.into())) } else { Err(NoneRequired) }
    }

    fn of(all: Arc<[Replica]>) -> Self {
        Self { all, concerns: Arc::default() }
    }

    /// Returns all of them.
    pub fn all(&self) -> &[Replica] {
        &self.all
    }

    /// Tells whether everything is written to the first one and to no other.
    pub fn first_is_all(&self) -> bool {
        self.required().count() == 1 && self.all[0].role == ReplicaRole::Required
    }

    /// Returns those that everything is written to.
    fn required(&self) -> impl Iterator<Item = &Replica> {
        self.all.iter().filter(|replica| replica.role == ReplicaRole::Required)
    }

    /// Returns one of them as if there were no other, written to and judged by itself; `None` when none has this name.
    pub(super) fn alone(&self, name: &str) -> Option<Self> {
        let replica = self.all.iter().find(|replica| replica.name == name)?;
        Some(Self::of([Replica { role: ReplicaRole::Required, ..replica.clone() }].into()))
    }

    /// Returns where they are, for people.
    pub fn location(&self) -> String {
        let locations: Vec<&str> = self.all.iter().map(|replica| replica.store.location()).collect();
        locations.join(", ")
    }

    /// Notes what is wrong with a replica without which work goes on.
    pub(super) fn note_concern(&self, replica: &Replica, message: String) {
        let mut concerns = self.concerns.lock().expect("no panic while held");
        if concerns.len() < CONCERNS_MAX {
            concerns.insert((format!("replica {}", replica.name), message));
        }
    }

    /// Returns what was wrong with single replicas since this was last asked, while others could stand in for them.
    pub fn take_concerns(&self) -> Vec<Problem> {
        let concerns = std::mem::take(&mut *self.concerns.lock().expect("no panic while held"));
        concerns.into_iter().map(|(subject, message)| Problem::advice(subject, message)).collect()
    }

    /// Stores an object in every required replica; durable on return.
    ///
    /// # Errors
    /// The first of a required replica. Others may have the object by then, which harms nothing.
    pub(super) async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        self.put_telling(key, body, &Transfer::unheard()).await
    }

    /// Does the same and tells `transfer` how far it is at the replica that has most of it, and that all of it is stored.
    pub(super) async fn put_telling(
        &self,
        key: &ObjectKey,
        body: Bytes,
        transfer: &Transfer,
    ) -> Result<(), StoreError> {
        let length = body.len() as u64;
        let puts = self.required().map(|replica| {
            let put = replica.store.put_telling(key, body.clone(), transfer);
            async move { put.await.map_err(|error| self.at(replica, error)) }
        });
        try_join_all(puts).await?;
        // Not every store tells while it stores.
        transfer.reach(length);
        Ok(())
    }

    /// Fetches an object from the first replica whose bytes `decode` accepts; each is asked as [`get_sound`] asks.
    ///
    /// # Errors
    /// When none has it right. A replica that is out of reach leaves the answer open and comes first; then what is wrong with
    /// bytes that came (inside), then that it is missing.
    pub(super) async fn get<T, E>(
        &self,
        key: &ObjectKey,
        decode: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.get_telling(key, &Transfer::unheard(), decode).await
    }

    /// Does the same and tells `transfer` how far it is.
    pub(super) async fn get_telling<T, E>(
        &self,
        key: &ObjectKey,
        transfer: &Transfer,
        mut decode: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let (mut unreachable, mut wrong, mut missing) = (None, None, None);
        let mut passed_over = Vec::new();
        for replica in &*self.all {
            match get_sound(&*replica.store, key, transfer, &mut decode).await {
                Ok(Ok(value)) => {
                    for (other, what) in passed_over {
                        self.note_concern(other, format!("{what} {key}, which {} has", replica.name));
                    }
                    return Ok(Ok(value));
                }
                Ok(Err(error)) => {
                    passed_over.push((replica, "has a damaged"));
                    wrong = wrong.or(Some(error));
                }
                Err(error) if error.kind == StoreErrorKind::Interrupted => return Err(error),
                Err(error) if error.kind.is_damage() => {
                    // What is brought up to date later may lack it for now.
                    if replica.role == ReplicaRole::Required {
                        passed_over.push((replica, "lacks"));
                    }
                    missing = missing.or(Some(self.at(replica, error)));
                }
                Err(error) => {
                    passed_over.push((replica, "does not give"));
                    unreachable = unreachable.or(Some(self.at(replica, error)));
                }
            }
        }
        match (unreachable, wrong, missing) {
            (Some(error), ..) => Err(error),
            (None, Some(error), _) => Ok(Err(error)),
            (None, None, error) => Err(error.expect("each replica gave an answer, and there is one")),
        }
    }

    /// Lists in every replica and returns those that answered with what they have.
    ///
    /// # Errors
    /// When none answers, or the run is ending.
    pub(super) async fn list_each(&self, prefix: &str) -> Result<Vec<(&Replica, Vec<ObjectInfo>)>, StoreError> {
        let listing = self.all.iter().map(|replica| async move { (replica, replica.store.list(prefix).await) });
        let (mut listed, mut failed) = (Vec::new(), None);
        for (replica, answer) in join_all(listing).await {
            match answer {
                Ok(objects) => listed.push((replica, objects)),
                Err(error) if error.kind == StoreErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    self.note_concern(replica, format!("{error}; what it alone has is not seen"));
                    failed = failed.or(Some(self.at(replica, error)));
                }
            }
        }
        match failed {
            Some(error) if listed.is_empty() => Err(error),
            _ => Ok(listed),
        }
    }

    /// Lists what any replica has, in bytewise order of the names: enough for reading, where one that is out of reach must
    /// not keep what the others have.
    ///
    /// # Errors
    /// As for [`Replicas::list_each`].
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = self.list_each(prefix).await?.into_iter().map(|(_, objects)| objects);
        let mut all = listed.next().unwrap_or_default();
        for mut objects in listed {
            all.append(&mut objects);
            all.sort_by(|one, other| one.key.cmp(&other.key));
            all.dedup_by(|one, other| one.key == other.key);
        }
        Ok(all)
    }

    /// Lists in every required replica: what a writer may rely on is what all of them have.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub(super) async fn list_required(&self, prefix: &str) -> Result<Vec<Vec<ObjectInfo>>, StoreError> {
        let listing = self
            .required()
            .map(|replica| async move { replica.store.list(prefix).await.map_err(|error| self.at(replica, error)) });
        try_join_all(listing).await
    }

    /// Lists in every replica, whatever its role: what whoever deletes must know of.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub(super) async fn list_every(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let listing = self
            .all
            .iter()
            .map(|replica| async move { replica.store.list(prefix).await.map_err(|error| self.at(replica, error)) });
        Ok(try_join_all(listing).await?.concat())
    }

    /// Returns the length of an object that every required replica has alike; `None` when one of them does not.
    ///
    /// # Errors
    /// When one of them does not answer, or refuses to.
    pub(super) async fn required_size(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        let heads = self.required().map(|replica| async move {
            match replica.store.head(key).await {
                Ok(object) => Ok(Some(object.size)),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.at(replica, error)),
            }
        });
        let sizes = try_join_all(heads).await?;
        Ok(sizes.first().copied().flatten().filter(|size| sizes.iter().all(|other| *other == Some(*size))))
    }

    /// Removes an object from every required replica.
    ///
    /// # Errors
    /// The first; the others may have removed it by then.
    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let deletes = self
            .required()
            .map(|replica| async move { replica.store.delete(key).await.map_err(|error| self.at(replica, error)) });
        try_join_all(deletes).await.map(drop)
    }

    /// Says at which of several replicas something failed.
    fn at(&self, replica: &Replica, mut error: StoreError) -> StoreError {
        if self.all.len() > 1 {
            error.subject = format!("{} at {}", error.subject, replica.name);
        }
        error
    }
}

/// No replica was named that everything is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of the replicas is required, so nothing could be stored")]
pub struct NoneRequired;
