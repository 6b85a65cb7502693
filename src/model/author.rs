//! Who wrote something: whoever holds the reader key, or one of the writers, which have keys of their own.

use std::fmt;

use crate::model::id::WriterId;

/// Stands for a reader where the id of a writer would stand.
const READER: [u8; WriterId::LEN] = [0; WriterId::LEN];

/// Who wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// A holder of the reader key.
    Reader,
    /// A writer.
    Writer(WriterId),
}

impl Author {
    /// Reads who is meant by the bytes of an author block.
    pub fn from_bytes(bytes: [u8; WriterId::LEN]) -> Self {
        if bytes == READER { Author::Reader } else { Author::Writer(WriterId(bytes)) }
    }

    /// Returns the bytes that stand in an author block.
    pub fn to_bytes(self) -> [u8; WriterId::LEN] {
        match self {
            Author::Reader => READER,
            Author::Writer(id) => id.0,
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Author::Reader => f.write_str("a reader"),
            Author::Writer(id) => write!(f, "writer {id}"),
        }
    }
}
