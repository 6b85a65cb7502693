//! Where a replica is, as people write it.
//!
//! ```text
//! /srv/backup                            a directory (also file:///srv/backup, or a relative path)
//! s3://hetzner-fsn1/bucket/prefix        a bucket at a provider of the table in `s3::provider`
//! s3://s3.example.org:9000/bucket/pre    a bucket at any endpoint, over HTTPS
//! s3+http://127.0.0.1:9000/bucket        the same without TLS, for the loopback and for tests
//! memory:NAME                            the memory of this process, for tests
//! ```
//!
//! A location never holds a secret: one with a user name or a query is refused, and not repeated in the error.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::model::outcome::{Ended, Outcome};
use crate::model::path::display_bytes;
use crate::store::s3::provider::{self, Provider};

/// Where a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// A bucket, and a prefix in it.
    S3(S3Location),
    /// A named store in the memory of this process.
    Memory(String),
}

/// A bucket at an S3 endpoint, and a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// The endpoint as it was written: a provider's short name, or `host[:port]`.
    pub written_endpoint: String,
    /// The endpoint to connect to, `host[:port]`.
    pub endpoint: String,
    /// Whether to speak TLS.
    pub tls: bool,
    /// The bucket.
    pub bucket: String,
    /// What all names in the bucket begin with; empty, or without a slash at either end.
    pub prefix: String,
    /// What is known of the provider.
    pub provider: &'static Provider,
}

/// Why a text is not a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLocationError {
    /// Nothing was written.
    #[error("the location is empty; write a directory such as /srv/backup or s3://ENDPOINT/BUCKET/PREFIX")]
    Empty,
    /// The scheme is not one of ours.
    #[error("{0}: is not a kind of location; write a directory, file://, s3:// or s3+http://")]
    Scheme(String),
    /// The location of a file is not absolute.
    #[error("{0} is not a local path; write three slashes, as in file:///srv/backup")]
    File(String),
    /// A user, a password or a query was written into the location.
    #[error(
        "a location must not hold a user name, a password or a query; credentials come from the environment, a profile or the configuration file"
    )]
    Secret,
    /// The endpoint is missing or malformed.
    #[error("{0:?} is not an endpoint; write HOST, HOST:PORT or a provider such as hetzner-fsn1")]
    Endpoint(String),
    /// A single word that is no provider's name stands where the endpoint belongs.
    #[error("{0:?} is not a provider; write s3://ENDPOINT/BUCKET/PREFIX with a host name or one of: {known}", known = provider_names())]
    Provider(String),
    /// The bucket is missing or malformed.
    #[error("{0:?} is not a bucket name; write s3://ENDPOINT/BUCKET/PREFIX")]
    Bucket(String),
    /// The prefix holds an empty part, `.` or `..`.
    #[error("{0:?} is not a prefix; write names with single slashes between them")]
    Prefix(String),
    /// The name of a store in memory is missing.
    #[error("a location in memory needs a name, as in memory:test")]
    Memory,
}

impl Ended for ParseLocationError {
    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

impl Location {
    /// Returns the place in one spelling, so that what is remembered of it is found however it is written: directories from
    /// the root, endpoints in lower case and without the usual port. Symbolic links stay, since another place behind one is another place.
    pub fn canonical(&self) -> String {
        match self {
            Location::Directory(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let path: PathBuf = path.components().collect();
                display_bytes(path.as_os_str().as_bytes()).to_string()
            }
            Location::S3(s3) => {
                let (scheme, port) = if s3.tls { ("s3", ":443") } else { ("s3+http", ":80") };
                let endpoint = s3.endpoint.to_ascii_lowercase();
                let host = endpoint.strip_suffix(port).unwrap_or(&endpoint);
                let slash = if s3.prefix.is_empty() { "" } else { "/" };
                format!("{scheme}://{host}/{}{slash}{}", s3.bucket, s3.prefix)
            }
            Location::Memory(name) => format!("memory:{name}"),
        }
    }

    /// Returns the ISO 3166 code of the country where this lies, where the provider is known.
    pub fn country(&self) -> Option<&'static str> {
        match self {
            Location::S3(s3) => s3.provider.country,
            Location::Directory(_) | Location::Memory(_) => None,
        }
    }
}

impl FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, ParseLocationError> {
        if text.is_empty() {
            return Err(ParseLocationError::Empty);
        }
        if let Some(name) = text.strip_prefix("memory:") {
            return if name.is_empty() {
                Err(ParseLocationError::Memory)
            } else {
                Ok(Location::Memory(name.to_owned()))
            };
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return S3Location::parse(rest, true).map(Location::S3);
        }
        if let Some(rest) = text.strip_prefix("s3+http://") {
            return S3Location::parse(rest, false).map(Location::S3);
        }
        if let Some(path) = text.strip_prefix("file://") {
            let absolute = Path::new(path).is_absolute();
            return if absolute {
                Ok(Location::Directory(path.into()))
            } else {
                Err(ParseLocationError::File(text.into()))
            };
        }
        match text.split_once(':') {
            // A path may hold a colon, after a slash; before one, it is a scheme that somebody meant.
            Some((scheme, _)) if !scheme.contains('/') && !scheme.starts_with('.') => {
                Err(ParseLocationError::Scheme(scheme.to_owned()))
            }
            _ => Ok(Location::Directory(text.into())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Directory(path) => path.display().fmt(f),
            Location::S3(s3) => s3.fmt(f),
            Location::Memory(name) => write!(f, "memory:{name}"),
        }
    }
}

impl S3Location {
    fn parse(rest: &str, tls: bool) -> Result<Self, ParseLocationError> {
        let (written_endpoint, path) = rest.split_once('/').unwrap_or((rest, ""));
        if written_endpoint.contains('@') || rest.contains('?') || rest.contains('#') {
            return Err(ParseLocationError::Secret);
        }
        let path = path.trim_end_matches('/');
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let (endpoint, provider) = resolve(written_endpoint)?;
        let bucket_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(bucket_character) || bucket.chars().all(|c| c == '.') {
            return Err(ParseLocationError::Bucket(bucket.to_owned()));
        }
        let unsound = |part: &str| matches!(part, "" | "." | "..") || part.chars().any(char::is_control);
        if !prefix.is_empty() && prefix.split('/').any(unsound) {
            return Err(ParseLocationError::Prefix(prefix.to_owned()));
        }
        Ok(Self {
            written_endpoint: written_endpoint.to_owned(),
            endpoint,
            tls,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            provider,
        })
    }

    /// Returns the URL to send requests to.
    pub fn endpoint_url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.endpoint)
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "s3" } else { "s3+http" };
        write!(f, "{scheme}://{}/{}", self.written_endpoint, self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// Returns the host and port that `written` means, and the provider there.
fn resolve(written: &str) -> Result<(String, &'static Provider), ParseLocationError> {
    if let Some(provider) = provider::by_name(written) {
        return Ok((provider.endpoint.expect("a named provider has one").to_owned(), provider));
    }
    let malformed = || ParseLocationError::Endpoint(written.to_owned());
    let (host, port) = match written.strip_prefix('[') {
        Some(bracketed) => {
            let (address, after) = bracketed.split_once(']').ok_or_else(malformed)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| malformed())?;
            (address, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(malformed)?) })
        }
        None => {
            let (host, port) = written.split_once(':').map_or((written, None), |(host, port)| (host, Some(port)));
            if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
                return Err(malformed());
            }
            (host, port)
        }
    };
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(malformed());
    }
    // A bare word is a provider or a bucket that somebody put first; a host inside a network may have a port.
    if port.is_none() && !host.contains(['.', ':']) && host != "localhost" {
        return Err(ParseLocationError::Provider(written.to_owned()));
    }
    Ok((written.to_owned(), provider::by_endpoint(written)))
}

fn provider_names() -> String {
    provider::PROVIDERS.iter().map(|provider| provider.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(text: &str) -> S3Location {
        match text.parse() {
            Ok(Location::S3(location)) => location,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn directories_are_paths_or_file_urls() {
        for (text, path) in [
            ("/srv/backup", "/srv/backup"),
            ("file:///srv/backup", "/srv/backup"),
            ("backup", "backup"),
            ("./a:b", "./a:b"),
            ("/a:b", "/a:b"),
        ] {
            assert_eq!(text.parse(), Ok(Location::Directory(path.into())), "{text}");
        }
    }

    #[test]
    fn a_provider_stands_for_its_endpoint_and_is_shown_as_written() {
        let location = s3("s3://hetzner-fsn1/bucket/a/b/");
        assert_eq!(location.endpoint_url(), "https://fsn1.your-objectstorage.com");
        assert_eq!((location.bucket.as_str(), location.prefix.as_str()), ("bucket", "a/b"));
        assert_eq!(location.to_string(), "s3://hetzner-fsn1/bucket/a/b");
        assert_eq!(Location::S3(location).country(), Some("DE"));
        assert_eq!(s3("s3://S3.fr-par.scw.cloud/bucket").provider.name, "scaleway-fr-par");
    }

    #[test]
    fn a_place_has_one_spelling() {
        let canonical = |text: &str| text.parse::<Location>().expect("a location").canonical();
        for (same, as_this) in [
            ("s3://HETZNER-fsn1.example/b/p/", "s3://hetzner-fsn1.example/b/p"),
            ("s3://Fsn1.your-objectstorage.com:443/b", "s3://hetzner-fsn1/b"),
            ("s3+http://localhost:80/b", "s3+http://localhost/b"),
            ("file:///srv/./backup/", "/srv/backup"),
            ("target", "./target/"),
        ] {
            assert_eq!(canonical(same), canonical(as_this), "{same}");
        }
        for (one, other) in
            [("s3://h.example/b", "s3+http://h.example/b"), ("/a/b", "/a"), ("s3://h.example/b", "s3://h.example/B")]
        {
            assert_ne!(canonical(one), canonical(other), "{one}");
        }
        assert_eq!(canonical("/srv/two\nlines"), "/srv/two\\x0alines");
        assert!(canonical("somewhere").starts_with('/'));
    }

    #[test]
    fn any_endpoint_will_do() {
        for (text, url) in [
            ("s3://s3.example.org/b", "https://s3.example.org"),
            ("s3://minio:9000/b", "https://minio:9000"),
            ("s3+http://127.0.0.1:7480/b/p", "http://127.0.0.1:7480"),
            ("s3+http://[::1]:7480/b", "http://[::1]:7480"),
            ("s3+http://localhost/b", "http://localhost"),
        ] {
            let location = s3(text);
            assert_eq!(location.endpoint_url(), url);
            assert_eq!(location.to_string(), text);
            assert_eq!(location.provider.name, "other");
        }
    }

    #[test]
    fn what_is_no_location_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("sftp://host/x", "sftp: is not a kind"),
            ("S3://host/x", "S3: is not a kind"),
            ("file://srv/backup", "three slashes"),
            ("memory:", "needs a name"),
            ("s3://", "\"\" is not an endpoint"),
            ("s3://bucket/prefix", "\"bucket\" is not a provider"),
            ("s3://host.example", "is not a bucket"),
            ("s3://host.example/", "is not a bucket"),
            ("s3://host.example/b%20", "is not a bucket"),
            ("s3://host.example/../x", "is not a bucket"),
            ("s3://host.example/b//x", "is not a prefix"),
            ("s3://host.example/b/../x", "is not a prefix"),
            ("s3://host.example:0/b", "is not an endpoint"),
            ("s3://host.example:http/b", "is not an endpoint"),
            ("s3://[::1/b", "is not an endpoint"),
        ] {
            let error = text.parse::<Location>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_in_a_location_are_refused_and_not_repeated() {
        for text in ["s3://key:hunter2@host.example/b", "s3://host.example/b?secret=hunter2"] {
            let error = text.parse::<Location>().expect_err(text);
            assert_eq!(error, ParseLocationError::Secret);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
