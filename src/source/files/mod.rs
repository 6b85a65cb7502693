//! A file tree as a source: walked in tree order ahead of its consumer, opened and read without following links.
//!
//! [`Walk`] yields every entry once, a directory before its contents, names bytewise: the order of
//! [`crate::model::path::compare_paths`], so that it can be laid beside the tree of an earlier snapshot.
//! What cannot be read is told as a problem and the walk goes on.

mod directory;
mod exclude;
mod expand;
mod found;
mod options;
mod read;
mod roots;
mod walk;

pub(crate) use exclude::{argument, at_any_depth, line_of, why_unusable};
pub use expand::expand;
pub use found::{EntryError, FoundEntry, FoundKind};
pub use options::{Mark, WalkError, WalkOptions};
pub use read::FileReader;
pub use roots::root_names;
pub use walk::{Walk, Walked};
