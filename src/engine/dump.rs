//! What an engine is asked to dump, in words that fit all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::database::chosen::ChosenDatabases;
use crate::database::spool::SPOOL_DIRECTORY;
use crate::database::tables::TableExclusions;
use crate::engine::place::Place;

/// Which databases are to be dumped, and how.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    /// Where they are.
    pub place: Place,
    /// All of the server, and what belongs to the server itself.
    pub all_databases: bool,
    /// Which of all are meant.
    pub chosen: ChosenDatabases,
    /// Tables that are left out, or their rows.
    pub exclusions: TableExclusions,
    /// With all databases, leave out what belongs to the server itself.
    pub no_globals: bool,
    /// Directory of the streams in the snapshot: the engine's name, or a directory below it when there are several servers.
    pub directory: String,
    /// Digest the rows of each table, so that a restore can tell whether they came back as they were.
    pub digests: bool,
    /// Streams that are read at the same time.
    pub jobs: usize,
    /// A directory with room for a copy of a database, for engines that need one.
    pub spool: PathBuf,
    /// What was said by the engine's own flags.
    pub flags: FlagValues,
}

impl DumpRequest {
    /// Asks for what is at `place`, one stream at a time, spooled in `/var/tmp` where that is needed, with nothing said by flags.
    /// Streams are in the directory `directory`.
    pub fn new(place: Place, directory: impl Into<String>) -> Self {
        Self {
            place,
            all_databases: false,
            chosen: ChosenDatabases::default(),
            exclusions: TableExclusions::default(),
            no_globals: false,
            digests: false,
            directory: directory.into(),
            jobs: 1,
            spool: SPOOL_DIRECTORY.into(),
            flags: FlagValues::default(),
        }
    }
}

/// A flag of `backup` that only one engine understands.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name on the command line, without the dashes.
    pub name: &'static str,
    /// Its help: imperative, no full stop.
    pub help: &'static str,
    /// What it takes.
    pub kind: FlagKind,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// Nothing: it is there or not.
    Switch,
    /// A size in bytes, as people write it: this one unless another is given.
    Size {
        /// The size that is meant without the flag.
        default: &'static str,
    },
}

/// What was said by flags of engines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlagValues(BTreeMap<String, u64>);

impl FlagValues {
    /// Says that a switch is on.
    pub fn switch_on(&mut self, flag: &str) {
        self.0.insert(flag.to_owned(), 1);
    }

    /// Says a size, in bytes.
    pub fn set_size(&mut self, flag: &str, bytes: u64) {
        self.0.insert(flag.to_owned(), bytes);
    }

    /// Tells whether a switch is on.
    pub fn is_on(&self, flag: &str) -> bool {
        self.0.contains_key(flag)
    }

    /// Returns a size, in bytes, if one was said.
    pub fn size(&self, flag: &str) -> Option<u64> {
        self.0.get(flag).copied()
    }
}
