//! Kinds of anomalies: what may be odd about a root or a stream beside what it used to be.

use std::fmt;

/// Anomalies that a snapshot keeps, at most; any beyond were told when it was made.
pub const ANOMALIES_MAX: usize = 64;

/// What is odd about a root or a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    /// It holds much less than it used to.
    Shrank,
    /// It holds much more than it used to.
    Grew,
    /// Many of its files were changed or are gone.
    Changed,
    /// Many of its files came to look like random bytes, as those that somebody encrypted do.
    Random,
    /// The database has fewer tables than it used to have.
    LostTables,
    /// What a newer program notices.
    Other(String),
}

impl AnomalyKind {
    /// Those that this program notices.
    pub const KNOWN: [AnomalyKind; 5] =
        [AnomalyKind::Shrank, AnomalyKind::Grew, AnomalyKind::Changed, AnomalyKind::Random, AnomalyKind::LostTables];

    /// Returns its name, as snapshots and programs have it.
    pub fn name(&self) -> &str {
        match self {
            AnomalyKind::Shrank => "shrank",
            AnomalyKind::Grew => "grew",
            AnomalyKind::Changed => "changed",
            AnomalyKind::Random => "random",
            AnomalyKind::LostTables => "lost tables",
            AnomalyKind::Other(name) => name,
        }
    }

    /// Returns what is called `name`.
    pub fn of_name(name: &str) -> Self {
        Self::KNOWN.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| AnomalyKind::Other(name.to_owned()))
    }

    /// Tells whether every run compares with what was before it began, so that it is seen anew for as long as it lasts. What changed
    /// once is seen by one run alone.
    pub fn is_seen_again(&self) -> bool {
        matches!(self, AnomalyKind::Shrank | AnomalyKind::Grew | AnomalyKind::LostTables)
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_and_what_is_not_known_keeps_its_own() {
        for kind in AnomalyKind::KNOWN {
            assert_eq!(AnomalyKind::of_name(kind.name()), kind);
        }
        assert_eq!(AnomalyKind::of_name("renamed"), AnomalyKind::Other("renamed".into()));
    }
}
