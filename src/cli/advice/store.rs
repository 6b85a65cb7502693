//! The store: what to look at when it refuses, is full or does not answer.

use std::io;

use crate::cli::advice::Advice;
use crate::cli::failure::chain;
use crate::model::outcome::{Ended, Outcome};
use crate::store::location::ParseLocationError;
use crate::store::{StoreError, StoreErrorKind};

impl Advice for StoreError {
    fn hint(&self) -> Option<String> {
        let hint = match self.kind {
            StoreErrorKind::Denied if is_of_the_system(self) => {
                "may this user read and write the repository's directory, and is it mounted for writing?"
            }
            StoreErrorKind::Denied | StoreErrorKind::NoCredentials => {
                "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) and what they may do here"
            }
            StoreErrorKind::NoSuchPlace => "check the spelling; buckets are made at the provider, not by coffre",
            StoreErrorKind::Full => "make room, or raise the quota; what is stored is safe and will be used",
            StoreErrorKind::UnknownHost => "is the endpoint spelled right? `s3://ENDPOINT/BUCKET/PREFIX`",
            StoreErrorKind::Untrusted => "name the authority's certificate with --ca-file FILE, or in COFFRE_CA_FILE",
            StoreErrorKind::Unavailable | StoreErrorKind::TimedOut => {
                "check the network and the endpoint; the same command goes on where this one ended"
            }
            StoreErrorKind::Unreadable => "copy the repository with ddrescue to a sound disk, and use the copy",
            StoreErrorKind::Throttled => "try fewer --connections, or --limit-upload",
            StoreErrorKind::NotFound
            | StoreErrorKind::NoCertificates
            | StoreErrorKind::Skewed
            | StoreErrorKind::Truncated
            | StoreErrorKind::TooLong
            | StoreErrorKind::Interrupted
            | StoreErrorKind::Other => return None,
        };
        Some(hint.into())
    }
}

/// Tells whether the system said it, as it does of a directory, and not a server.
fn is_of_the_system(error: &StoreError) -> bool {
    chain(error).any(|cause| cause.is::<io::Error>())
}

impl Advice for ParseLocationError {
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Ended for io::Error {
    fn outcome(&self) -> Outcome {
        match self.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Outcome::Full,
            _ => Outcome::Failed,
        }
    }
}

impl Advice for io::Error {
    fn hint(&self) -> Option<String> {
        None
    }
}
