//! Whether what is kept in a database names another one: a copy whose views, routines, triggers, events or defaults use the
//! database that it was copied from.

use std::collections::BTreeSet;

use crate::database::DatabaseError;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::is_database;
use crate::model::id::unhex;

/// What may name another database: what messages call it, the table of `information_schema`, and its columns for the name and
/// the text, and for the database.
const PLACES: [(&str, &str, &str, &str, &str); 5] = [
    ("view", "views", "table_name", "view_definition", "table_schema"),
    ("routine", "routines", "routine_name", "routine_definition", "routine_schema"),
    ("trigger", "triggers", "trigger_name", "action_statement", "trigger_schema"),
    ("event", "events", "event_name", "event_definition", "event_schema"),
    ("default of", "columns", "CONCAT(table_name, '.', column_name)", "column_default", "table_schema"),
];

impl Mysql {
    /// Lists what in `database` names `other`: `view v4`, `trigger tr`. What this user may not read is listed, too, with a
    /// question mark.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn references(&self, database: &str, other: &str) -> Result<Vec<String>, DatabaseError> {
        let mut statements = format!(
            "SELECT 'object', HEX(CONVERT(table_name USING utf8mb4)), '' FROM information_schema.tables WHERE {};
             SELECT 'object', HEX(CONVERT(routine_name USING utf8mb4)), '' FROM information_schema.routines WHERE {};\n",
            is_database("table_schema", database),
            is_database("routine_schema", database)
        );
        for (kind, table, name, text, schema) in PLACES {
            // A column without a default has none to read, and one of a view has none of its own.
            let (table, has_text) = match table {
                "columns" => (
                    "columns JOIN information_schema.tables USING (table_schema, table_name)",
                    format!(" AND table_type <> 'VIEW' AND {text} <> ''"),
                ),
                table => (table, String::new()),
            };
            statements += &format!(
                "SELECT '{kind}', HEX(CONVERT({name} USING utf8mb4)), COALESCE(HEX(CONVERT({text} USING utf8mb4)), '-')
                   FROM information_schema.{table} WHERE {}{has_text} ORDER BY 2;\n",
                is_database(schema, database)
            );
        }
        let lines = self.run(&format!("asked what in {database:?} uses {other:?}"), &statements)?;
        let decoded = |text: &str| unhex(text).and_then(|bytes| String::from_utf8(bytes).ok());
        let rows = lines.iter().filter_map(|line| {
            let mut fields = line.split('\t');
            Some((fields.next()?, decoded(fields.next()?)?, fields.next()?))
        });
        let (objects, texts): (Vec<_>, Vec<_>) = rows.partition(|(kind, ..)| *kind == "object");
        let objects: BTreeSet<String> = objects.into_iter().map(|(_, name, _)| name).collect();
        let uses = |(kind, name, text): (&str, String, &str)| match decoded(text).filter(|text| !text.is_empty()) {
            Some(text) => uses(&text, other, &objects).then(|| format!("{kind} {name}")),
            None => Some(format!("{kind} {name} (?)")),
        };
        Ok(texts.into_iter().filter_map(uses).collect())
    }
}

/// A piece of SQL, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Dot,
    Other,
}

/// Tells whether `sql` names something in `database`: one of the known objects, or a column of whatever, or anything while
/// the name stands for nothing else there.
fn uses(sql: &str, database: &str, objects: &BTreeSet<String>) -> bool {
    let tokens = tokens(sql);
    let name_at = |at: usize| match tokens.get(at) {
        Some(Token::Name(name)) => Some(name),
        _ => None,
    };
    let is_dot = |at: usize| tokens.get(at) == Some(&Token::Dot);
    let places = (0..tokens.len()).filter(|&at| {
        let is_it = name_at(at).is_some_and(|name| name.eq_ignore_ascii_case(database));
        is_it && !(at > 0 && is_dot(at - 1))
    });
    let (qualifying, alone): (Vec<usize>, Vec<usize>) = places.partition(|&at| is_dot(at + 1));
    qualifying.into_iter().any(|at| {
        let is_object = name_at(at + 2).is_some_and(|name| objects.contains(name));
        // An alias of a table can have this name.
        is_object || is_dot(at + 3) || alone.is_empty()
    })
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            c if c.is_whitespace() => (None, c.len_utf8()),
            // In ANSI_QUOTES those are names; otherwise no dot follows.
            '`' | '"' => {
                let (name, length) = quoted(rest, first);
                (Some(Token::Name(name)), length)
            }
            '\'' => (Some(Token::Other), quoted(rest, first).1),
            '.' => (Some(Token::Dot), 1),
            // What a version runs is no comment.
            '/' if rest.starts_with("/*!") => (None, 3),
            '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |at| at + 2)),
            '#' => (None, line_length(rest)),
            '-' if rest.starts_with("-- ") => (None, line_length(rest)),
            c if is_name(c) => {
                let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                (Some(Token::Name(rest[..length].to_owned())), length)
            }
            c => (Some(Token::Other), c.len_utf8()),
        };
        found.extend(token);
        rest = &rest[length..];
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii() && !c.is_whitespace()
}

fn line_length(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Returns what stands between quotes at the start, and how long that is with them.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote != '`' => drop(chars.next()),
            c if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() => return (name, at + 1),
            c => name.push(c),
        }
    }
    (name, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses_shop(sql: &str) -> bool {
        uses(sql, "shop", &BTreeSet::from(["t".to_owned(), "f2".to_owned()]))
    }

    #[test]
    fn what_names_the_database_is_found() {
        for sql in [
            "select `shop`.`t`.`id` AS `id`,`shop`.`f2`() AS `n` from `shop`.`t`",
            "RETURN (SELECT sum(v) FROM shop.t)",
            "DELETE FROM Shop . t WHERE id = OLD.id",
            "DELETE FROM shop.gone",
            "SELECT 'it''s \\' so', \"x\" FROM shop.t",
            "BEGIN /*!50000 DELETE FROM shop.t */; END",
            "nextval(`shop`.`s`)",
            "SELECT `shop`.`t`.`x` FROM `copy`.`t` `shop`",
        ] {
            assert!(uses_shop(sql), "{sql}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for sql in [
            "select `shop`.`id` AS `id` from `copy`.`t` `shop`",
            "select `copy`.`t`.`id` AS `shop` from `copy`.`t`",
            "SELECT 'shop.t', x -- shop.t\n, y /* shop.t */ # shop.t\n FROM t",
            "SELECT t.shop.t FROM workshop.t",
            "SELECT `copy`.`shop`.`t` FROM x",
        ] {
            assert!(!uses_shop(sql), "{sql}");
        }
    }
}
