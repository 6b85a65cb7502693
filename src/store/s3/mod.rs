//! A store in a bucket at an S3 provider.
//!
//! Bodies are whole in memory, signed with their SHA-256 and sent with their MD5, so what a provider acknowledges is
//! what was sent. One call is one attempt; [`crate::store::layer::retry`] makes more of them. What is particular about
//! a provider is a row in [`provider`].
//!
//! In a bucket that keeps versions an object is the first of its versions, a lease the latest: `versions` knows which these are, and
//! an object that was changed is fetched by the id of its first one. A bucket that keeps none costs no request more.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};

use crate::blocking::blocking;
use crate::model::id::hex;
use crate::model::key::ObjectKey;
use crate::store::location::S3Location;
use crate::store::s3::answer::TakesObject;
use crate::store::s3::credentials::S3Credentials;
use crate::store::s3::progress::{SendInPieces, Sent};
use crate::store::s3::signing::SignDigest;
use crate::store::s3::versions::{BucketVersions, ObjectVersion, ObjectVersions, is_rewritten};
use crate::store::signs::Signs;
use crate::store::tampering::Tampered;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

mod answer;
mod client;
pub mod credentials;
mod error;
mod list;
mod progress;
pub mod provider;
mod signing;
mod versions;

/// What an object says it is. An answer of another type that looks like an error is one.
const CONTENT_TYPE: &str = "application/octet-stream";

/// How long one attempt may go without anything happening. A transfer that moves is never too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To make a connection.
    pub connect: Duration,
    /// For an answer to begin, once everything was sent.
    pub answer: Duration,
    /// Between two pieces of a body, in either direction.
    pub stall: Duration,
    /// What was handed to the system and still stands in its buffers is sent at least this fast, in bytes a second.
    pub bytes_per_second_min: u64,
}

impl Default for Timeouts {
    /// Ten seconds to connect, thirty for an answer, a minute without movement, 16 KiB a second.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            bytes_per_second_min: 16 << 10,
        }
    }
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its URL, with a user and password where it wants them; HOST:PORT means http.
    pub url: String,
    /// Hosts that are reached without it, with commas between: names with all below them, addresses, networks.
    pub except: String,
}

impl fmt::Debug for Proxy {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy(except {})", self.except)
    }
}

/// How a bucket is reached.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct S3Options {
    /// The keys, without which there is no store; [`credentials::find`] looks where they usually are.
    pub credentials: Option<S3Credentials>,
    /// The region to sign for, instead of the provider's.
    pub region: Option<String>,
    /// A file of certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy that requests go through.
    pub proxy: Option<Proxy>,
    /// How long one attempt may go without anything happening.
    pub timeouts: Timeouts,
}

/// A store in a bucket. Clones share connections.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    location: String,
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
    timeouts: Timeouts,
    signs: Signs,
    kept: Arc<BucketVersions>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({})", self.location)
    }
}

impl S3Store {
    /// Makes a store for `location`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::NoCredentials`] when there are no credentials, `NoCertificates` when the CA file is not one.
    pub fn open(location: &S3Location, options: &S3Options) -> Result<Self, StoreError> {
        let missing = || StoreError::new("open", location, StoreErrorKind::NoCredentials, "no credentials were given");
        let credentials = options.credentials.as_ref().ok_or_else(missing)?;
        let client = client::build(location, options, credentials)?;
        let prefix = if location.prefix.is_empty() { String::new() } else { format!("{}/", location.prefix) };
        Ok(Self {
            client,
            location: location.to_string(),
            bucket: location.bucket.clone(),
            prefix,
            timeouts: options.timeouts,
            signs: Signs::default(),
            kept: Arc::default(),
        })
    }

    fn name(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Waits for the answer to a request without a body.
    async fn answer<T>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (limit, _asked) = (self.timeouts.answer, self.signs.request());
        let answer = tokio::time::timeout(limit, request).await;
        let answer = answer.unwrap_or_else(|_| Err(timed_out(operation, subject, limit)));
        self.heard(&answer);
        answer
    }

    /// Notes an answer as a sign of life, and no failure of the way to the store.
    fn heard<T>(&self, answer: &Result<T, StoreError>) {
        if answer.as_ref().err().is_none_or(|error| !error.kind.is_outage()) {
            self.signs.note();
        }
    }

    /// Makes the error of a request about an object, and notes what its answer tells of versions.
    fn failed<E>(&self, operation: &'static str, key: &ObjectKey, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if let Some(response) = error.raw_response() {
            self.kept.note_id(response.headers().get("x-amz-version-id"));
            if response.headers().get("x-amz-delete-marker") == Some("true") {
                self.kept.note_marker();
            }
        }
        error::from_sdk(operation, key, error)
    }

    /// Sends an object once. `Ok(false)` is a success that does not look like one.
    async fn put_once(
        &self,
        key: &ObjectKey,
        body: Bytes,
        md5: &[u8; 16],
        transfer: &Transfer,
    ) -> Result<bool, StoreError> {
        let _asked = self.signs.request();
        let (bytes, sent) = (body.len() as u64, Sent::nothing(transfer.clone(), self.signs.clone()));
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.name(key))
            .content_length(bytes as i64)
            .content_type(CONTENT_TYPE)
            .content_md5(base64::encode(md5))
            .body(ByteStream::from(body.clone()))
            .customize()
            .interceptor(SendInPieces { body, sent: sent.clone() })
            .interceptor(SignDigest(transfer.digest()));
        tokio::select! {
            answer = request.send() => {
                let answer = answer.map_err(|error| self.failed("put", key, error));
                self.heard(&answer);
                let answer = answer?;
                self.kept.note_id(answer.version_id());
                Ok(answer.e_tag().is_some_and(|tag| tag_agrees(tag, md5) != Some(false)))
            }
            silence = sent.stalls(bytes, self.timeouts) => Err(timed_out("put", key, silence)),
        }
    }

    /// Tells whether the object is there as it was sent, after a put whose outcome is unknown. Where versions are kept, whether it is
    /// the one that counts.
    async fn is_stored(&self, key: &ObjectKey, size: u64, md5: &[u8; 16]) -> Result<bool, StoreError> {
        let (stored, tag) = match self.first_version(key).await? {
            Some(first) => first.map_or((None, None), |first| (Some(first.size), first.tag)),
            None => {
                let head = self.head_as_it_is(key).await?;
                (Some(head.size), head.tag)
            }
        };
        if stored != Some(size) {
            return Ok(false);
        }
        // Where the tag is no MD5 (server-side encryption), the size must do, except for leases: those are rewritten,
        // so an older one of equal size may be there.
        let agrees = tag.and_then(|tag| tag_agrees(&tag, md5));
        Ok(agrees.unwrap_or(!is_rewritten(key.as_str())))
    }

    /// Asks for size and tag of an object as it is now.
    async fn head_as_it_is(&self, key: &ObjectKey) -> Result<ObjectVersion, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(key));
        let answer =
            self.answer("head", key, async { request.send().await.map_err(|error| self.failed("head", key, error)) });
        let answer = answer.await?;
        self.kept.note_id(answer.version_id());
        let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let size = size.ok_or_else(|| error::false_success("head", key))?;
        let id = answer.version_id().unwrap_or_default().to_owned();
        Ok(ObjectVersion { id, size, tag: answer.e_tag().map(str::to_owned) })
    }

    /// Returns the first version of an object that is written once, which may be none. Outside of that, the outer `None`: where the
    /// bucket keeps no versions, as far as anything showed, where they cannot be listed, and of what is rewritten.
    async fn first_version(&self, key: &ObjectKey) -> Result<Option<Option<ObjectVersion>>, StoreError> {
        if is_rewritten(key.as_str()) || !self.kept.keeps() {
            return Ok(None);
        }
        Ok(self.look_up(key).await?.map(|(versions, _)| versions.first().cloned()))
    }

    /// Removes one version, or hides the latest. Tells whether the answer showed that versions are kept.
    async fn remove(&self, key: &ObjectKey, version: Option<String>) -> Result<bool, StoreError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.name(key)).set_version_id(version);
        let answer = self
            .answer("delete", key, async { request.send().await.map_err(|error| self.failed("delete", key, error)) });
        match answer.await {
            Ok(answer) if answer.delete_marker() == Some(true) => {
                self.kept.note_marker();
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gets an object, or the part of it that `range` names: its first version, where it is known that it was changed, or that it is
    /// hidden.
    async fn fetch(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let known = self.kept.first(key);
        match self.fetch_version(key, known.clone(), range.clone(), transfer).await {
            Err(missing) if missing.kind == StoreErrorKind::NotFound => match self.first_version(key).await? {
                Some(Some(first)) if known.as_ref() != Some(&first.id) => {
                    self.fetch_version(key, Some(first.id), range, transfer).await
                }
                _ => Err(missing),
            },
            answer => answer,
        }
    }

    /// Gets one version, or the object as it is now.
    async fn fetch_version(
        &self,
        key: &ObjectKey,
        version: Option<String>,
        range: Option<Range<u64>>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.name(key));
        let mut request = request.set_version_id(version);
        if let Some(range) = &range {
            request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
        }
        let request = request.customize().interceptor(TakesObject);
        let answer = self
            .answer("get", key, async { request.send().await.map_err(|error| self.failed("get", key, error)) })
            .await?;
        self.kept.note_id(answer.version_id());
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let wanted = range.as_ref().map(|range| range.end - range.start);
        if let Some(range) = &range {
            let start = answer.content_range().and_then(range_start);
            let is_other = start != Some(range.start) && !(start.is_none() && range.start == 0 && length == wanted);
            if is_other || length > wanted {
                let message = "the store answered with another range than was asked for";
                return Err(StoreError::new("get", key, StoreErrorKind::Unavailable, message));
            }
        }
        if let (Some(wanted), Some(length)) = (wanted, length)
            && wanted != length
        {
            let message = format!("{wanted} bytes were asked for, the store has {length}");
            return Err(StoreError::new("get", key, StoreErrorKind::Truncated, message));
        }
        let expected = wanted.or(length);
        transfer.check_length(key, expected.unwrap_or(0))?;
        let is_xml = answer.content_type().is_some_and(|kind| kind.contains("xml"));
        let _asked = self.signs.request();
        let body = self.receive(key, answer.body, expected, transfer).await?;
        if is_xml && body[..body.len().min(512)].windows(7).any(|window| window == b"<Error>") {
            return Err(error::false_success("get", key));
        }
        Ok(body)
    }

    /// Reads a body of `expected` bytes, never more. One that ends early broke off on its way: that is the connection's fault
    /// and says nothing about the object.
    async fn receive(
        &self,
        key: &ObjectKey,
        mut stream: ByteStream,
        expected: Option<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let (limit, stall) = (expected.unwrap_or(key.bytes_max()), self.timeouts.stall);
        let failed = |kind, message| StoreError::new("get", key, kind, message);
        let mut body = BytesMut::with_capacity(usize::try_from(expected.unwrap_or(0)).unwrap_or(0));
        loop {
            let next = tokio::time::timeout(stall, stream.next()).await.map_err(|_| timed_out("get", key, stall))?;
            let Some(piece) = next else { break };
            let piece = piece.map_err(|error| {
                let message = format!("the answer broke off after {} of {limit} bytes", body.len());
                failed(StoreErrorKind::Unavailable, message).with_source(error::root_cause(&error))
            })?;
            if expected.is_none() {
                transfer.check_length(key, (body.len() + piece.len()) as u64)?;
            }
            if (body.len() + piece.len()) as u64 > limit {
                let message = format!("the answer is longer than the {limit} bytes it announced");
                return Err(failed(StoreErrorKind::Unavailable, message));
            }
            for part in piece.chunks(transfer.part(piece.len()).max(1)) {
                // Meanwhile nothing more is taken off the connection.
                let wait = transfer.wait_for(part.len() as u64);
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                body.extend_from_slice(part);
                self.signs.note();
                transfer.reach(body.len() as u64);
            }
        }
        match expected {
            Some(expected) if body.len() as u64 != expected => {
                let message = format!("the answer broke off after {} of {expected} bytes", body.len());
                Err(failed(StoreErrorKind::Unavailable, message))
            }
            _ => Ok(body.freeze()),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn location(&self) -> &str {
        &self.location
    }

    /// Stores an object. When the outcome of the request is unclear (a time-out, a reset, a server error), looks whether
    /// the object is there before calling it a failure.
    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError> {
        let size = body.len() as u64;
        let md5 = digest(body.clone()).await;
        let failure = match self.put_once(key, body, &md5, transfer).await {
            Ok(true) => return Ok(()),
            Ok(false) => error::false_success("put", key),
            Err(failure) if failure.kind.is_outage() && failure.kind != StoreErrorKind::Throttled => failure,
            Err(failure) => return Err(failure),
        };
        match self.is_stored(key, size, &md5).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(failure),
        }
    }

    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
        self.fetch(key, None, transfer).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        match range.is_empty() {
            true => Ok(Bytes::new()),
            false => self.fetch(key, Some(range), transfer).await,
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        let of = |version: &ObjectVersion| ObjectInfo { key: key.clone(), size: version.size };
        let first =
            |first: Option<ObjectVersion>| first.as_ref().map(of).ok_or_else(|| StoreError::not_found("head", key));
        if let Some(version) = self.first_version(key).await? {
            return first(version);
        }
        let answer = self.head_as_it_is(key).await;
        match self.first_version(key).await? {
            // This answer was the first that showed that versions are kept.
            Some(version) => first(version),
            None => answer.map(|version| of(&version)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.list_all(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if is_rewritten(key.as_str()) || !self.kept.keeps() {
            let left_versions = self.remove(key, None).await?;
            if is_rewritten(key.as_str()) || !left_versions {
                return Ok(());
            }
        }
        let Some((_, versions)) = self.look_up(key).await? else {
            self.remove(key, None).await?;
            let message = "its versions are left, as these credentials may not list them";
            return Err(StoreError::new("delete", key, StoreErrorKind::Denied, message));
        };
        // The first one last: as long as it is there, it is the object.
        for version in versions {
            self.remove(key, Some(version)).await?;
        }
        self.kept.note(key, &ObjectVersions::default());
        Ok(())
    }

    async fn look_back(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let known = self.kept.first(key);
        let first = self.first_version(key).await?;
        Ok(first.is_some() && self.kept.first(key) != known)
    }

    fn tampered(&self) -> Tampered {
        self.kept.tampered()
    }

    fn signs(&self) -> Signs {
        self.signs.clone()
    }
}

/// Makes the error for a request of which nothing was heard or taken for that long.
fn timed_out(operation: &'static str, subject: impl fmt::Display, silence: Duration) -> StoreError {
    let message = format!("nothing moved for {} s", silence.as_secs_f64().ceil());
    StoreError::new(operation, subject, StoreErrorKind::TimedOut, message)
}

/// Returns the MD5 of `body`; a large one is digested away from the threads that drive the network.
async fn digest(body: Bytes) -> [u8; 16] {
    if body.len() < 64 << 10 {
        return Md5::digest(&body).into();
    }
    blocking(move || Md5::digest(&body).into()).await
}

/// Tells whether an entity tag agrees with an MD5, or `None` where the tag is none.
fn tag_agrees(tag: &str, md5: &[u8; 16]) -> Option<bool> {
    let tag = tag.trim_matches('"');
    let is_md5 = tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_md5.then(|| tag.eq_ignore_ascii_case(&hex(md5)))
}

/// Returns where a `Content-Range` such as `bytes 10-19/100` starts.
fn range_start(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_agrees_differs_or_says_nothing() {
        let md5: [u8; 16] = Md5::digest(b"hello").into();
        assert_eq!(tag_agrees("\"5d41402abc4b2a76b9719d911017c592\"", &md5), Some(true));
        assert_eq!(tag_agrees("5D41402ABC4B2A76B9719D911017C592", &md5), Some(true));
        assert_eq!(tag_agrees("\"00000000000000000000000000000000\"", &md5), Some(false));
        assert_eq!(tag_agrees("\"5d41402abc4b2a76b9719d911017c592-2\"", &md5), None);
    }

    #[test]
    fn a_content_range_tells_where_it_starts() {
        assert_eq!(range_start("bytes 10-19/100"), Some(10));
        assert_eq!(range_start("bytes */100"), None);
        assert_eq!(range_start(""), None);
    }
}
