//! How things ended: the one value from which exit codes, advice, `--json` and records of runs are made.
//!
//! Every error of the library and every report says its outcome of itself, through [`Ended`]; an error that has a cause which knows
//! better says what that says. Nobody else looks into errors to find out what they mean.

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Outcome {
    /// Everything was done, and nothing was amiss.
    #[default]
    Clean,
    /// Nothing was found by what was looked for.
    NothingFound,
    /// Done, but something was amiss and named: entries that could not be read or written, a dump that shrank.
    Incomplete,
    /// Stored data is missing or wrong. Only the store can make it so: what is out of reach is never damaged.
    Damaged,
    /// A stream that was to be stored failed.
    FailedDump,
    /// The store cannot be reached.
    Unreachable,
    /// There is no repository.
    NoRepository,
    /// The key at hand opens nothing, or may not do this.
    WrongKey,
    /// What was asked for makes no sense.
    Usage,
    /// What was named is not there: a snapshot, a path, a database, a bucket.
    Missing,
    /// Somebody does not allow it: the store, a server, or what is there already.
    Refused,
    /// There is no room.
    Full,
    /// Somebody else does the same at the moment.
    Busy,
    /// Ending was asked for.
    Interrupted,
    /// Anything else.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 15] = [
        Outcome::Clean,
        Outcome::NothingFound,
        Outcome::Incomplete,
        Outcome::Damaged,
        Outcome::FailedDump,
        Outcome::Unreachable,
        Outcome::NoRepository,
        Outcome::WrongKey,
        Outcome::Usage,
        Outcome::Missing,
        Outcome::Refused,
        Outcome::Full,
        Outcome::Busy,
        Outcome::Interrupted,
        Outcome::Failed,
    ];

    /// Returns the worse of two: damage before what failed, that before what was amiss. Of equals it is the first.
    pub fn or_worse(self, other: Self) -> Self {
        let badness = |outcome| match outcome {
            Outcome::Clean => 0,
            Outcome::NothingFound | Outcome::Incomplete => 1,
            Outcome::Damaged => 3,
            _ => 2,
        };
        if badness(other) > badness(self) { other } else { self }
    }

    /// Returns its name in `--json` and in records: lower case, with spaces.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Clean => "clean",
            Outcome::NothingFound => "nothing found",
            Outcome::Incomplete => "incomplete",
            Outcome::Damaged => "damaged",
            Outcome::FailedDump => "failed dump",
            Outcome::Unreachable => "unreachable",
            Outcome::NoRepository => "no repository",
            Outcome::WrongKey => "wrong key",
            Outcome::Usage => "usage",
            Outcome::Missing => "missing",
            Outcome::Refused => "refused",
            Outcome::Full => "full",
            Outcome::Busy => "busy",
            Outcome::Interrupted => "interrupted",
            Outcome::Failed => "failed",
        }
    }
}

/// What tells how it ended: an error, a report, or whichever of both an operation returned.
pub trait Ended {
    /// Returns how it ended.
    fn outcome(&self) -> Outcome;
}

impl<R: Ended, E: Ended> Ended for Result<R, E> {
    fn outcome(&self) -> Outcome {
        match self {
            Ok(report) => report.outcome(),
            Err(error) => error.outcome(),
        }
    }
}

impl<T: Ended + ?Sized> Ended for std::sync::Arc<T> {
    fn outcome(&self) -> Outcome {
        (**self).outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
    }

    #[test]
    fn whatever_an_operation_returns_tells_how_it_ended() {
        struct Told(Outcome);
        impl Ended for Told {
            fn outcome(&self) -> Outcome {
                self.0
            }
        }
        let done: Result<Told, Told> = Ok(Told(Outcome::Incomplete));
        let failed: Result<Told, Told> = Err(Told(Outcome::Unreachable));
        assert_eq!((done.outcome(), failed.outcome()), (Outcome::Incomplete, Outcome::Unreachable));
    }
}
