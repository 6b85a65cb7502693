//! What readers decided about a snapshot: that it is forgotten, or that it is held.

use crate::model::time::Timestamp;

/// That a snapshot was forgotten: it is left out of lists, and cleaning up may remove it when its grace time is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forgotten {
    /// When, to the second.
    pub when: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// That a snapshot is held: it is neither forgotten nor removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// Since when, to the second.
    pub when: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// Until when, to the second; without, until it is released.
    pub until: Option<Timestamp>,
}

impl Hold {
    /// Returns when it ends, for comparing: one without an end is behind all others.
    pub fn end(&self) -> (bool, Option<Timestamp>) {
        (self.until.is_none(), self.until)
    }

    /// Tells whether it is still in force at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
