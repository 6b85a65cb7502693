//! The plan of a restore as engines see it: databases, the streams that each is made of, and what stands against it.

use std::path::PathBuf;

use crate::engine::adaptations::Adaptations;
use crate::engine::parts::{DumpAspect, DumpParts};
use crate::engine::place::Place;
use crate::model::facts::{Fact, FactValue, StreamFacts, fact};
use crate::model::path::EntryPath;

/// What a stream of an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A database, or all of it but the rows of some tables.
    Database,
    /// The rows of a single table.
    Table,
    /// What belongs to the server: roles, users.
    Globals,
}

/// A stream of the snapshot and what is known about it.
#[derive(Debug, Clone)]
pub struct StreamToRestore {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub kind: StreamKind,
    /// Its length.
    pub bytes: u64,
    /// The facts that were kept with it.
    pub facts: StreamFacts,
}

/// What would become of one database.
#[derive(Debug, Clone)]
pub struct DatabasePlan {
    /// What it was called.
    pub source: String,
    /// What it is to be called; for an engine without servers, the file.
    pub name: String,
    /// Whether there is one of this name.
    pub exists: bool,
    /// Whether that one is there on every server, and nobody has put anything into it: it may be replaced without being asked
    /// for.
    pub is_untouched: bool,
    /// What is restored goes into it, beside what it has: nothing makes room.
    pub is_added_to: bool,
    /// It was dumped from another kind of server than it goes into, so that their versions say nothing of each other.
    pub is_of_another_kind: bool,
    /// Connections to that one, where they are counted.
    pub connections: u64,
    /// Its main stream, then those of single tables.
    pub streams: Vec<StreamToRestore>,
}

impl DatabasePlan {
    /// Plans a database that keeps its name, without any stream yet.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            source: name.clone(),
            name,
            exists: false,
            is_untouched: false,
            is_added_to: false,
            is_of_another_kind: false,
            connections: 0,
            streams: Vec::new(),
        }
    }

    /// Returns the bytes of all its streams.
    pub fn stream_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.bytes).sum()
    }

    /// Returns its main stream.
    ///
    /// # Panics
    /// When it has no stream: no such plan is given to an engine.
    pub fn main(&self) -> &StreamToRestore {
        self.streams.first().expect("a plan has a main stream")
    }

    /// Returns a fact of its main stream.
    pub fn fact<T: FactValue>(&self, fact: Fact<T>) -> Option<T> {
        self.streams.first().and_then(|stream| stream.facts.get(fact))
    }

    /// Returns a fact of its main stream that is a text.
    pub fn text(&self, fact: Fact<String>) -> Option<&str> {
        self.streams.first().and_then(|stream| stream.facts.text(fact))
    }

    /// Tells whether there is something that would be lost, or only be kept under another name.
    pub fn replaces(&self) -> bool {
        self.exists && !self.is_untouched && !self.is_added_to
    }

    /// Returns the bytes that it took where it comes from.
    pub fn database_bytes(&self) -> u64 {
        self.fact(fact::DATABASE_BYTES).unwrap_or_else(|| self.stream_bytes())
    }
}

/// What an engine is asked before a restore.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Where it would be restored.
    pub place: &'a Place,
    /// What belongs to the server would be restored, and no database.
    pub are_globals: bool,
    /// The snapshot has what belongs to the server.
    pub has_globals: bool,
    /// What would be otherwise than it was.
    pub adaptations: &'a Adaptations,
    /// The parts that would be restored.
    pub parts: &'a DumpParts,
    /// Extensions that would be left out.
    pub skip_extensions: &'a [String],
}

impl Asked<'_> {
    /// Tells whether tables would be made, and in the tablespaces that they were in.
    pub fn needs_tablespaces(&self) -> bool {
        !self.adaptations.no_tablespaces && self.parts.aspect != DumpAspect::Rows
    }
}

/// What an engine found.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Version of what is restored into.
    pub server_version: String,
    /// Where that keeps its data, if it is on this machine.
    pub data_directory: Option<PathBuf>,
    /// What makes it impossible.
    pub obstacles: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}
