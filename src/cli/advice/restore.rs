//! Reading what is stored: snapshots and paths that are not there, damage, a target that cannot take it.

use std::io;

use crate::cli::advice::Advice;
use crate::ops::LookError;
use crate::ops::dump::DumpError;
use crate::ops::restore::{PatternError, RestoreError};
use crate::ops::verify::VerifyError;
use crate::repository::reader::ReadError;
use crate::repository::reader::content::ContentError;
use crate::repository::snapshots::SnapshotError;
use crate::sink::error::TargetError;

/// Where a snapshot that is damaged leaves whoever wants it.
pub(super) const ANOTHER_SNAPSHOT: &str = "choose another snapshot; `coffre verify --read-data` tells what else is hit";

impl Advice for RestoreError {
    fn hint(&self) -> Option<String> {
        match self {
            RestoreError::Target(error) => error.hint(),
            RestoreError::NothingMatches { .. } | RestoreError::Look(LookError::NoSuchPath { .. }) => {
                Some("`coffre find PATTERN` and `coffre ls -R SNAPSHOT` tell what there is".into())
            }
            RestoreError::Look(error) => error.hint(),
            RestoreError::Read(error) => error.hint(),
            RestoreError::Cancelled => None,
        }
    }
}

impl Advice for TargetError {
    fn hint(&self) -> Option<String> {
        let is_file = matches!(self.source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory);
        let hint = "a file has that name; --target names a directory, and one file alone comes by `coffre dump SNAPSHOT:PATH > FILE`";
        is_file.then(|| hint.into())
    }
}

impl Advice for PatternError {
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Advice for DumpError {
    fn hint(&self) -> Option<String> {
        match self {
            DumpError::Look(LookError::NoSuchPath { .. } | LookError::Empty { .. }) => {
                Some("`coffre ls -R SNAPSHOT` lists what there is, and --job NAME chooses among jobs".into())
            }
            DumpError::Look(error) => error.hint(),
            DumpError::Damaged { .. } => Some(
                "`dump --salvage` writes what there is of a file or stream; another snapshot may have all of it, and `coffre verify \
                 --read-data` tells which"
                    .into(),
            ),
            DumpError::Unreachable { source, .. } => source.hint(),
            DumpError::Tree { source, .. } => source.hint(),
            DumpError::NoContent { .. } | DumpError::Output(_) | DumpError::Cancelled => None,
        }
    }
}

impl Advice for LookError {
    fn hint(&self) -> Option<String> {
        match self {
            LookError::Index(error) => error.hint(),
            LookError::Snapshots(error) => error.hint(),
            LookError::Tree(error) => error.hint(),
            LookError::Store(error) => error.hint(),
            LookError::Access(_) | LookError::NoSuchPath { .. } | LookError::Empty { .. } => None,
        }
    }
}

impl Advice for SnapshotError {
    fn hint(&self) -> Option<String> {
        match self {
            SnapshotError::Unknown(_) | SnapshotError::NoneFits => {
                Some("`coffre snapshots` lists what there is".into())
            }
            SnapshotError::Ambiguous { .. } => Some("write more digits of the id".into()),
            SnapshotError::Damaged { .. } => Some(ANOTHER_SNAPSHOT.into()),
            SnapshotError::Fetch { source, .. } | SnapshotError::List(source) => source.hint(),
            SnapshotError::LatestLost { instead: Some(instead), .. } => Some(format!(
                "the newest that is there is {instead}: write this id if it will do; `coffre verify` tells more"
            )),
            SnapshotError::LatestLost { instead: None, .. } => Some("`coffre verify` tells more".into()),
            SnapshotError::Key { .. } => None,
        }
    }
}

impl Advice for VerifyError {
    fn hint(&self) -> Option<String> {
        match self {
            VerifyError::Store(error) => error.hint(),
            VerifyError::Read(error) => error.hint(),
            VerifyError::Look(error) => error.hint(),
            VerifyError::Cancelled => None,
        }
    }
}

impl Advice for ReadError {
    fn hint(&self) -> Option<String> {
        match self {
            ReadError::Fetch { source, .. } => source.hint(),
            ReadError::Index(source) => source.hint(),
            ReadError::Part { source, .. } => source.hint(),
            ReadError::Unknown { .. }
            | ReadError::OtherLength { .. }
            | ReadError::NoPack { .. }
            | ReadError::Key { .. }
            | ReadError::Damaged { .. }
            | ReadError::Undecodable { .. }
            | ReadError::WrongChunk { .. }
            | ReadError::Recipe { .. }
            | ReadError::WrongRecipe { .. }
            | ReadError::Own { .. }
            | ReadError::Node { .. } => None,
        }
    }
}

impl Advice for ContentError {
    fn hint(&self) -> Option<String> {
        match self {
            ContentError::Chunk { source, .. } => source.hint(),
            ContentError::List { source, .. } => source.error.hint(),
            ContentError::Length { .. } => None,
        }
    }
}
