//! Exit codes: stable, documented, and derived from the cause of an error in one place.

use std::process::{ExitCode, Termination};

use crate::cli::question::Left;
use crate::crypto::CryptoError;
use crate::ops::LookError;
use crate::ops::backup::BackupError;
use crate::ops::dump::DumpError;
use crate::ops::restore::{PatternError, RestoreError};
use crate::ops::restore_database::RestoreDatabaseError;
use crate::ops::verify::VerifyError;
use crate::repository::OpenError;
use crate::repository::index::IndexError;
use crate::repository::reader::ReadError;
use crate::repository::reader::content::ContentError;
use crate::repository::snapshots::SnapshotError;
use crate::source::files::WalkError;
use crate::store::location::ParseLocationError;
use crate::store::{StoreError, StoreErrorKind};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Done, but some entries could not be read or written; they were named.
    Incomplete = 3,
    /// Stored data is damaged.
    Damaged = 4,
    /// A command whose output was to be stored failed.
    Stream = 5,
    /// A replica cannot be reached.
    Unreachable = 7,
    /// There is no repository.
    NoRepository = 10,
    /// The passphrase or recovery identity is wrong.
    WrongKey = 12,
    /// It was interrupted.
    Interrupted = 130,
    /// Whoever read standard output went away before its end.
    ReaderGone = 141,
}

/// What `--help` says about exit codes.
pub const HELP: &str = "\
Exit codes: 0 done; 1 failed, or `find` found nothing; 2 usage; 3 done, but some entries could not be read or written; 4 stored data is \
damaged; 5 a dump command failed; 7 the store cannot be reached; 10 no repository; 12 wrong key; 130 interrupted; \
141 the reader of the output went away before its end";

/// A mistake on the command line that clap does not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Makes a usage error.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

impl Exit {
    /// Finds the code that an error leads to: the first cause that has one of its own.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = store_error(cause) {
        return match error.kind {
            kind if kind.is_outage() => Some(Exit::Unreachable),
            StoreErrorKind::Interrupted => Some(Exit::Interrupted),
            // Keys are missing, or cannot be read: nothing was asked of the store.
            StoreErrorKind::Denied if error.operation == "open" && error.source.is_none() => Some(Exit::Usage),
            _ => None,
        };
    }
    if cause.is::<Left>() {
        return Some(Exit::Interrupted);
    }
    if cause.is::<UsageError>() || cause.is::<ParseLocationError>() || cause.is::<PatternError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = cause.downcast_ref::<OpenError>() {
        return match error {
            OpenError::Missing { .. } => Some(Exit::NoRepository),
            OpenError::WrongKey { .. } | OpenError::MistypedRecovery | OpenError::WriterOnly => Some(Exit::WrongKey),
            OpenError::Damaged { .. } | OpenError::RolledBack { .. } => Some(Exit::Damaged),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<BackupError>() {
        return match error {
            BackupError::Nothing | BackupError::StreamName { .. } => Some(Exit::Usage),
            BackupError::Stream { .. } | BackupError::AllFailed { .. } => Some(Exit::Stream),
            BackupError::Walk(WalkError::NoRoots | WalkError::ExcludeFile { .. } | WalkError::Pattern { .. }) => {
                Some(Exit::Usage)
            }
            BackupError::Cancelled => Some(Exit::Interrupted),
            _ => None,
        };
    }
    match cause.downcast_ref::<RestoreError>() {
        Some(RestoreError::WriterOnly) => return Some(Exit::WrongKey),
        Some(RestoreError::Cancelled) => return Some(Exit::Interrupted),
        _ => {}
    }
    match cause.downcast_ref::<RestoreDatabaseError>() {
        Some(RestoreDatabaseError::Cancelled { .. }) => return Some(Exit::Interrupted),
        Some(RestoreDatabaseError::Several { .. }) => return Some(Exit::Usage),
        _ => {}
    }
    match cause.downcast_ref::<VerifyError>() {
        Some(VerifyError::WriterOnly) => return Some(Exit::WrongKey),
        Some(VerifyError::Cancelled) => return Some(Exit::Interrupted),
        _ => {}
    }
    if let Some(DumpError::Cancelled) = cause.downcast_ref() {
        return Some(Exit::Interrupted);
    }
    if is_damage(cause) {
        return Some(Exit::Damaged);
    }
    if let Some(LookError::WriterOnly) = cause.downcast_ref() {
        return Some(Exit::WrongKey);
    }
    cause.is::<CryptoError>().then_some(Exit::Damaged)
}

/// Tells whether a cause says that stored data is missing or wrong.
fn is_damage(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref().is_some_and(ReadError::is_damage)
        || cause.downcast_ref().is_some_and(ContentError::is_damage)
        || cause.downcast_ref().is_some_and(SnapshotError::is_damage)
        || matches!(cause.downcast_ref(), Some(IndexError::Damaged { .. }))
}

/// Returns the store's error in a link of a chain of causes.
pub(super) fn store_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a StoreError> {
    let shared = cause.downcast_ref::<std::sync::Arc<StoreError>>().map(|error| &**error);
    cause.downcast_ref::<StoreError>().or(shared)
}

/// Tells whether a request was dropped because ending was asked for.
pub(super) fn is_interrupted(error: &anyhow::Error) -> bool {
    error.chain().filter_map(store_error).any(|error| error.kind == StoreErrorKind::Interrupted)
}

/// Tells whether the store refused for want of rights.
pub(super) fn is_denied(error: &anyhow::Error) -> bool {
    error.chain().filter_map(store_error).any(|error| error.kind.is_forbidden())
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_decides_the_code() {
        let missing = OpenError::Missing { location: "/x".into() };
        assert_eq!(Exit::of(&anyhow::Error::new(missing).context("opening")), Exit::NoRepository);
        let outage = StoreError::new("put", "x", StoreErrorKind::Unavailable, "refused");
        assert_eq!(Exit::of(&BackupError::Commit(outage).into()), Exit::Unreachable);
        assert_eq!(Exit::of(&usage("no")), Exit::Usage);
        assert_eq!(Exit::of(&anyhow::anyhow!("something")), Exit::Failed);
    }

    #[test]
    fn help_names_every_code() {
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Incomplete, Exit::Damaged, Exit::Stream] {
            assert!(HELP.contains(&format!("{} ", exit as u8)), "{exit:?}");
        }
        for exit in [Exit::Unreachable, Exit::NoRepository, Exit::WrongKey, Exit::Interrupted, Exit::ReaderGone] {
            assert!(HELP.contains(&format!("{} ", exit as u8)), "{exit:?}");
        }
    }
}
