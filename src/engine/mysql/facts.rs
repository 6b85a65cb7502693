//! What is kept about a dump of MariaDB or MySQL, besides what is kept about every stream.

use crate::engine::json_list::JsonList;
use crate::model::facts::{Fact, FactValue, fact};

/// What the stream is.
pub const FORMAT: Fact<MysqlFormat> = Fact::new(fact::FORMAT.name());
/// File of the binary log right before the dump.
pub const BINLOG_FILE: Fact<String> = Fact::new("binlog_file");
/// Position in that file.
pub const BINLOG_POSITION: Fact<u64> = Fact::new("binlog_position");
/// Global ids of the transactions that the server had right before the dump: MySQL's set, or MariaDB's positions.
pub const GTIDS: Fact<String> = Fact::new("gtids");
/// On users of MySQL: rights can be revoked in part there, and names of databases in grants are no patterns.
pub const PARTIAL_REVOKES: Fact<String> = Fact::new("partial_revokes");
/// Clauses of `CREATE DATABASE` that give a new database the properties of the dumped one.
pub const CREATE: Fact<String> = Fact::new("create_clauses");
/// The comment of the database.
pub const COMMENT: Fact<String> = Fact::new("comment");
/// Tables whose engine knows no transactions, so that they may have changed while they were dumped.
pub const NOT_TRANSACTIONAL: Fact<String> = Fact::new("not_transactional");
/// Columns whose values the dump rounds.
pub const ROUNDED: Fact<String> = Fact::new("rounded");
/// Bytes of the longest line of the dump; a server takes no statement longer than its `max_allowed_packet`.
pub const LONGEST_LINE: Fact<u64> = Fact::new("longest_line");
/// `max_allowed_packet` of the server that was dumped.
pub const MAX_PACKET: Fact<u64> = Fact::new("max_allowed_packet");
/// Says that rows of the past are in the dump, of system-versioned tables.
pub const HISTORY: Fact<String> = Fact::new("history");

/// Who defines its views, routines, triggers and events, each as `USER@HOST`; a role without a host.
pub const DEFINERS: Fact<JsonList<String>> = Fact::new("definers");
/// Kinds of what they define: `event`, `function`, `procedure`, `trigger`, `view`.
pub const DEFINED: Fact<JsonList<String>> = Fact::new("defined");

/// Names of those that are numbers.
pub const NUMBERS: [&str; 3] = [BINLOG_POSITION.name(), LONGEST_LINE.name(), MAX_PACKET.name()];

/// What a stream of MariaDB or MySQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MysqlFormat {
    /// SQL of `mariadb-dump` or `mysqldump`.
    Sql,
    /// Users and grants: of MariaDB the SQL of `mariadb-dump --system=users`, of MySQL such as it is asked for.
    Users,
}

impl FactValue for MysqlFormat {
    fn to_text(&self) -> String {
        match self {
            MysqlFormat::Sql => "mysql sql",
            MysqlFormat::Users => "mysql users",
        }
        .to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        [MysqlFormat::Sql, MysqlFormat::Users].into_iter().find(|format| format.to_text() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_again() {
        for format in [MysqlFormat::Sql, MysqlFormat::Users] {
            assert_eq!(MysqlFormat::from_text(&format.to_text()), Some(format));
        }
        assert_eq!(MysqlFormat::from_text("tar"), None);
    }
}
