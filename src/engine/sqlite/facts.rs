//! What is kept about a SQLite database, besides what is kept about every stream.

use crate::model::facts::Fact;

/// What the stream is: this text, a database file.
pub const FILE_FORMAT: &str = "sqlite file";
/// Permissions of the file, in octal.
pub const FILE_MODE: Fact<String> = Fact::new("file_mode");
/// User and group that own it, by name.
pub const FILE_OWNER: Fact<String> = Fact::new("file_owner");
/// Its journal mode: `wal`, `delete`, …
pub const JOURNAL_MODE: Fact<String> = Fact::new("journal_mode");
/// Tables that need what only their own program has, and why their rows could not be checked.
pub const UNCHECKED: Fact<String> = Fact::new("unchecked");
/// `PRAGMA user_version`, which applications number their schema by.
pub const USER_VERSION: Fact<i64> = Fact::new("user_version");

/// Names of those that are numbers.
pub const NUMBERS: [&str; 1] = [USER_VERSION.name()];
