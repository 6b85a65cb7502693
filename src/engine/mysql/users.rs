//! Users, roles and grants of MySQL as SQL, with the plugins, functions and foreign servers that belong to a server as they do.
//!
//! MariaDB's dump program writes them for MariaDB. MySQL's writes none before 9, and there it names roles before it makes them and
//! fails for a user without a name. So the server is asked for each account how it is made and what it may do, whichever programs
//! are there: passwords come as hashes in hexadecimal digits, and each right that some component of the server knows is a statement
//! of its own, because one that another server does not know would take the others with it.

use std::collections::BTreeMap;

use crate::cancel::Cancel;
use crate::database::{DatabaseError, major};
use crate::engine::mysql::MARK;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::{escaped, identifier};
use crate::model::id::unhex;

/// Accounts in one run of the client.
const BATCH: usize = 100;
/// What a session sets that is asked for accounts.
const SHOWING: &str = "SET SESSION sql_quote_show_create=1/*!80017 , print_identified_with_as_hex=1*/;\n";
/// Every account but those of the server itself.
const ACCOUNTS: &str = "mysql.user WHERE host <> 'localhost' OR user NOT IN ('mysql.sys', 'mysql.session', 'mysql.infoschema') ORDER BY user, host";
/// What a password must be like, which the empty ones of roles are not.
const PASSWORD_POLICY: &str = "validate_password";

const CREATE_USER: &str = "CREATE USER IF NOT EXISTS ";
const CREATE_ROLE: &str = "CREATE ROLE IF NOT EXISTS ";
/// Stands between an account and the plugin that lets it in.
const IDENTIFIED: &str = " IDENTIFIED WITH ";
/// What follows the plugin of an account that is a role and nothing else.
const IS_ROLE: &str = "REQUIRE NONE PASSWORD EXPIRE ACCOUNT LOCK PASSWORD HISTORY DEFAULT PASSWORD REUSE INTERVAL DEFAULT \
    PASSWORD REQUIRE CURRENT DEFAULT";

/// A row of the server's own tables: what it is, and its values.
struct OwnRow {
    kind: String,
    values: Vec<String>,
}

impl Mysql {
    /// Returns the statements that make the users of a server of MySQL, their roles and rights, and what they need, in this order.
    ///
    /// # Errors
    /// [`DatabaseError`], for a user who may not read the database `mysql` as well.
    pub(super) fn users_as_sql(&self, version: &str, cancel: &Cancel) -> Result<Vec<String>, DatabaseError> {
        let rows = self.own_rows(version, cancel)?;
        let of = |kind: &'static str| rows.iter().filter(move |row| row.kind == kind);
        let accounts: Vec<String> = of("account").map(|row| row.account(0)).collect();
        let certificates: BTreeMap<String, &OwnRow> = of("certificate").map(|row| (row.account(0), row)).collect();
        let (mut created, mut granted) = (Vec::new(), Vec::new());
        for batch in accounts.chunks(BATCH) {
            let questions = batch.iter().map(|it| format!("SHOW CREATE USER {it};\nSHOW GRANTS FOR {it};\n"));
            let statements = format!("{SHOWING}{}", questions.collect::<String>());
            let mut shown = 0;
            for line in self.run_escaped("asked for its users", &statements, cancel)? {
                let line = unescaped(&line);
                match line.strip_prefix("CREATE USER ") {
                    Some(made) => {
                        let certificate = batch.get(shown).and_then(|account| certificates.get(account));
                        let made = certificate.map_or(Some(made.to_owned()), |row| with_certificate(made, row));
                        let made = made.ok_or_else(|| self.not_understood("what a certificate must be like"))?;
                        created.extend(account_statements(&made));
                        shown += 1;
                    }
                    None if line.starts_with("GRANT ") || line.starts_with("REVOKE ") => granted.extend(grants(&line)),
                    None => return Err(self.not_understood(&line)),
                }
            }
            if shown != batch.len() {
                return Err(self.not_understood("accounts that it does not show"));
            }
        }
        let loaded = rows.iter().filter_map(OwnRow::loading);
        let (policies, loaded): (Vec<String>, Vec<String>) = loaded.partition(|it| it.contains(PASSWORD_POLICY));
        let memberships = of("role").map(|row| {
            let option = if row.value(4) == "Y" { " WITH ADMIN OPTION" } else { "" };
            format!("GRANT {} TO {}{option}", row.account(0), row.account(2))
        });
        let mut defaults: BTreeMap<String, Vec<String>> = BTreeMap::new();
        of("default").for_each(|row| defaults.entry(row.account(0)).or_default().push(row.account(2)));
        let defaults = defaults.iter().map(|(user, roles)| format!("SET DEFAULT ROLE {} TO {user}", roles.join(", ")));
        Ok(loaded
            .into_iter()
            .chain(created)
            .chain(granted)
            .chain(memberships)
            .chain(defaults)
            .chain(policies)
            .collect())
    }

    /// Returns those of the statements whose plugins, functions and foreign servers are there; none where that is not known.
    pub(super) fn loaded(&self) -> Vec<String> {
        let version = self.server().map(|server| server.version).unwrap_or_default();
        if version.contains("MariaDB") {
            return Vec::new();
        }
        let rows = self.own_rows(&version, &Cancel::default()).unwrap_or_default();
        rows.iter().filter_map(OwnRow::loading).collect()
    }

    /// Reads the server's own tables.
    fn own_rows(&self, version: &str, cancel: &Cancel) -> Result<Vec<OwnRow>, DatabaseError> {
        let mut questions = vec![
            question("plugin", &["name", "dl"], "mysql.plugin ORDER BY name"),
            question("function", &["name", "ret", "type", "dl"], "mysql.func ORDER BY name"),
            question(
                "server",
                &["server_name", "wrapper", "host", "db", "username", "password", "port", "socket", "owner"],
                "mysql.servers ORDER BY server_name",
            ),
            question("account", &["user", "host"], ACCOUNTS),
            question(
                "certificate",
                &["user", "host", "ssl_cipher", "x509_issuer", "x509_subject"],
                "mysql.user WHERE ssl_type = 'SPECIFIED'",
            ),
        ];
        if major(version) >= 8 {
            questions.extend([
                question("component", &["component_urn"], "mysql.component ORDER BY component_id"),
                question(
                    "role",
                    &["from_user", "from_host", "to_user", "to_host", "with_admin_option"],
                    "mysql.role_edges ORDER BY to_user, to_host, from_user, from_host",
                ),
                question(
                    "default",
                    &["user", "host", "default_role_user", "default_role_host"],
                    "mysql.default_roles ORDER BY user, host, default_role_user, default_role_host",
                ),
            ]);
        }
        let lines = self.run_unless("asked for its users", &questions.concat(), cancel)?;
        lines.iter().map(|line| OwnRow::parse(line).ok_or_else(|| self.not_understood(line))).collect()
    }

    /// Lists what belongs to users and is not among those statements: second passwords, which no statement shows, and groups of threads.
    pub(super) fn beside_users(&self) -> Vec<String> {
        // MariaDB knows neither.
        let questions = question(
            "the second password of",
            &["user", "host"],
            "mysql.user WHERE 0/*!80014 + JSON_CONTAINS_PATH(COALESCE(user_attributes, '{}'), 'one', '$.additional_password')*/",
        ) + "SELECT '', '' FROM DUAL WHERE 0/*!80003 UNION ALL SELECT 'the resource group', HEX(CONVERT(resource_group_name USING \
            utf8mb4)) FROM information_schema.resource_groups WHERE resource_group_name NOT IN ('USR_default', 'SYS_default')*/;\n";
        let lines = self.run("asked what else users have", &questions).unwrap_or_default();
        let rows = lines.iter().filter_map(|line| OwnRow::parse(line));
        rows.map(|row| format!("{} {} is not in the dump", row.kind, row.values.join("@"))).collect()
    }

    fn not_understood(&self, answer: &str) -> DatabaseError {
        DatabaseError::answer(&self.url().server(), answer.as_bytes())
    }
}

/// Writes those statements as a dump: for a client that ends at none of them, and with the mark of those that are whole.
pub(super) fn users_dump(version: &str, statements: &[String]) -> Vec<u8> {
    let mut dump =
        format!("-- Users, roles and grants of MySQL {version}\n\nSET NAMES utf8mb4;\nSET SESSION sql_mode = '';\n\n");
    for statement in statements {
        dump += statement;
        dump += ";\n";
    }
    dump += &format!("\n{MARK}\n");
    dump.into_bytes()
}

/// Writes a question whose answers are lines of hexadecimal digits, behind what they are.
fn question(kind: &str, columns: &[&str], from: &str) -> String {
    let values: Vec<String> = columns.iter().map(|column| format!("HEX(CONVERT({column} USING utf8mb4))")).collect();
    format!("SELECT '{kind}', {} FROM {from};\n", values.join(", "))
}

impl OwnRow {
    fn parse(line: &str) -> Option<Self> {
        let (kind, values) = line.split_once('\t')?;
        let values: Option<Vec<String>> =
            values.split('\t').map(|value| String::from_utf8(unhex(value)?).ok()).collect();
        Some(Self { kind: kind.to_owned(), values: values? })
    }

    fn value(&self, at: usize) -> &str {
        self.values.get(at).map_or("", String::as_str)
    }

    /// Returns the account as SQL whose user is at this place, and its host behind it.
    fn account(&self, at: usize) -> String {
        format!("{}@{}", identifier(self.value(at)), identifier(self.value(at + 1)))
    }

    /// Writes the statement that loads or makes what is none of an account.
    fn loading(&self) -> Option<String> {
        let name = identifier(self.value(0));
        Some(match self.kind.as_str() {
            "plugin" => format!("INSTALL PLUGIN {name} SONAME {}", escaped(self.value(1))),
            "component" => format!("INSTALL COMPONENT {}", escaped(self.value(0))),
            "function" => {
                let aggregate = if self.value(2) == "aggregate" { "AGGREGATE " } else { "" };
                let returned = match self.value(1) {
                    "0" => "STRING",
                    "1" => "REAL",
                    "2" => "INTEGER",
                    _ => "DECIMAL",
                };
                format!("CREATE {aggregate}FUNCTION {name} RETURNS {returned} SONAME {}", escaped(self.value(3)))
            }
            "server" => {
                let text = |option: &str, at: usize| {
                    let value = Some(self.value(at)).filter(|value| !value.is_empty());
                    value.map(|value| format!("{option} {}", escaped(value)))
                };
                let port = Some(self.value(6)).filter(|port| *port != "0").map(|port| format!("PORT {port}"));
                let options = [
                    text("HOST", 2),
                    text("DATABASE", 3),
                    text("USER", 4),
                    text("PASSWORD", 5),
                    port,
                    text("SOCKET", 7),
                    text("OWNER", 8),
                ];
                let options: Vec<String> = options.into_iter().flatten().collect();
                let wrapper = identifier(self.value(1));
                format!("CREATE SERVER {name} FOREIGN DATA WRAPPER {wrapper} OPTIONS ({})", options.join(", "))
            }
            _ => return None,
        })
    }
}

/// Returns a value as it is, of one that a client wrote with backslashes.
fn unescaped(line: &str) -> String {
    let (mut text, mut chars) = (String::with_capacity(line.len()), line.chars());
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('0') => '\0',
                other => other.unwrap_or('\\'),
            },
            c => c,
        });
    }
    text
}

/// Writes the statements that make an account, of what follows `CREATE USER` where the server shows it; the second gives one that is
/// there already what it had. Roles are not there yet, so those that it takes on by itself are left out. What is a role and nothing
/// else is made as one: as a user it would need a password on some servers.
fn account_statements(shown: &str) -> Vec<String> {
    let made = without_roles(shown);
    let Some((account, authentication)) = split_outside(&made, IDENTIFIED) else {
        return vec![format!("{CREATE_USER}{made}")];
    };
    let (plugin, rest) = split_outside(authentication, " ").unwrap_or((authentication, ""));
    if rest == IS_ROLE {
        return vec![format!("{CREATE_ROLE}{account}")];
    }
    let create = format!("{CREATE_USER}{made}");
    if split_outside(rest, " AND IDENTIFIED WITH ").is_some() {
        // What it is asked for besides a password can only be changed one by one.
        return vec![create];
    }
    // Without a password to set, a server has the account change it before anything else: it keeps the one that it has.
    let alter = match rest.starts_with("AS ") {
        true => format!("ALTER USER {account}{IDENTIFIED}{plugin} {rest}"),
        false => format!("ALTER USER {account} {rest}"),
    };
    vec![create, alter]
}

/// Writes what a certificate of an account must be like as SQL, in what follows `CREATE USER`; nothing where that is not found. The
/// server shows it as it is: a quote would end it, and the rest would be whatever statement somebody chose.
fn with_certificate(shown: &str, row: &OwnRow) -> Option<String> {
    let values = [("SUBJECT", 4), ("ISSUER", 3), ("CIPHER", 2)].map(|(word, at)| (word, row.value(at)));
    if !values.iter().any(|(_, value)| value.contains(['\'', '\\'])) {
        return Some(shown.to_owned());
    }
    let clauses = |quoted: &dyn Fn(&str) -> String| -> String {
        let said = values.iter().filter(|(_, value)| !value.is_empty());
        said.map(|(word, value)| format!(" {word} {}", quoted(value))).collect()
    };
    // Behind them each quote has a backslash, so the last is the one.
    let (before, behind) = shown.rsplit_once(clauses(&|value| format!("'{value}'")).as_str())?;
    Some(format!("{before}{}{behind}", clauses(&escaped)))
}

fn without_roles(shown: &str) -> String {
    let cut = split_outside(shown, " DEFAULT ROLE ").and_then(|(before, roles)| {
        let (_, after) = split_outside(roles, " REQUIRE ")?;
        Some(format!("{before} REQUIRE {after}"))
    });
    cut.unwrap_or_else(|| shown.to_owned())
}

/// Returns the statements for a line of `SHOW GRANTS`. Memberships are taken from where they are kept: here those stand as well that all
/// users have.
fn grants(line: &str) -> Vec<String> {
    let Some((names, rest)) = split_outside(line, " ON ") else { return Vec::new() };
    if names == "GRANT USAGE" && !rest.ends_with(" WITH GRANT OPTION") {
        return Vec::new();
    }
    // Between those that every server knows there are blanks.
    match names.strip_prefix("GRANT ").filter(|names| names.contains(',') && !names.contains([' ', '`'])) {
        Some(names) => names.split(',').map(|name| format!("GRANT {name} ON {rest}")).collect(),
        None => vec![line.to_owned()],
    }
}

/// Cuts SQL at the first separator outside of what is quoted; in a string a backslash takes the meaning from what follows it.
fn split_outside<'a>(sql: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, c) in sql.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some('\''), '\\') => is_escaped = true,
            (None, '`' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, _) if sql[at..].starts_with(separator) => return Some((&sql[..at], &sql[at + separator.len()..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::hex;

    const REST: &str = "PASSWORD EXPIRE DEFAULT ACCOUNT UNLOCK PASSWORD HISTORY DEFAULT";
    const PLUGIN: &str = " IDENTIFIED WITH 'caching_sha2_password'";

    #[test]
    fn an_account_is_made_without_roles_that_are_not_there_yet() {
        let shown = |roles: &str| {
            format!("`a DEFAULT ROLE ``x`@`%`{PLUGIN} AS '$A$\\' DEFAULT ROLE \\\\'{roles} REQUIRE NONE {REST}")
        };
        let expected = [format!("CREATE USER IF NOT EXISTS {}", shown("")), format!("ALTER USER {}", shown(""))];
        assert_eq!(account_statements(&shown(" DEFAULT ROLE `r`@`%`,`w REQUIRE '`@`10.%`")), expected);
        assert_eq!(account_statements(&shown("")), expected);
    }

    #[test]
    fn one_that_is_there_keeps_its_password_where_there_is_none_to_set() {
        let shown = format!("`a`@`%`{PLUGIN} REQUIRE NONE {REST}");
        let expected =
            [format!("CREATE USER IF NOT EXISTS {shown}"), format!("ALTER USER `a`@`%` REQUIRE NONE {REST}")];
        assert_eq!(account_statements(&shown), expected);
        let factors = format!("`a`@`%`{PLUGIN} AS 0x24 AND IDENTIFIED WITH 'b' AS 0x25 REQUIRE NONE {REST}");
        assert_eq!(account_statements(&factors), [format!("CREATE USER IF NOT EXISTS {factors}")]);
    }

    #[test]
    fn no_text_of_a_certificate_is_a_statement() {
        let (issuer, subject) = ("/O=it's \\", "x'; GRANT ALL ON *.* TO `a`@`%`; -- ");
        let row = |values: [&str; 5]| OwnRow { kind: String::new(), values: values.map(str::to_owned).into() };
        let shown = |subject: &str, issuer: &str| {
            format!(
                "`a`@`%`{PLUGIN} AS 0x24 REQUIRE SUBJECT {subject} ISSUER {issuer} {REST} ATTRIBUTE '{{\"a\": \"\\'\"}}'"
            )
        };
        let raw = shown(&format!("'{subject}'"), &format!("'{issuer}'"));
        let expected = shown("'x''; GRANT ALL ON *.* TO `a`@`%`; -- '", "'/O=it''s \\\\'");
        assert_eq!(with_certificate(&raw, &row(["a", "%", "", issuer, subject])), Some(expected));
        assert_eq!(with_certificate(&raw, &row(["a", "%", "", issuer, "y'"])), None);
        assert_eq!(with_certificate("any", &row(["a", "%", "", "/O=x", ""])).as_deref(), Some("any"));
    }

    #[test]
    fn what_is_a_role_and_nothing_else_is_made_as_one() {
        assert_eq!(account_statements(&format!("`r`@`%`{PLUGIN} {IS_ROLE}")), ["CREATE ROLE IF NOT EXISTS `r`@`%`"]);
        for user in [
            format!("`r`@`%`{PLUGIN} AS 0x24 {IS_ROLE}"),
            format!("`r`@`%`{PLUGIN} {IS_ROLE} ATTRIBUTE '{{}}'"),
            format!("`r`@`%`{PLUGIN} {}", IS_ROLE.replace("NONE", "SSL")),
        ] {
            assert_eq!(account_statements(&user)[0], format!("CREATE USER IF NOT EXISTS {user}"));
        }
    }

    #[test]
    fn each_right_of_a_component_is_a_statement_and_memberships_are_none() {
        let of = |line: &str| grants(line);
        assert_eq!(
            of("GRANT BACKUP_ADMIN,CLONE_ADMIN ON *.* TO `a`@`%` WITH GRANT OPTION"),
            [
                "GRANT BACKUP_ADMIN ON *.* TO `a`@`%` WITH GRANT OPTION",
                "GRANT CLONE_ADMIN ON *.* TO `a`@`%` WITH GRANT OPTION"
            ]
        );
        for whole in [
            "GRANT SELECT, SHOW VIEW ON `sh``op`.* TO `a`@`%`",
            "GRANT SELECT (`a`), INSERT (`a`,`b`) ON `s`.`t` TO `a`@`%`",
            "GRANT PROXY ON ``@`` TO `root`@`localhost` WITH GRANT OPTION",
            "REVOKE INSERT ON `shop`.* FROM `a`@`%`",
            "GRANT USAGE ON *.* TO `a`@`%` WITH GRANT OPTION",
            "GRANT ALL PRIVILEGES ON `x,y`.* TO `a`@`%`",
        ] {
            assert_eq!(of(whole), [whole]);
        }
        assert!(of("GRANT USAGE ON *.* TO `a`@`%`").is_empty());
        assert!(of("GRANT `r ON x`@`%` TO `a`@`%` WITH ADMIN OPTION").is_empty());
    }

    #[test]
    fn what_users_need_is_loaded_and_made() {
        let row = |kind: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| hex(value.as_bytes())).collect();
            OwnRow::parse(&format!("{kind}\t{}", values.join("\t"))).expect("read").loading()
        };
        for (kind, values, expected) in [
            ("plugin", &["auth`s", "a.so"][..], "INSTALL PLUGIN `auth``s` SONAME 'a.so'"),
            ("component", &["file://a"], "INSTALL COMPONENT 'file://a'"),
            (
                "function",
                &["f", "2", "aggregate", "b.so"],
                "CREATE AGGREGATE FUNCTION `f` RETURNS INTEGER SONAME 'b.so'",
            ),
            (
                "server",
                &["s", "mysql", "db9", "", "joe", "g'h", "3307", "", ""],
                "CREATE SERVER `s` FOREIGN DATA WRAPPER `mysql` OPTIONS (HOST 'db9', USER 'joe', PASSWORD 'g''h', PORT 3307)",
            ),
        ] {
            assert_eq!(row(kind, values).as_deref(), Some(expected));
        }
        assert!(row("account", &["a", "%"]).is_none() && OwnRow::parse("account\t0").is_none());
    }

    #[test]
    fn lines_of_a_client_are_read_as_they_were() {
        assert_eq!(unescaped(r"it\\'s `new\nline`\t\0"), "it\\'s `new\nline`\t\0");
        assert!(users_dump("9.7.4", &["GRANT a".into()]).ends_with(b"\nGRANT a;\n\n-- Dump completed\n"));
    }
}
