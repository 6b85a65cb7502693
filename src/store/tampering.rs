//! What a place that keeps versions tells of objects that somebody overwrote or deleted, though nobody who keeps to the format does.
//!
//! Such a place gives every object but a lease as it was first written, so nothing is lost by it; that it was tried is worth telling.

use crate::model::key::ObjectKey;

/// What was done to an object that is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tampering {
    /// Something else was put under its name later.
    Overwritten,
    /// A delete marker hides it.
    Hidden,
}

/// What a store has seen of changes so far. [`Tampered::default`] is that of a place that keeps no versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tampered {
    /// The objects that were changed, in order of their names. They are given as they were first written.
    pub changed: Vec<(ObjectKey, Tampering)>,
    /// How many more were, of which the names were too many to be kept.
    pub more: u64,
    /// The place keeps versions, and the credentials do not allow to list them: objects are given as they are now.
    pub is_unseen: bool,
}
