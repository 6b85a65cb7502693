//! MariaDB and MySQL by their client programs: which of them fits a server, what databases it has, and what is to be known
//! of one.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::database::url::DatabaseUrl;
use crate::database::{DatabaseError, find_program};
use crate::model::id::hex;
use crate::process::{self, CommandOptions};

/// Names the directory of the client programs, where they are not found by themselves.
pub const PROGRAMS_VARIABLE: &str = "COFFRE_MYSQL_BIN";
/// Seconds that connecting may take.
const CONNECT_SECONDS: &str = "--connect-timeout=20";
/// The longest statement or row that clients take.
const PACKET: &str = "--max-allowed-packet=1G";

/// Databases that belong to the server itself.
pub const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "performance_schema", "mysql", "sys"];

/// What is kept about a database, and needed to make another like it.
#[derive(Debug, Clone, Default)]
pub struct DatabaseFacts {
    /// Bytes of tables and indexes.
    pub bytes: u64,
    /// Rows that the server believes to have.
    pub rows: u64,
    /// Clauses for `CREATE DATABASE`.
    pub create: String,
    /// Tables whose engine knows no transactions.
    pub not_transactional: Vec<String>,
    /// Whether a table keeps the history of its rows.
    pub has_history: bool,
}

/// What is known about a server.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Its version, as it says it.
    pub version: String,
    /// File and position of the binary log, where it is kept and may be asked for.
    pub binlog: Option<(String, String)>,
    /// Where it keeps its data, if it tells.
    pub data_directory: Option<std::path::PathBuf>,
}

impl ServerFacts {
    /// Tells MariaDB from MySQL.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }
}

/// A MariaDB or MySQL server, seen through its command line clients.
#[derive(Debug, Clone)]
pub struct Mysql {
    url: DatabaseUrl,
}

impl Mysql {
    /// Names a server; nothing is connected yet.
    pub fn new(url: DatabaseUrl) -> Self {
        Self { url }
    }

    /// Returns where it is.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Describes how a client program is run: where the server is in its arguments, the password in its environment.
    ///
    /// Parameters of the URL become options of the client, `option-file` the file that it reads before all others.
    pub fn command(&self, program: OsString, arguments: &[&str]) -> CommandOptions {
        let mut line = Vec::new();
        let parameters: Vec<_> = self.url.parameters().collect();
        // This one must come first.
        line.extend(
            parameters
                .iter()
                .filter(|(name, _)| *name == "option-file")
                .map(|(_, file)| format!("--defaults-extra-file={file}")),
        );
        let (host, port) = self.url.host_and_port();
        line.extend(host.map(|host| format!("--host={host}")));
        if let Some(port) = port {
            // `localhost` would mean the socket, whatever the port.
            line.extend([format!("--port={port}"), "--protocol=tcp".to_owned()]);
        }
        line.extend(self.url.user().map(|user| format!("--user={user}")));
        line.extend(
            parameters
                .iter()
                .filter(|(name, _)| *name != "option-file")
                .map(|(name, value)| format!("--{name}={value}")),
        );
        line.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let mut options = CommandOptions::new(program, line);
        if let Some(password) = self.url.password() {
            options.environment.push(("MYSQL_PWD".into(), password.into()));
        }
        options
    }

    /// Describes the client that reads statements from its standard input and ends at the first that fails.
    pub fn client(&self, database: Option<&str>) -> CommandOptions {
        let database = database.map(|database| format!("--database={database}"));
        let mut arguments = vec!["--batch", "--skip-column-names", "--raw", CONNECT_SECONDS, PACKET];
        arguments.extend(database.as_deref());
        self.command(program(&["mariadb", "mysql"]), &arguments)
    }

    /// Runs statements and returns the lines that they print. `asked` says what is wanted, for the error.
    ///
    /// # Errors
    /// [`DatabaseError::Spawn`] and [`DatabaseError::Failed`].
    pub fn run(&self, asked: &str, statements: &str) -> Result<Vec<String>, DatabaseError> {
        let mut command = self.client(None);
        command.arguments.push("--default-character-set=utf8mb4".into());
        let output = process::run(&command, statements.as_bytes())
            .map_err(|failure| DatabaseError::failed(&self.url.server(), asked, &command, failure))?;
        let text =
            String::from_utf8(output).map_err(|error| DatabaseError::answer(&self.url.server(), error.as_bytes()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Returns what is known about the server.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn server(&self) -> Result<ServerFacts, DatabaseError> {
        let lines = self.run("asked for its version", "SELECT VERSION(); SELECT @@datadir;")?;
        let version = lines.first().cloned().unwrap_or_default();
        // Only those may ask who could restore to a point in time; the position is a help, not a need.
        let status = ["SHOW MASTER STATUS;", "SHOW BINARY LOG STATUS;"]
            .iter()
            .find_map(|statement| self.run("asked for its binary log", statement).ok());
        let binlog = status.and_then(|lines| {
            let mut fields = lines.first()?.split('\t').map(str::to_owned);
            Some((fields.next()?, fields.next()?))
        });
        Ok(ServerFacts { version, binlog, data_directory: lines.get(1).map(Into::into) })
    }

    /// Lists the databases, the server's own left out.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn databases(&self) -> Result<Vec<String>, DatabaseError> {
        let names =
            self.run("asked for its databases", "SELECT schema_name FROM information_schema.schemata ORDER BY 1;")?;
        Ok(names.into_iter().filter(|name| !SYSTEM_DATABASES.contains(&name.as_str())).collect())
    }

    /// Returns what is to be known of a database, `None` when there is none of this name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn facts(&self, database: &str) -> Result<Option<DatabaseFacts>, DatabaseError> {
        let name = literal(database);
        let statements = format!(
            "SELECT CONCAT('create\\t', 'CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name)
               FROM information_schema.schemata WHERE schema_name = {name};
             SELECT CONCAT('size\\t', COALESCE(SUM(data_length + index_length), 0)), COALESCE(SUM(table_rows), 0)
               FROM information_schema.tables WHERE table_schema = {name};
             SELECT CONCAT('plain\\t', table_name) FROM information_schema.tables t
               LEFT JOIN information_schema.engines e ON t.engine = e.engine
               WHERE table_schema = {name} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
                 AND COALESCE(transactions, 'NO') <> 'YES' ORDER BY table_name;
             SELECT CONCAT('history\\t', COUNT(*)) FROM information_schema.tables
               WHERE table_schema = {name} AND table_type = 'SYSTEM VERSIONED';"
        );
        let lines = self.run(&format!("asked about database {database:?}"), &statements)?;
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, value) in lines.iter().filter_map(|line| line.split_once('\t')) {
            found.entry(kind).or_default().push(value);
        }
        let Some(create) = found.get("create") else { return Ok(None) };
        let mut sizes =
            found.get("size").and_then(|values| values.first()).into_iter().flat_map(|text| text.split('\t'));
        let mut number = || sizes.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Some(DatabaseFacts {
            bytes: number(),
            rows: number(),
            create: create[0].to_owned(),
            not_transactional: found.get("plain").into_iter().flatten().map(|&table| table.to_owned()).collect(),
            has_history: found.get("history").is_some_and(|count| count[0] != "0"),
        }))
    }

    /// Describes the dump program that fits the server, with its version and whether it can dump the history of rows.
    ///
    /// # Errors
    /// When none is installed.
    pub fn dump_program(&self, server: &ServerFacts) -> Result<DumpProgram, DatabaseError> {
        let names = if server.is_mariadb() { ["mariadb-dump", "mysqldump"] } else { ["mysqldump", "mariadb-dump"] };
        let program = program(&names);
        let printed = |argument: &str| {
            let command = CommandOptions::new(&program, [argument]);
            process::run(&command, b"")
                .map(|printed| String::from_utf8_lossy(&printed).trim().to_owned())
                .map_err(|failure| DatabaseError::failed(&command.name(), "asked for its version", &command, failure))
        };
        let (version, help) = (printed("--version")?, printed("--help")?);
        // `mariadb-dump from 11.4.2-MariaDB, …`, `mysqldump  Ver 8.0.36 for Linux on x86_64`, `… Distrib 10.11.19-MariaDB, …`
        let words: Vec<&str> = version.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|&w| w == word).and_then(|at| words.get(at + 1)).copied();
        let short = after("Distrib").or_else(|| after("from")).or_else(|| after("Ver")).unwrap_or(&version);
        Ok(DumpProgram { program: program.clone(), version: short.trim_end_matches(',').to_owned(), help })
    }
}

/// A dump program, and what it can do.
#[derive(Debug, Clone)]
pub struct DumpProgram {
    /// The program.
    pub program: OsString,
    /// Its version.
    pub version: String,
    help: String,
}

impl DumpProgram {
    /// Tells whether it knows an option, written without a value.
    pub fn knows(&self, option: &str) -> bool {
        self.help.contains(option)
    }
}

/// Finds the first of these programs that is there; if none is, names the first.
fn program(names: &[&str]) -> OsString {
    let directories: Vec<_> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    let found = |name: &&&str| directories.iter().any(|directory| directory.join(name).is_file());
    let chosen = std::env::var_os(PROGRAMS_VARIABLE).filter(|value| !value.is_empty());
    let name = match chosen {
        Some(directory) => names.iter().find(|name| std::path::Path::new(&directory).join(name).is_file()),
        None => names.iter().find(found),
    };
    find_program(name.unwrap_or(&names[0]), PROGRAMS_VARIABLE, &[])
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
    fn a_url_becomes_options_of_the_client() {
        let url = "mysql://joe:geheim@localhost:3307/shop?option-file=/etc/coffre.cnf&ssl-ca=/etc/ca.pem";
        let command = Mysql::new(url.parse().expect("a URL")).client(Some("shop"));
        let line: Vec<_> = command.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        let expected = [
            "--defaults-extra-file=/etc/coffre.cnf",
            "--host=localhost",
            "--port=3307",
            "--protocol=tcp",
            "--user=joe",
            "--ssl-ca=/etc/ca.pem",
        ];
        assert_eq!(line[..6], expected);
        assert_eq!(line.last().expect("some"), "--database=shop");
        assert!(command.environment.contains(&("MYSQL_PWD".into(), "geheim".into())));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(literal("a'\\"), "CONVERT(X'61275c' USING utf8mb4)");
        assert_eq!(identifier("my`shop"), "`my``shop`");
    }
}
