//! The port to one replica: put, get, get range, head, list, delete.
//!
//! A [`Store`] keeps named objects in one place. It knows nothing of packs or keys. Implementations pass the contract
//! in `tests/it/store_contract.rs`; concerns such as retrying and rate limits are decorators in [`layer`]. [`open()`]
//! turns a [`location::Location`] into a store ready for use.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::store::signs::Signs;
use crate::store::tampering::Tampered;
use crate::store::transfer::Transfer;

#[cfg(any(feature = "internals", feature = "store-contract"))]
pub mod contract;
pub mod layer;
pub mod local;
pub mod location;
pub mod memory;
pub mod open;
mod pace;
pub mod s3;
pub mod signs;
pub mod tampering;
pub mod transfer;

pub use crate::store::open::{OpenMode, OpenOptions, open};

/// What a store tells about an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub size: u64,
}

/// Objects in one answer to a listing, at most: packs of 128 TiB at the usual size.
pub const LISTED_MAX: usize = 1 << 22;
/// Bytes of the names in one answer to a listing, at most.
pub const LISTED_NAMES_BYTES_MAX: usize = 256 << 20;

/// Pages of a listing with nothing of ours, one after the other, before it counts as one without end.
const EMPTY_PAGES_MAX: usize = 1000;

/// What a store lists, as it is gathered: never more than fits the bounds.
#[derive(Debug)]
pub struct Listing {
    prefix: String,
    found: Vec<ObjectInfo>,
    names: usize,
    names_max: usize,
    names_bytes: usize,
    /// Names when the last page ended, and pages since then that had none.
    names_before: usize,
    empty_pages: usize,
}

impl Listing {
    /// Begins an answer.
    pub fn of(prefix: &str) -> Self {
        Self::bounded(prefix, LISTED_MAX)
    }

    /// Begins an answer of so many names at most.
    fn bounded(prefix: &str, names_max: usize) -> Self {
        Self {
            prefix: prefix.to_owned(),
            found: Vec::new(),
            names: 0,
            names_max,
            names_bytes: 0,
            names_before: 0,
            empty_pages: 0,
        }
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When there are too many.
    pub fn push(&mut self, name: &str, size: u64) -> Result<(), StoreError> {
        self.count(name.len())?;
        self.add_counted(name, size);
        Ok(())
    }

    /// Counts a name, which may be one of several under which an object stands in an answer.
    ///
    /// # Errors
    /// When there are too many.
    fn count(&mut self, name_bytes: usize) -> Result<(), StoreError> {
        if self.names >= self.names_max || self.names_bytes + name_bytes > LISTED_NAMES_BYTES_MAX {
            let message = format!("it goes on after {} names, more than can be held", self.names);
            return Err(StoreError::new("list", &self.prefix, StoreErrorKind::Other, message));
        }
        self.names += 1;
        self.names_bytes += name_bytes;
        Ok(())
    }

    /// Notes that a page ends and another one follows.
    ///
    /// # Errors
    /// When page after page had nothing.
    fn next_page(&mut self) -> Result<(), StoreError> {
        self.empty_pages = if self.names == self.names_before { self.empty_pages + 1 } else { 0 };
        self.names_before = self.names;
        if self.empty_pages > EMPTY_PAGES_MAX {
            let message = "the store said again and again that there is more to list, and listed nothing";
            return Err(StoreError::new("list", &self.prefix, StoreErrorKind::Other, message));
        }
        Ok(())
    }

    /// Adds an object that was counted.
    fn add_counted(&mut self, name: &str, size: u64) {
        self.found.push(ObjectInfo { key: ObjectKey::from_listed(name), size });
    }

    /// Returns the objects in bytewise order of their names, each once.
    pub fn finish(mut self) -> Vec<ObjectInfo> {
        self.found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        self.found.dedup_by(|a, b| a.key == b.key);
        self.found
    }
}

/// A place that keeps objects.
///
/// Where it keeps what is overwritten or deleted as well, an object is what was first stored under its name, and a lease what was stored
/// last: so whoever may put and not delete versions changes nothing.
///
/// # Cancel safety
/// Dropping a future leaves an object either whole or absent (or, for a lease, as it was).
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Returns where this is, as the user wrote it, without secrets.
    fn location(&self) -> &str;

    /// Stores `body` under `key` and returns once the store reports it durable. An object of that name is replaced, unless what was there
    /// before is kept.
    ///
    /// It tells `transfer` how far it is, and keeps to its pace; a store that knows only when it is done leaves that alone.
    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError>;

    /// Does the same where nobody wants to hear how far it is.
    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        self.put_telling(key, body, &Transfer::unheard()).await
    }

    /// Returns a whole object. One that is longer than its kind can be ([`ObjectKey::bytes_max`]) is
    /// [`StoreErrorKind::TooLong`], which is known before memory is taken for it.
    ///
    /// `transfer` is as for [`Store::put_telling`].
    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError>;

    /// Does the same where nobody wants to hear how far it is.
    async fn get(&self, key: &ObjectKey) -> Result<Bytes, StoreError> {
        self.get_telling(key, &Transfer::unheard()).await
    }

    /// Returns the bytes of `range`, exactly as many as asked for; a range past the end is [`StoreErrorKind::Truncated`].
    ///
    /// An empty range gives no bytes, without a look whether the object is there. `transfer` is as for [`Store::put_telling`].
    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError>;

    /// Does the same where nobody wants to hear how far it is.
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.get_range_telling(key, range, &Transfer::unheard()).await
    }

    /// Returns the size of an object, or [`StoreErrorKind::NotFound`].
    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError>;

    /// Returns all objects whose name starts with `prefix`, in bytewise order of their names.
    ///
    /// The prefix is plain text and need not end at a slash. Objects stored before the call are all there; those stored
    /// meanwhile may be.
    ///
    /// The answer is held in memory, about 100 bytes an object. One of more than [`LISTED_MAX`] objects, or of names that take
    /// more than [`LISTED_NAMES_BYTES_MAX`], is an error: nobody can be made to hold a listing without end.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Removes an object; one that is not there counts as removed.
    ///
    /// Where versions are kept all of them are removed, the first one last, and delete markers; of a lease the latest version is
    /// hidden. Where a version may not be removed, that is [`StoreErrorKind::Denied`], and the object is there as it was.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// Says that what came of an object which is written once is not right. A place that keeps versions looks for the first one, and
    /// gives that from now on; returns whether that is another than it gave. Others do nothing, as here.
    async fn look_back(&self, _key: &ObjectKey) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Returns what was seen so far of objects that somebody overwrote or deleted. A place that keeps no versions sees nothing, as here.
    fn tampered(&self) -> Tampered {
        Tampered::default()
    }

    /// Returns the signs of life that it gives while it is asked for something. One that notes none, `Signs::default()`, is never
    /// called silent.
    fn signs(&self) -> Signs;
}

/// What kind of failure a store met; decides whether trying again can help and what to advise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// There is no such bucket or directory.
    NoSuchPlace,
    /// The credentials do not allow this.
    Denied,
    /// There are no credentials, or they cannot be read: nothing was asked of the store.
    NoCredentials,
    /// The file of certificates to trust cannot be read, or holds none: nothing was asked of the store.
    NoCertificates,
    /// The place has no room left, or a quota is used up.
    Full,
    /// The store asks to slow down.
    Throttled,
    /// A passing failure: connection, an answer that broke off, server error.
    Unavailable,
    /// The store stopped answering, or stopped taking what was sent.
    TimedOut,
    /// Nobody knows the name of the endpoint's host.
    UnknownHost,
    /// The server's certificate is from an authority that is not known here.
    Untrusted,
    /// The clocks of this machine and of the store differ too much for a request to count.
    Skewed,
    /// The store answered, whole and consistent, with fewer or more bytes than the object or range has.
    Truncated,
    /// The object is longer than any of its kind can be.
    TooLong,
    /// The disk gives others and not this object: a bad sector, or a checksum of its file system that does not fit.
    Unreadable,
    /// The run is ending, so the request was dropped.
    Interrupted,
    /// Something else; trying again will not help.
    Other,
}

/// What a failure is about, which decides what becomes of a run: damage is reported and the run goes on with the rest;
/// everything else ends it and says nothing about what is stored.
impl StoreErrorKind {
    /// Tells whether the same request may succeed a little later.
    pub fn is_transient(self) -> bool {
        use StoreErrorKind::*;
        self.is_outage() || matches!(self, Truncated | Unreadable | Skewed)
    }

    /// Tells whether the store as a whole cannot be reached: the failure is the way's, not the object's.
    pub fn is_outage(self) -> bool {
        self.outcome() == Outcome::Unreachable
    }

    /// Tells whether the store was reached and does not have what it should: the object is gone, has another length or
    /// cannot be read. Anything else is the way or a prohibition and never damage.
    pub fn is_damage(self) -> bool {
        self.outcome() == Outcome::Damaged
    }

    /// Returns how a run ends that such a failure ends.
    pub fn outcome(self) -> Outcome {
        use StoreErrorKind::*;
        match self {
            NotFound | Truncated | TooLong | Unreadable => Outcome::Damaged,
            Throttled | Unavailable | TimedOut | UnknownHost => Outcome::Unreachable,
            NoSuchPlace => Outcome::Missing,
            NoCredentials | NoCertificates => Outcome::Usage,
            Denied => Outcome::Refused,
            Full => Outcome::Full,
            Interrupted => Outcome::Interrupted,
            Untrusted | Skewed | Other => Outcome::Failed,
        }
    }

    /// Tells whether the store refused for want of rights.
    pub fn is_forbidden(self) -> bool {
        self == StoreErrorKind::Denied
    }
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject}: {message}")]
pub struct StoreError {
    /// What was tried: `put`, `get`, `head`, `list`, `delete`, `open`.
    pub operation: &'static str,
    /// The object, prefix or place concerned.
    pub subject: String,
    /// What kind of failure it was.
    pub kind: StoreErrorKind,
    /// What happened, for people: a clause such as `access denied (HTTP 403 AccessDenied)`.
    pub message: String,
    /// How long the store asks to wait before trying again.
    pub retry_after: Option<Duration>,
    /// The underlying error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Ended for StoreError {
    fn outcome(&self) -> Outcome {
        self.kind.outcome()
    }
}

impl StoreError {
    /// Makes an error without an underlying one.
    pub fn new(
        operation: &'static str,
        subject: impl fmt::Display,
        kind: StoreErrorKind,
        message: impl Into<String>,
    ) -> Self {
        Self { operation, subject: subject.to_string(), kind, message: message.into(), retry_after: None, source: None }
    }

    /// Makes the error for an object that is not there.
    pub fn not_found(operation: &'static str, key: &ObjectKey) -> Self {
        Self::new(operation, key, StoreErrorKind::NotFound, "no such object")
    }

    /// Checks the length of an object that was asked for, or that came, against what its kind can have.
    ///
    /// # Errors
    /// [`StoreErrorKind::TooLong`].
    pub fn check_length(key: &ObjectKey, bytes: u64) -> Result<(), Self> {
        let most = key.bytes_max();
        if bytes <= most {
            return Ok(());
        }
        let message = format!("it has {bytes} bytes, where {most} are the most that such an object can have");
        Err(Self::new("get", key, StoreErrorKind::TooLong, message))
    }

    /// Returns what happened and the innermost cause in one clause, without what was tried.
    pub fn clause(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.message),
            None => self.message.clone(),
        }
    }

    /// Adds how long the store asks to wait.
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Adds the underlying error.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
