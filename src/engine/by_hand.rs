//! What is restored by an engine's own programs: files into which streams were written as they are.

use crate::model::facts::StreamFacts;

/// A database, or what belongs to the server, whose streams stand there as files.
#[derive(Debug, Clone, Copy)]
pub struct DumpedFiles<'a> {
    /// The facts of its main stream.
    pub facts: &'a StreamFacts,
    /// Its name; for an engine without servers, the file that it was; of what belongs to the server nothing.
    pub database: &'a str,
    /// The file of its main stream.
    pub file: &'a str,
    /// The files of single tables that belong to it; none where they are not there.
    pub tables: &'a [String],
}
