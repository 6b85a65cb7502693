//! What a MariaDB or MySQL user may see.
//!
//! A dump program asks for tables, triggers and routines, and the server answers with those that the user has a right to: the
//! others are missing from the dump, and nothing says so. So the user's rights are looked at before a dump.

use std::collections::BTreeMap;

/// The rights of a user, those of its active roles and of everybody included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// By who has them: the user itself, a role, `PUBLIC`.
    by_grantee: BTreeMap<String, Vec<Grant>>,
}

/// A line of `SHOW GRANTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    scope: GrantScope,
    /// Such as `SELECT`, and `ALL PRIVILEGES`; those on single columns are left out.
    privileges: Vec<String>,
    /// It takes rights away that are granted globally (MySQL's partial revokes).
    is_revoked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GrantScope {
    Global,
    /// Databases whose names are like a pattern.
    Databases(String),
    Table(String, String),
}

impl Grants {
    /// Reads what `SHOW GRANTS` prints. What is not understood grants nothing.
    pub fn parse(lines: &[String]) -> Self {
        let mut grants = Self::default();
        for (grantee, grant) in lines.iter().filter_map(|line| parse_line(line)) {
            grants.by_grantee.entry(grantee).or_default().push(grant);
        }
        grants
    }

    /// Tells whether this right is granted on everything.
    pub fn has_globally(&self, privilege: &str) -> bool {
        self.all().any(|grant| grant.scope == GrantScope::Global && !grant.is_revoked && grant.has(privilege))
    }

    /// Tells whether this right is granted on everything in a database.
    pub fn has_on_database(&self, privilege: &str, database: &str) -> bool {
        let is_revoked = self.all().any(|grant| {
            let is_here = matches!(&grant.scope, GrantScope::Databases(name) if name == database);
            grant.is_revoked && is_here && grant.has(privilege)
        });
        let has_globally = self.has_globally(privilege) && !is_revoked;
        has_globally || self.by_grantee.values().any(|grants| applies(grants, privilege, database))
    }

    /// Tells whether this right is granted on a table.
    pub fn has_on_table(&self, privilege: &str, database: &str, table: &str) -> bool {
        let is_it = |grant: &&Grant| {
            matches!(&grant.scope, GrantScope::Table(of, name) if of == database && name == table) && !grant.is_revoked
        };
        self.has_on_database(privilege, database) || self.all().filter(is_it).any(|grant| grant.has(privilege))
    }

    fn all(&self) -> impl Iterator<Item = &Grant> {
        self.by_grantee.values().flatten()
    }
}

impl Grant {
    fn has(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|name| name == privilege || name == "ALL PRIVILEGES")
    }
}

/// Looks among the grants of one grantee. Of several patterns that fit a database the server takes the most specific, and
/// that one alone; where it cannot be told which that is, all must grant the right.
fn applies(grants: &[Grant], privilege: &str, database: &str) -> bool {
    let fitting = || {
        grants.iter().filter(|grant| !grant.is_revoked).filter_map(|grant| match &grant.scope {
            GrantScope::Databases(pattern) if is_like(database, pattern) => Some((specificity(pattern), grant)),
            _ => None,
        })
    };
    let Some(most) = fitting().map(|(specificity, _)| specificity).max() else { return false };
    fitting().filter(|(specificity, _)| *specificity == most).all(|(_, grant)| grant.has(privilege))
}

/// Reads `GRANT SELECT, TRIGGER ON `shop`.* TO `joe`@`%` …`, or the same with `REVOKE … FROM`.
fn parse_line(line: &str) -> Option<(String, Grant)> {
    let (is_revoked, rest) = match line.strip_prefix("GRANT ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("REVOKE ")?),
    };
    // A role is granted without `ON`.
    let (privileges, rest) = split_outside(rest, " ON ")?;
    let (scope, grantee) = split_outside(rest, if is_revoked { " FROM " } else { " TO " })?;
    let (grantee, _) = split_outside(grantee, " ").unwrap_or((grantee, ""));
    let mut privileges_left = Some(privileges);
    let mut names = Vec::new();
    while let Some(text) = privileges_left {
        let (name, rest) = split_outside(text, ", ").map_or((text, None), |(name, rest)| (name, Some(rest)));
        privileges_left = rest;
        // On columns: `SELECT (`a`, `b`)`, which is cut apart here, and is no name in either part.
        if name.chars().all(|c| c.is_ascii_uppercase() || c == ' ' || c == '_') {
            names.push(name.to_owned());
        }
    }
    let (database, object) = split_outside(scope, ".")?;
    let scope = match (database, object) {
        ("*", "*") => GrantScope::Global,
        (database, "*") => GrantScope::Databases(unquoted(database)?),
        // `PROCEDURE `shop`.`tidy``
        (database, object) => GrantScope::Table(unquoted(database)?, unquoted(object)?),
    };
    Some((grantee.to_owned(), Grant { scope, privileges: names, is_revoked }))
}

/// Cuts a text at the first separator that is not within quotes.
fn split_outside<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '`' | '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, _) if text[at..].starts_with(separator) => {
                return Some((&text[..at], &text[at + separator.len()..]));
            }
            _ => {}
        }
    }
    None
}

/// Returns the name that is quoted, or `None` when it is not.
fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| "`\"".contains(*c))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
}

/// A part of a pattern.
enum Token {
    Is(char),
    AnyOne,
    Any,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '\\' => Token::Is(chars.next().unwrap_or('\\')),
            '_' => Token::AnyOne,
            '%' => Token::Any,
            c => Token::Is(c),
        });
    }
    tokens
}

/// Compares as `LIKE` does, with `%`, `_` and a backslash before those that mean themselves.
fn is_like(text: &str, pattern: &str) -> bool {
    fn matches(text: &[char], tokens: &[Token]) -> bool {
        match (tokens.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((Token::Any, rest)), None) => matches(text, rest),
            (Some((Token::Any, rest)), Some((_, after))) => matches(text, rest) || matches(after, tokens),
            (Some((Token::AnyOne, rest)), Some((_, after))) => matches(after, rest),
            (Some((Token::Is(c), rest)), Some((first, after))) => c == first && matches(after, rest),
            _ => false,
        }
    }
    matches(&text.chars().collect::<Vec<_>>(), &tokens(pattern))
}

/// How many characters a pattern has before the first that stands for others.
fn specificity(pattern: &str) -> usize {
    let tokens = tokens(pattern);
    tokens.iter().position(|token| !matches!(token, Token::Is(_))).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(text: &str) -> Grants {
        Grants::parse(&text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn rights_are_found_wherever_they_are_granted() {
        let of_root = grants("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION");
        assert!(of_root.has_globally("SELECT") && of_root.has_on_database("TRIGGER", "shop"));
        assert!(of_root.has_on_table("SELECT", "mysql", "proc"));

        let narrow = grants(
            "GRANT USAGE ON *.* TO `joe`@`%` IDENTIFIED BY PASSWORD '*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B ON *.* TO '
             GRANT SELECT, SHOW VIEW, EVENT ON `sh``op`.* TO `joe`@`%`
             GRANT SELECT, SELECT (`db`, `name`) ON `mysql`.`proc` TO `joe`@`%`
             GRANT TRIGGER (`a` ), INSERT (`TRIGGER`, `x ON *.* TO y`) ON `sh``op`.`t` TO `joe`@`%`
             GRANT EXECUTE ON PROCEDURE `sh``op`.`p` TO `joe`@`%`",
        );
        assert!(narrow.has_on_database("SELECT", "sh`op") && narrow.has_on_table("SELECT", "mysql", "proc"));
        assert!(!narrow.has_globally("SELECT") && !narrow.has_globally("USAGE ON"));
        assert!(!narrow.has_on_database("TRIGGER", "sh`op") && !narrow.has_on_table("TRIGGER", "sh`op", "t"));
        assert!(!narrow.has_on_database("EXECUTE", "sh`op") && !narrow.has_on_database("SELECT", "mysql"));

        let of_columns = grants("GRANT SELECT (`db`) ON `mysql`.`proc` TO `joe`@`%`");
        assert!(!of_columns.has_on_table("SELECT", "mysql", "proc"));
    }

    #[test]
    fn roles_add_to_what_the_user_has() {
        let both = grants(
            "GRANT `reader` TO `joe`@`%`
             GRANT SELECT ON `shop`.* TO `joe`@`%`
             GRANT TRIGGER ON \"shop\".* TO \"reader\"
             GRANT EVENT ON `shop`.* TO PUBLIC
             SET DEFAULT ROLE `reader` FOR `joe`@`%`",
        );
        for right in ["SELECT", "TRIGGER", "EVENT"] {
            assert!(both.has_on_database(right, "shop"), "{right}");
        }
    }

    #[test]
    fn of_several_patterns_the_most_specific_counts_alone() {
        let patterns = grants(
            "GRANT SELECT, TRIGGER ON `sh%`.* TO `joe`@`%`
             GRANT SELECT ON `shop`.* TO `joe`@`%`
             GRANT SELECT ON `my\\_shop`.* TO `joe`@`%`
             GRANT TRIGGER ON `my_shop`.* TO `joe`@`%`",
        );
        assert!(!patterns.has_on_database("TRIGGER", "shop") && patterns.has_on_database("TRIGGER", "shelf"));
        assert!(!patterns.has_on_database("TRIGGER", "my_shop") && patterns.has_on_database("TRIGGER", "myXshop"));
        assert!(!patterns.has_on_database("SELECT", "myXshop") && !patterns.has_on_database("SELECT", "sales"));
        for (pattern, fits) in [("a%d", true), ("%", true), ("a__d", true), ("a_d", false), ("a\\%d", false)] {
            assert_eq!(is_like("abcd", pattern), fits, "{pattern}");
        }
    }

    #[test]
    fn what_is_revoked_in_part_is_not_granted() {
        let revoked = grants(
            "GRANT SELECT, TRIGGER, SHOW_ROUTINE ON *.* TO `joe`@`%`
             REVOKE TRIGGER ON `shop`.* FROM `joe`@`%`",
        );
        assert!(!revoked.has_on_database("TRIGGER", "shop") && revoked.has_on_database("TRIGGER", "other"));
        assert!(revoked.has_on_database("SELECT", "shop") && revoked.has_globally("SHOW_ROUTINE"));
    }
}
