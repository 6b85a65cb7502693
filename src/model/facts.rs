//! Facts: what is kept about a stream beside its bytes, each a value with a name.
//!
//! A snapshot stores names and texts, and [`StreamFacts`] holds exactly those, known or not. Values go in and come out by a
//! [`Fact`], the one place where a name and its type stand. Those in [`fact`] mean the same for every source; what only one engine
//! of databases keeps is declared in its own folder.

use std::collections::BTreeMap;
use std::marker::PhantomData;

/// A name, and the type of what is kept under it.
#[derive(Debug)]
pub struct Fact<T> {
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Fact<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Fact<T> {}

impl<T> Fact<T> {
    /// Declares a fact.
    pub const fn new(name: &'static str) -> Self {
        Self { name, value: PhantomData }
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// A value that is stored as text.
pub trait FactValue: Sized {
    /// Writes the text.
    fn to_text(&self) -> String;

    /// Reads it; `None` when it is not understood.
    fn from_text(text: &str) -> Option<Self>;
}

impl FactValue for String {
    fn to_text(&self) -> String {
        self.clone()
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FactValue for u64 {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FactValue for i64 {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The facts of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFacts(BTreeMap<String, String>);

impl StreamFacts {
    /// Returns a value; `None` when it is not there or not understood.
    pub fn get<T: FactValue>(&self, fact: Fact<T>) -> Option<T> {
        self.0.get(fact.name).and_then(|text| T::from_text(text))
    }

    /// Returns a text.
    pub fn text(&self, fact: Fact<String>) -> Option<&str> {
        self.0.get(fact.name).map(String::as_str)
    }

    /// Tells whether something is kept under the name.
    pub fn has<T>(&self, fact: Fact<T>) -> bool {
        self.0.contains_key(fact.name)
    }

    /// Keeps a value.
    pub fn set<T: FactValue>(&mut self, fact: Fact<T>, value: T) {
        self.0.insert(fact.name.to_owned(), value.to_text());
    }

    /// Keeps a value if there is one.
    pub fn set_some<T: FactValue>(&mut self, fact: Fact<T>, value: Option<T>) {
        if let Some(value) = value {
            self.set(fact, value);
        }
    }

    /// Forgets a value.
    pub fn remove<T>(&mut self, fact: Fact<T>) {
        self.0.remove(fact.name);
    }

    /// Adds what others have, which wins.
    pub fn extend(&mut self, others: StreamFacts) {
        self.0.extend(others.0);
    }

    /// Returns names and texts as they are stored, by name.
    pub fn texts(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl From<BTreeMap<String, String>> for StreamFacts {
    fn from(texts: BTreeMap<String, String>) -> Self {
        Self(texts)
    }
}

/// Facts that mean the same whatever the stream comes from.
pub mod fact {
    use super::Fact;

    /// The engine of the database, by its name: `postgres`, `mysql`, `sqlite`.
    pub const ENGINE: Fact<String> = Fact::new("engine");
    /// What the engine calls this kind of stream: `postgres custom`.
    pub const FORMAT: Fact<String> = Fact::new("format");
    /// What the server calls its own version.
    pub const SERVER_VERSION: Fact<String> = Fact::new("server_version");
    /// Version of the program that made the dump.
    pub const CLIENT_VERSION: Fact<String> = Fact::new("client_version");
    /// The database; streams of a whole server have none.
    pub const DATABASE: Fact<String> = Fact::new("database");
    /// Path of the file that is the database, of an engine without servers.
    pub const FILE: Fact<String> = Fact::new("file");
    /// Size of the database where it was dumped, in bytes.
    pub const DATABASE_BYTES: Fact<u64> = Fact::new("database_bytes");
    /// Rows that the server believes to have.
    pub const ROWS_ESTIMATE: Fact<u64> = Fact::new("rows_estimate");
    /// Rows that are in the dump, where they were counted.
    pub const ROWS: Fact<u64> = Fact::new("rows");
    /// Tables whose rows were counted, and that are not kept by name.
    pub const TABLES_UNLISTED: Fact<u64> = Fact::new("tables_unlisted");
    /// On the main stream of a split dump: how many tables have streams of their own.
    pub const PARTS: Fact<u64> = Fact::new("parts");
    /// Tables of the database whose main stream this is.
    pub const TABLES: Fact<u64> = Fact::new("tables");
    /// On the stream of a single table: the table, quoted as its engine wants it.
    pub const TABLE: Fact<String> = Fact::new("table");
    /// What of a server is in none of the dumps: databases, roles; between `; `.
    pub const LEFT_OUT: Fact<String> = Fact::new("left_out");
    /// What of a database is not in its dump because that was asked for: tables, rows of tables; between `; `.
    pub const LEFT_OUT_TABLES: Fact<String> = Fact::new("left_out_tables");
    /// Columns that come back as others from a dump of SQL, and what becomes of them; between `; `.
    pub const CHANGED: Fact<String> = Fact::new("changed_by_sql");
    /// How a stream is compressed that should not be.
    pub const COMPRESSED: Fact<String> = Fact::new("compressed");
    /// What the program that gave it wrote to its standard error although it ended well; its last lines.
    pub const SAID: Fact<String> = Fact::new("said");
    /// What the check for completeness found.
    pub const CHECKED: Fact<String> = Fact::new("checked");

    /// Names of those that are numbers.
    pub const NUMBERS: [&str; 6] =
        [DATABASE_BYTES.name(), ROWS_ESTIMATE.name(), ROWS.name(), TABLES_UNLISTED.name(), PARTS.name(), TABLES.name()];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_stays_as_it_is_whether_it_is_understood_or_not() {
        let stored: BTreeMap<String, String> =
            [("database_bytes", "many"), ("parts", "3"), ("of another program", "x")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into();
        let mut facts = StreamFacts::from(stored.clone());
        assert_eq!(*facts.texts(), stored);
        assert_eq!((facts.get(fact::DATABASE_BYTES), facts.has(fact::DATABASE_BYTES)), (None, true));
        assert_eq!((facts.get(fact::PARTS), facts.text(fact::TABLE)), (Some(3), None));
        facts.set(fact::PARTS, 4);
        facts.set_some(fact::TABLE, None);
        facts.remove(fact::DATABASE_BYTES);
        let left: Vec<_> = facts.texts().iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(left, [("of another program", "x"), ("parts", "4")]);
    }
}
