//! Why an entry could not be put.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::model::outcome::{Ended, Outcome};
use crate::model::path::display_bytes;

/// Why an entry could not be put.
#[derive(Debug, thiserror::Error)]
#[error("{}: could not {action}", self.subject())]
pub struct TargetError {
    /// The path below the target.
    pub path: PathBuf,
    /// What was tried.
    pub action: &'static str,
    /// What kind of failure it was.
    pub cause: Obstacle,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl Ended for TargetError {
    fn outcome(&self) -> Outcome {
        match self.cause {
            Obstacle::Full => Outcome::Full,
            Obstacle::Taken | Obstacle::Filled => Outcome::Refused,
            Obstacle::Other => Outcome::Failed,
        }
    }
}

/// What kind of failure met an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no room, or a quota is used up.
    Full,
    /// The name was not there before and is now: it is the same as another's here, or somebody made it meanwhile.
    Taken,
    /// A directory with something in it has the name.
    Filled,
    /// Something else.
    Other,
}

impl TargetError {
    /// Returns the path as people read it.
    pub fn subject(&self) -> String {
        display_bytes(self.path.as_os_str().as_bytes()).to_string()
    }

    pub(super) fn new(path: &[u8], action: &'static str, source: io::Error) -> Self {
        let cause = if is_full(&source) { Obstacle::Full } else { Obstacle::Other };
        Self { path: OsStr::from_bytes(path).into(), action, cause, source }
    }

    pub(crate) fn because(path: &[u8], action: &'static str, cause: Obstacle) -> Self {
        let why = match cause {
            Obstacle::Taken => "another entry has the same name here, or somebody made it meanwhile; that one stays",
            Obstacle::Filled => "a directory with something in it has this name",
            Obstacle::Full | Obstacle::Other => "it is not possible here",
        };
        Self { path: OsStr::from_bytes(path).into(), action, cause, source: io::Error::other(why) }
    }
}

pub(super) fn failed<'a>(path: &'a [u8], action: &'static str) -> impl Fn(Errno) -> TargetError + 'a {
    move |errno| TargetError::new(path, action, errno.into())
}

/// Says what the system would say when there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
