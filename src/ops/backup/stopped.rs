//! Why a run ends before its work is done. Several threads may say something then: one of them has the reason, the others
//! were only stopped.

use crate::ops::backup::error::BackupError;
use crate::ops::backup::report::FailedStream;
use crate::repository::uploader::UploadStopped;
use crate::source::SourceError;
use crate::source::files::WalkError;

/// Why a thread of a run ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    /// A thread panicked.
    Panicked,
    /// A stream failed.
    Stream { name: String, source: SourceError },
    /// No stream could be kept; why the first could not.
    AllFailed(FailedStream),
    /// The walk could not begin.
    Walk(WalkError),
    /// A stream and a file have the same path.
    Taken { name: String },
    /// Ending was asked for.
    Cancelled,
    /// Uploading has stopped; the writer knows why.
    Upload,
    /// Another thread has ended the run, and says why.
    Elsewhere,
}

impl From<UploadStopped> for Stopped {
    fn from(_: UploadStopped) -> Self {
        Stopped::Upload
    }
}

impl Stopped {
    /// Chooses the reason among what several threads say.
    pub(super) fn choose(said: impl IntoIterator<Item = Self>) -> Option<Self> {
        said.into_iter().min_by_key(|stopped| match stopped {
            Stopped::Panicked => 0,
            Stopped::Stream { .. } | Stopped::AllFailed(_) | Stopped::Walk(_) | Stopped::Taken { .. } => 1,
            Stopped::Cancelled => 2,
            Stopped::Upload => 3,
            Stopped::Elsewhere => 4,
        })
    }

    /// The error for the caller, when uploading itself ended well.
    pub(super) fn into_error(self) -> BackupError {
        match self {
            Stopped::Cancelled => BackupError::Cancelled,
            Stopped::Stream { name, source } => BackupError::Stream { name, source },
            Stopped::AllFailed(FailedStream { name, source }) => BackupError::AllFailed { name, source },
            Stopped::Walk(error) => BackupError::Walk(error),
            Stopped::Taken { name } => {
                BackupError::StreamName { name, why: "a file or directory of this backup has this path".into() }
            }
            // The writer had a reason to stop, and the thread that ended the run one to end it: neither was told.
            Stopped::Panicked | Stopped::Upload | Stopped::Elsewhere => BackupError::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_reason_comes_before_those_that_were_only_stopped() {
        let choose = |said: Vec<Stopped>| Stopped::choose(said).map(|stopped| format!("{:?}", stopped.into_error()));
        let empty = || Arc::new(SourceError::Empty { name: "b".into(), stderr: Vec::new() });
        let all_failed = || Stopped::AllFailed(FailedStream { name: "a".into(), source: empty() });
        assert_eq!(choose(vec![]), None);
        assert_eq!(choose(vec![Stopped::Elsewhere, Stopped::Cancelled]).as_deref(), Some("Cancelled"));
        assert_eq!(choose(vec![Stopped::Upload, Stopped::Cancelled]).as_deref(), Some("Cancelled"));
        let told = choose(vec![Stopped::Cancelled, Stopped::Elsewhere, all_failed()]).expect("one");
        assert!(told.starts_with("AllFailed"), "{told}");
        assert_eq!(choose(vec![all_failed(), Stopped::Panicked]).as_deref(), Some("Internal"));
    }
}
