//! What is kept about a dump of PostgreSQL, besides what is kept about every stream.

use serde::{Deserialize, Serialize};

use crate::engine::json_list::JsonList;
use crate::model::facts::{Fact, FactValue, fact};

/// What the stream is.
pub const FORMAT: Fact<PostgresFormat> = Fact::new(fact::FORMAT.name());
/// Position in the write-ahead log right before the dump.
pub const WAL_LSN: Fact<String> = Fact::new("wal_lsn");
/// Encoding of the database.
pub const ENCODING: Fact<String> = Fact::new("encoding");
/// Clauses of `CREATE DATABASE` that give a new database the properties of the dumped one.
pub const CREATE: Fact<String> = Fact::new("create_clauses");
/// The tablespace.
pub const TABLESPACE: Fact<String> = Fact::new("tablespace");
/// Tablespaces that tables and indexes are in, other than that of the database.
pub const TABLESPACES: Fact<JsonList<String>> = Fact::new("tablespaces");
/// How many user mappings of foreign servers may lack options in the dump, which the user may not see.
pub const HIDDEN_MAPPINGS: Fact<u64> = Fact::new("hidden_user_mappings");
/// Statements that set the database's owner, settings and rights, `%I` in place of its name.
pub const SETTINGS: Fact<JsonList<String>> = Fact::new("database_settings");
/// Statements that make the roles which the database uses, without passwords and rights.
pub const ROLES: Fact<JsonList<String>> = Fact::new("roles");
/// Roles that its policies and user mappings are for, quoted as SQL wants them.
pub const NAMED_ROLES: Fact<JsonList<String>> = Fact::new("named_roles");
/// How many of its functions run with the rights of their owner and may not be called by all.
pub const CLOSED_FUNCTIONS: Fact<u64> = Fact::new("closed_functions");
/// Collations that it uses of those which every database has.
pub const COLLATIONS: Fact<JsonList<UsedCollation>> = Fact::new("collations");
/// Entries in the table of contents of a custom archive.
pub const ARCHIVE_ENTRIES: Fact<u64> = Fact::new("archive_entries");

/// Unlogged tables of which a standby has no rows, so that the dump of one has none either.
pub const NOT_ON_STANDBY: Fact<String> = Fact::new("not_on_standby");
/// How the dump writes bytes, which decides what digests of them are: the setting `bytea_output`.
pub const BYTEA_OUTPUT: Fact<String> = Fact::new("bytea_output");
/// Its extensions.
pub const EXTENSIONS: Fact<JsonList<Extension>> = Fact::new("extensions");

/// Names of those that are numbers.
pub const NUMBERS: [&str; 3] = [HIDDEN_MAPPINGS.name(), CLOSED_FUNCTIONS.name(), ARCHIVE_ENTRIES.name()];

/// What a stream of PostgreSQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresFormat {
    /// An archive of `pg_dump --format=custom`.
    Custom,
    /// SQL of `pg_dump`.
    Plain,
    /// Roles and tablespaces, SQL of `pg_dumpall --globals-only`.
    Globals,
}

impl FactValue for PostgresFormat {
    fn to_text(&self) -> String {
        match self {
            PostgresFormat::Custom => "postgres custom",
            PostgresFormat::Plain => "postgres plain",
            PostgresFormat::Globals => "postgres globals",
        }
        .to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        [PostgresFormat::Custom, PostgresFormat::Plain, PostgresFormat::Globals]
            .into_iter()
            .find(|format| format.to_text() == text)
    }
}

/// An extension of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its tables and sequences whose rows are dumped, each by schema and name.
    pub tables: Vec<(String, String)>,
}

/// A collation and what uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedCollation {
    /// Its name.
    pub name: String,
    /// One of the tables and indexes that use it, quoted as SQL wants it, if one does.
    pub used_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        for format in [PostgresFormat::Custom, PostgresFormat::Plain, PostgresFormat::Globals] {
            assert_eq!(PostgresFormat::from_text(&format.to_text()), Some(format));
        }
        assert_eq!(PostgresFormat::from_text("tar"), None);
        let tables = vec![("cron".into(), "job".into())];
        let extensions = JsonList(vec![Extension { name: "pg_cron".into(), version: "1.4".into(), tables }]);
        assert_eq!(JsonList::<Extension>::from_text(&extensions.to_text()), Some(extensions));
    }
}
