//! Backing up: sources that are not there, dumps that failed, a store that did not take what was read.

use crate::cli::advice::Advice;
use crate::cli::advice::client::client_hint;
use crate::ops::backup::BackupError;
use crate::repository::trial::TrialError;
use crate::repository::uploader::UploadError;
use crate::repository::writer::CommitError;
use crate::source::SourceError;
use crate::source::files::WalkError;

impl Advice for BackupError {
    fn hint(&self) -> Option<String> {
        match self {
            BackupError::Vanished { .. } | BackupError::GivenUp => {
                Some("run it again: what was stored is found, and what was deleted is stored anew".into())
            }
            BackupError::Stream { source, .. } => source.hint(),
            BackupError::AllFailed { source, .. } => source.hint(),
            BackupError::Walk(error) => error.hint(),
            BackupError::Index(error) => error.hint(),
            BackupError::Parent(error) => error.hint(),
            BackupError::Upload(error) => error.hint(),
            BackupError::ThrownOut => Some(
                "whoever keeps the repository knows why: `coffre key add --writer` there gives this host a new key"
                    .into(),
            ),
            BackupError::Lease(error) => error.hint(),
            BackupError::LookBack(error) => error.hint(),
            BackupError::Commit(error) => error.hint(),
            BackupError::Unknown { source, .. } => source.hint(),
            BackupError::Nothing
            | BackupError::StreamName { .. }
            | BackupError::Access(_)
            | BackupError::Internal
            | BackupError::Cancelled
            | BackupError::Session(_) => None,
        }
    }
}

impl Advice for TrialError {
    fn hint(&self) -> Option<String> {
        match self {
            TrialError::Store(error) => error.hint(),
            TrialError::Altered(_) => Some(FAULTY.into()),
            TrialError::Access(_) | TrialError::Session(_) => None,
        }
    }
}

impl Advice for SourceError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            SourceError::Database(error) => return error.hint(),
            SourceError::CutOff { .. } => {
                "look at its error output; --no-dump-check stores a stream that only looks like a dump"
            }
            SourceError::Failed { stderr, .. } => {
                return client_hint(stderr).or_else(|| Some(BY_ITSELF.into()));
            }
            SourceError::Spawn { .. } => "is the program installed, and in PATH for this user?",
            SourceError::Empty { .. } => "an empty dump is never stored; does the command work by itself?",
            SourceError::Lost { .. } => {
                "run it again, with what gives the stream; what --command NAME -- CMD gives can be read again by itself"
            }
            SourceError::Own(_) => return None,
            SourceError::Killed { .. } | SourceError::Unfinished { .. } | SourceError::Io { .. } => BY_ITSELF,
        };
        Some(hint.into())
    }
}

pub const BY_ITSELF: &str = "run the command by itself to see why; earlier snapshots are untouched";

impl Advice for WalkError {
    fn hint(&self) -> Option<String> {
        match self {
            WalkError::Root { .. } => Some("is it spelled right, and mounted? Nothing was stored".into()),
            WalkError::NoRoots | WalkError::ExcludeFile { .. } | WalkError::Pattern { .. } | WalkError::Thread(_) => {
                None
            }
        }
    }
}

impl Advice for CommitError {
    fn hint(&self) -> Option<String> {
        match self {
            CommitError::Store(error) => error.hint(),
            CommitError::Altered(_) => Some(FAULTY.into()),
        }
    }
}

const FAULTY: &str = "nothing wrong was uploaded; test the memory of this machine (memtest86+) before it backs up again, and let \
                      another one run `coffre verify --read-data`";

impl Advice for UploadError {
    fn hint(&self) -> Option<String> {
        match self {
            UploadError::Pack { source, .. } | UploadError::Segment { source, .. } => source.hint(),
            UploadError::Altered { .. } | UploadError::AlteredSegment { .. } => Some(FAULTY.into()),
            UploadError::Index(error) => error.hint(),
        }
    }
}
