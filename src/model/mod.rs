//! Plain values without I/O: ids, object keys, paths, entries, snapshots, units and time.
//!
//! Everything here can be built in a test from literals. How these values become bytes is the business of
//! [`crate::format`].

pub mod anomaly;
pub mod author;
pub mod cleanup;
pub mod due;
pub mod entry;
pub mod facts;
pub mod forgetting;
pub mod hold;
pub mod id;
pub mod key;
pub mod outcome;
pub mod path;
mod record;
pub mod retention;
pub mod run;
pub mod series;
pub mod snapshot;
pub mod time;
pub mod units;
pub mod verified;
