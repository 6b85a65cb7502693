//! Decorators over a store, each with one concern.
//!
//! [`crate::store::open()`] assembles the ones that every run needs; `record` and `fault` are for tests, which put them
//! where they want to look or to break something. Each decorator writes out every method of the port, so that a new
//! method cannot slip past one of them.

#[cfg(any(test, feature = "internals"))]
pub mod fault;
pub mod limit;
mod outage;
#[cfg(any(test, feature = "internals"))]
pub mod record;
pub mod retry;

/// The methods of the port, as decorators count and match them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `Store::put`
    Put,
    /// `Store::get`
    Get,
    /// `Store::get_range`
    GetRange,
    /// `Store::head`
    Head,
    /// `Store::list`
    List,
    /// `Store::delete`
    Delete,
}

impl Operation {
    /// All of them, in the order in which they are listed to people.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "tests look at it"))]
    pub const ALL: [Operation; 6] =
        [Operation::Put, Operation::Get, Operation::GetRange, Operation::Head, Operation::List, Operation::Delete];

    /// Returns the name for people.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::GetRange => "get_range",
            Operation::Head => "head",
            Operation::List => "list",
            Operation::Delete => "delete",
        }
    }

    /// Tells whether it changes what the store holds.
    pub fn is_mutation(self) -> bool {
        matches!(self, Operation::Put | Operation::Delete)
    }
}
