//! Names and texts in statements for MariaDB and MySQL, quoted so that no setting of a server makes them mean something else.

use crate::model::id::hex;

/// Puts in front of statements what makes them mean the same on all servers.
pub fn with_defaults(statements: &str) -> String {
    format!("SET SESSION sql_mode = '';\nSET NAMES utf8mb4;\n{statements}")
}

/// Writes the condition that a column is the name of a database. Names are equal when their bytes are, unless the server says
/// otherwise; comparing them as texts alone would find those that differ in case or accents.
pub fn is_database(column: &str, database: &str) -> String {
    let name = literal(database);
    format!("{column} = {name} AND (@@lower_case_table_names <> 0 OR BINARY {column} = BINARY {name})")
}

/// Writes a text as SQL's string literal where nothing else is allowed, for the `sql_mode` of [`with_defaults`].
pub fn escaped(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

/// Writes a text as SQL's string literal, for the default `sql_mode` and for `NO_BACKSLASH_ESCAPES`.
pub fn literal(text: &str) -> String {
    if text.is_empty() { "''".to_owned() } else { format!("CONVERT(X'{}' USING utf8mb4)", hex(text.as_bytes())) }
}

/// Writes a name as SQL's quoted identifier.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(literal("a'\\"), "CONVERT(X'61275c' USING utf8mb4)");
        assert_eq!(identifier("my`shop"), "`my``shop`");
        assert_eq!(escaped("it's\na \\"), r"'it''s\na \\'");
    }
}
