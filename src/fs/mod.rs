//! The system calls that sources and targets share: paths below a directory handle, stat, owners, extended attributes.
//!
//! Nothing here follows a symbolic link unless its name says so, and nothing leaves the directory it was given.

pub mod beneath;
pub mod owners;
pub mod stat;
pub mod xattrs;
