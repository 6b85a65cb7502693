//! Exit codes: stable, documented, and made from how a run ended in one place.

use std::process::{ExitCode, Termination};

use crate::cli::failure::Failure;
use crate::model::outcome::Outcome;

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
    /// Another run of this host does the same.
    Busy = 11,
    /// The passphrase or recovery identity is wrong.
    WrongKey = 12,
    /// It was interrupted.
    Interrupted = 130,
    /// Whoever read standard output went away before its end.
    ReaderGone = 141,
}

/// What `--help` says about exit codes.
pub const HELP: &str = "\
Exit codes: 0 done; 1 failed, or `find` found nothing; 2 usage; 3 done, but something was amiss: entries that could not be read or written, a backup that is odd beside earlier ones or that `status` finds too old; 4 stored data is \
damaged; 5 a dump command failed; 7 the store cannot be reached; 10 no repository; 11 busy: another run, or clean-up, of this host is at it; 12 wrong key, or another repository than the one expected; 130 interrupted; \
141 the reader of the output went away before its end";

/// Makes the failure that a mistake on the command line is which clap does not see.
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Outcome::Usage, message)
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Clean => Exit::Done,
            Outcome::Incomplete => Exit::Incomplete,
            Outcome::Damaged => Exit::Damaged,
            Outcome::FailedDump => Exit::Stream,
            Outcome::Unreachable => Exit::Unreachable,
            Outcome::NoRepository => Exit::NoRepository,
            Outcome::Busy => Exit::Busy,
            Outcome::WrongKey => Exit::WrongKey,
            Outcome::Usage => Exit::Usage,
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::NothingFound | Outcome::Missing | Outcome::Refused | Outcome::Full | Outcome::Failed => {
                Exit::Failed
            }
        }
    }
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
    fn every_outcome_has_the_code_that_the_readme_gives_it() {
        let codes = Outcome::ALL.map(|outcome| (outcome.name(), Exit::from(outcome) as u8));
        let expected = [
            ("clean", 0),
            ("nothing found", 1),
            ("incomplete", 3),
            ("damaged", 4),
            ("failed dump", 5),
            ("unreachable", 7),
            ("no repository", 10),
            ("wrong key", 12),
            ("usage", 2),
            ("missing", 1),
            ("refused", 1),
            ("full", 1),
            ("busy", 11),
            ("interrupted", 130),
            ("failed", 1),
        ];
        assert_eq!(codes, expected);
        let page = include_str!("../../README.md");
        for (outcome, code) in expected {
            assert!(page.contains(&format!("| {code} | ")), "{outcome}: {code}");
        }
    }

    #[test]
    fn help_names_every_code() {
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Incomplete, Exit::Damaged, Exit::Stream] {
            assert!(HELP.contains(&format!("{} ", exit as u8)), "{exit:?}");
        }
        for exit in
            [Exit::Unreachable, Exit::Busy, Exit::NoRepository, Exit::WrongKey, Exit::Interrupted, Exit::ReaderGone]
        {
            assert!(HELP.contains(&format!("{} ", exit as u8)), "{exit:?}");
        }
    }
}
