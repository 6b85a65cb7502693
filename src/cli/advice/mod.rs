//! What helps against each error, one file a domain: the next command to type, or what to look at.
//!
//! How a run ends by an error the error itself says ([`Ended`]); what to do about it is the command line's to say, since it names flags and
//! commands. Advice is chosen by the kind of an error, never by its words; an error with a cause that knows better gives the cause's.
//! The one exception is what programs of others said, which has no kinds: [`database::client_hint`].

use std::error::Error;

use crate::cli::question::Left;
use crate::model::outcome::{Ended, Outcome};

mod backup;
mod client;
pub mod database;
mod forget;
mod open;
mod prune;
mod restore;
mod store;

/// What the command line says about an error besides the error's own words.
pub trait Advice: Error + Ended {
    /// Returns what to try, in one sentence without an end.
    fn hint(&self) -> Option<String>;
}

impl Ended for Left {
    fn outcome(&self) -> Outcome {
        Outcome::Interrupted
    }
}

impl Advice for Left {
    fn hint(&self) -> Option<String> {
        None
    }
}
