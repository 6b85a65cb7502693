//! MariaDB and MySQL by their client programs: which of them fits a server, what databases it has, and what is to be known
//! of one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, OnceLock};

use crate::cancel::Cancel;
use crate::database::tables::ExcludableTable;
use crate::database::url::{DatabaseUrl, UrlKind};
use crate::database::{DatabaseError, major};
use crate::engine::mysql::grants::Grants;
use crate::engine::mysql::programs::{DumpProgram, alone, harmful_options};
use crate::engine::mysql::sql::{identifier, is_database, with_defaults};
use crate::engine::mysql::{NAME, session};
use crate::engine::withholding_passwords;
use crate::model::id::unhex;
use crate::process::{self, CommandOptions};

/// What URLs of MariaDB and MySQL look like.
pub const URLS: UrlKind = UrlKind { engine: NAME, schemes: &["mysql", "mariadb"], database_parameter: None };
/// Where clients look for a password.
pub const PASSWORD_VARIABLE: &str = "MYSQL_PWD";
/// Seconds that connecting may take.
const CONNECT_SECONDS: &str = "--connect-timeout=20";
/// The longest statement or row that clients take.
const PACKET: &str = "--max-allowed-packet=1G";

/// Has a client write values as they are.
const RAW: &str = "--raw";
/// Says that no option file is read.
const NO_OPTION_FILES: &str = "--no-defaults";

/// Databases that belong to the server itself.
pub const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "performance_schema", "mysql", "sys"];

/// Rights without which a part of a database is missing from a dump, and what that is.
const NEEDED_RIGHTS: [(&str, &str); 3] = [("SELECT", "tables and views"), ("TRIGGER", "triggers"), ("EVENT", "events")];
/// Rights each of which shows all routines of a database; the dump program fails for those that it may not read.
const RIGHTS_ON_ROUTINES: [&str; 4] = ["EXECUTE", "ALTER ROUTINE", "CREATE ROUTINE", "SHOW CREATE ROUTINE"];

/// What is kept about a database, and needed to make another like it.
#[derive(Debug, Clone, Default)]
pub struct MysqlFacts {
    /// Bytes of tables and indexes.
    pub bytes: u64,
    /// Rows that the server believes to have.
    pub rows: u64,
    /// Tables, without views.
    pub tables: u64,
    /// Clauses for `CREATE DATABASE`.
    pub create: String,
    /// Its comment, where the server has them.
    pub comment: Option<String>,
    /// Tables whose engine knows no transactions.
    pub not_transactional: Vec<String>,
    /// Columns of type `FLOAT`, which the server writes as text of six digits.
    pub rounded: Vec<String>,
    /// Columns of MySQL whose values the programs of MariaDB write so that they cannot be put back: generated ones, which
    /// they take for others, and vectors.
    pub foreign: Vec<String>,
    /// Whether a table keeps the history of its rows.
    pub has_history: bool,
}

/// A table, view or sequence that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseTable {
    /// Its name.
    pub name: String,
    /// What the server says that it is: `BASE TABLE`, `VIEW`.
    pub type_name: String,
    /// Whether what is put into it can be taken back.
    pub is_transactional: bool,
}

impl DatabaseTable {
    /// Tells whether somebody may mean it by this name: some servers take upper and lower case for one.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.to_lowercase() == name.to_lowercase()
    }

    /// Returns the word for it in a statement that drops it.
    pub fn kind(&self) -> &'static str {
        match self.type_name.as_str() {
            "VIEW" => "VIEW",
            "SEQUENCE" => "SEQUENCE",
            _ => "TABLE",
        }
    }
}

/// What is known about a server.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Its version, as it says it.
    pub version: String,
    /// File and position of the binary log, where it is kept and may be asked for.
    pub binlog: Option<(String, String)>,
    /// Global ids of the transactions that it has, where it gives them any: MySQL's set, or MariaDB's positions.
    pub gtids: Option<String>,
    /// The longest statement that it takes, in bytes.
    pub max_packet: Option<u64>,
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
    /// What was found out about the programs, once.
    programs: Arc<Programs>,
}

#[derive(Debug, Default)]
struct Programs {
    client_has_sandbox: OnceLock<bool>,
    client_options_are_harmless: OnceLock<()>,
    dump: OnceLock<DumpProgram>,
}

impl Mysql {
    /// Names a server; nothing is connected yet.
    pub fn new(url: DatabaseUrl) -> Self {
        Self { url, programs: Arc::default() }
    }

    /// Returns where it is.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Describes how a client program is run: where the server is in its arguments, the password in its environment.
    ///
    /// Parameters of the URL become options of the client, `option-file` the only option file that it reads.
    pub fn command(&self, program: OsString, arguments: &[&str]) -> CommandOptions {
        let parameters: Vec<_> = self.url.parameters().collect();
        // This one must come first.
        let mut line: Vec<String> = self.option_files().into_iter().collect();
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
        let mut options = withholding_passwords(CommandOptions::new(program, line), Some(PASSWORD_VARIABLE));
        if let Some(password) = self.url.password() {
            options.environment.push((PASSWORD_VARIABLE.into(), password.into()));
        }
        options
    }

    /// Says which option files a client is to read. Those that it finds by itself would win over a file that was named, and a
    /// password in any of them over the one in the URL.
    fn option_files(&self) -> Option<String> {
        let named = self.url.parameters().find(|(name, _)| *name == "option-file");
        match named {
            Some((_, file)) => Some(format!("--defaults-file={file}")),
            None => self.url.password().map(|_| NO_OPTION_FILES.to_owned()),
        }
    }

    /// Makes sure that option files say nothing to a program that would change what it does.
    fn check_option_files(&self, program: &OsStr) -> Result<(), DatabaseError> {
        // Behind that there is nothing to look at, and MySQL's programs would not print it, but connect.
        if self.option_files().is_some_and(|option| option == NO_OPTION_FILES) {
            return Ok(());
        }
        let arguments = self.option_files().into_iter().chain(["--print-defaults".to_owned()]);
        let command = alone(program, arguments);
        let printed = process::run(&command, b"").map_err(|failure| {
            DatabaseError::failed(&self.url.server(), "reached with these option files", &command, failure)
        })?;
        match harmful_options(&String::from_utf8_lossy(&printed)) {
            harmful if harmful.is_empty() => Ok(()),
            options => Err(DatabaseError::OptionFiles { program: command.name(), options }),
        }
    }

    /// Describes the client that reads statements from its standard input and ends at the first that fails.
    ///
    /// It takes bytes as they are (without `--binary-mode` it would end lines of routines in its own way), and runs nothing
    /// but statements: no commands of its own, which a dump could have that came from a hostile server. Its session has what
    /// is relied on, whatever the server's settings are.
    pub fn client(&self, database: Option<&str>) -> CommandOptions {
        self.client_setting(database, "")
    }

    /// The same with more settings for its session, each after a comma: `, system_versioning_insert_history=1`.
    pub fn client_setting(&self, database: Option<&str>, more: &str) -> CommandOptions {
        let mut command = self.bare_client(database);
        command
            .arguments
            .insert(command.arguments.len() - usize::from(database.is_some()), session::init_command(more).into());
        command
    }

    /// Describes the client with a session as the server begins it.
    fn bare_client(&self, database: Option<&str>) -> CommandOptions {
        let database = database.map(|database| format!("--database={database}"));
        let program = self.url.clients().first_of(&["mariadb", "mysql"]);
        let has_sandbox = self.programs.client_has_sandbox.get_or_init(|| {
            // If it cannot even be started, the next that tries says so.
            let help = process::run(&alone(&program, ["--help"]), b"").unwrap_or_default();
            String::from_utf8_lossy(&help).contains("--sandbox")
        });
        let mut arguments = vec!["--batch", "--skip-column-names", RAW, "--binary-mode", CONNECT_SECONDS, PACKET];
        arguments.extend(has_sandbox.then_some("--sandbox"));
        arguments.extend(database.as_deref());
        self.command(program, &arguments)
    }

    /// Runs statements and returns the lines that they print. `asked` says what is wanted, for the error.
    ///
    /// # Errors
    /// [`DatabaseError::Spawn`], [`DatabaseError::Failed`] and [`DatabaseError::OptionFiles`].
    pub fn run(&self, asked: &str, statements: &str) -> Result<Vec<String>, DatabaseError> {
        self.run_unless(asked, statements, &Cancel::default())
    }

    /// The same, unless ending is asked for.
    pub(super) fn run_unless(
        &self,
        asked: &str,
        statements: &str,
        cancel: &Cancel,
    ) -> Result<Vec<String>, DatabaseError> {
        self.ask(asked, &with_defaults(statements), self.client(None), cancel)
    }

    /// The same with lines that are rows, whatever ends lines in them: what a client writes with a backslash is written so.
    pub(super) fn run_escaped(
        &self,
        asked: &str,
        statements: &str,
        cancel: &Cancel,
    ) -> Result<Vec<String>, DatabaseError> {
        let mut command = self.client(None);
        command.arguments.retain(|argument| argument != RAW);
        self.ask(asked, &with_defaults(statements), command, cancel)
    }

    /// The same in a session in which nothing is set.
    pub(super) fn run_bare(&self, asked: &str, statements: &str) -> Result<Vec<String>, DatabaseError> {
        self.ask(asked, statements, self.bare_client(None), &Cancel::default())
    }

    fn ask(
        &self,
        asked: &str,
        statements: &str,
        mut command: CommandOptions,
        cancel: &Cancel,
    ) -> Result<Vec<String>, DatabaseError> {
        if self.programs.client_options_are_harmless.get().is_none() {
            self.check_option_files(&command.program)?;
            let _ = self.programs.client_options_are_harmless.set(());
        }
        command.arguments.push("--default-character-set=utf8mb4".into());
        let output = process::run_unless(&command, statements.as_bytes(), cancel)
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
        // MySQL ends the lines of a set.
        let questions = "SELECT VERSION(); SELECT @@datadir; SELECT @@max_allowed_packet;
            SELECT CONCAT(''/*!50706 , REPLACE(@@GLOBAL.gtid_executed, '\\n', '')*//*M! , @@GLOBAL.gtid_current_pos*/);";
        let lines = self.run("asked for its version", questions)?;
        let version = lines.first().cloned().unwrap_or_default();
        // MySQL calls it otherwise since 8.2. Only those may ask who could restore to a point in time; the position is a help, not a need.
        let statements = match version.contains("MariaDB") {
            true => ["SHOW MASTER STATUS;", "SHOW BINLOG STATUS;"],
            false => ["SHOW BINARY LOG STATUS;", "SHOW MASTER STATUS;"],
        };
        let status = statements.iter().find_map(|statement| self.run("asked for its binary log", statement).ok());
        let binlog = status.and_then(|lines| {
            let mut fields = lines.first()?.split('\t').map(str::to_owned);
            Some((fields.next()?, fields.next()?))
        });
        let max_packet = lines.get(2).and_then(|line| line.parse().ok());
        let gtids = lines.get(3).filter(|gtids| !gtids.is_empty()).cloned();
        Ok(ServerFacts { version, binlog, gtids, max_packet, data_directory: lines.get(1).map(Into::into) })
    }

    /// Makes sure that the user sees all there is in a database: what it does not see would be missing from a dump, and
    /// nothing would say so.
    ///
    /// # Errors
    /// [`DatabaseError::Unseen`], naming the first right that is missing.
    pub fn check_rights(&self, server: &ServerFacts, database: &str) -> Result<(), DatabaseError> {
        let grants = self.grants()?;
        let lacking = |right: String, what| Err(DatabaseError::Unseen { server: self.url.server(), right, what });
        for (right, what) in NEEDED_RIGHTS {
            if !grants.has_on_database(right, database) {
                return lacking(format!("{right} ON {}.*", identifier(database)), what);
            }
        }
        // Where routines are kept in this table, reading it shows them all.
        let in_table = server.is_mariadb() || major(&server.version) < 8;
        let shows_routines = grants.has_globally("SELECT")
            || in_table && grants.has_on_table("SELECT", "mysql", "proc")
            || grants.has_globally("SHOW_ROUTINE")
            || RIGHTS_ON_ROUTINES.iter().any(|right| grants.has_on_database(right, database));
        match (shows_routines, in_table) {
            (true, _) => Ok(()),
            (false, true) => lacking("SELECT ON mysql.proc".to_owned(), "procedures and functions"),
            (false, false) => lacking("SHOW_ROUTINE ON *.*".to_owned(), "procedures and functions"),
        }
    }

    /// Makes sure that nothing would be left out of a dump because of how the server begins sessions.
    ///
    /// # Errors
    /// [`DatabaseError::Session`], naming the setting.
    pub fn check_session(&self, program: &DumpProgram) -> Result<(), DatabaseError> {
        if program.sets_its_session() {
            return Ok(());
        }
        let lines = self.run_bare("asked what sessions begin with", session::QUESTION)?;
        let Some((setting, what)) = lines.first().and_then(|line| session::amiss(line)) else { return Ok(()) };
        Err(DatabaseError::Session {
            server: self.url.server(),
            program: program.program.to_string_lossy().into_owned(),
            setting,
            what,
        })
    }

    /// Returns the settings among [`session::LENIENT`] that the user may set, each after a comma.
    pub(super) fn lenient_settings(&self) -> String {
        let may = |settings: &str| self.run("asked to be lenient", &format!("SET SESSION {settings};")).is_ok();
        let all = session::LENIENT.join(", ");
        if may(&all) {
            return format!(", {all}");
        }
        session::LENIENT.iter().filter(|setting| may(setting)).map(|setting| format!(", {setting}")).collect()
    }

    /// Tells whether sessions with these settings keep warnings, by which alone a server says what it changed.
    pub(super) fn keeps_warnings(&self, settings: &str) -> bool {
        let kept = || self.run("asked whether it keeps warnings", "SELECT @@max_error_count;");
        settings.contains(session::WARNINGS)
            || kept().is_ok_and(|lines| lines.first().is_some_and(|count| count != "0"))
    }

    /// Tells whether rights can be revoked in part, as with MySQL since 8.0.16. Then names of databases in grants are no patterns.
    pub(super) fn has_partial_revokes(&self) -> Result<bool, DatabaseError> {
        let lines = self.run("asked about its grants", "SELECT 0/*!80016 + @@partial_revokes*/;")?;
        Ok(lines.first().is_some_and(|line| line == "1"))
    }

    /// Returns the rights of the user.
    pub(super) fn grants(&self) -> Result<Grants, DatabaseError> {
        Ok(Grants::parse(&self.run("asked for the rights of the user", "SHOW GRANTS;")?))
    }

    /// Lists the databases, the server's own left out.
    ///
    /// # Errors
    /// [`DatabaseError`], among them [`DatabaseError::UnseenDatabases`] for a user who may not see all of them.
    pub fn databases(&self) -> Result<Vec<String>, DatabaseError> {
        let grants = self.grants()?;
        if !["SELECT", "SHOW DATABASES"].iter().any(|right| grants.has_globally(right)) {
            let right = "SHOW DATABASES ON *.*".to_owned();
            return Err(DatabaseError::UnseenDatabases { server: self.url.server(), right });
        }
        let answer = self.run(
            "asked for its databases",
            "SELECT HEX(CONVERT(schema_name USING utf8mb4)) FROM information_schema.schemata ORDER BY schema_name;",
        )?;
        // A name may have any character, also one that ends a line.
        let names: Option<Vec<String>> = answer.iter().map(|line| String::from_utf8(unhex(line)?).ok()).collect();
        let names = names.ok_or_else(|| DatabaseError::answer(&self.url.server(), answer.join(" ").as_bytes()))?;
        Ok(names.into_iter().filter(|name| !SYSTEM_DATABASES.contains(&name.as_str())).collect())
    }

    /// Lists the tables, views and sequences of a database.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn tables(&self, database: &str) -> Result<Vec<DatabaseTable>, DatabaseError> {
        let answer = self.run(
            &format!("asked for the tables of {database:?}"),
            &format!(
                "SELECT HEX(CONVERT(table_name USING utf8mb4)), table_type, COALESCE(transactions, 'NO')
                   FROM information_schema.tables t LEFT JOIN information_schema.engines e ON t.engine = e.engine
                   WHERE {} ORDER BY 1;",
                is_database("table_schema", database)
            ),
        )?;
        let table = |line: &String| {
            let mut fields = line.split('\t');
            let name = String::from_utf8(unhex(fields.next()?)?).ok()?;
            let type_name = fields.next()?.to_owned();
            Some(DatabaseTable { name, type_name, is_transactional: fields.next()? == "YES" })
        };
        let tables: Option<Vec<DatabaseTable>> = answer.iter().map(table).collect();
        tables.ok_or_else(|| DatabaseError::answer(&self.url.server(), answer.join(" ").as_bytes()))
    }

    /// Lists the columns of each table and view of a database, in their order.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn columns(&self, database: &str) -> Result<BTreeMap<String, Vec<String>>, DatabaseError> {
        let answer = self.run(
            &format!("asked for the columns of {database:?}"),
            &format!(
                "SELECT HEX(CONVERT(table_name USING utf8mb4)), HEX(CONVERT(column_name USING utf8mb4))
                   FROM information_schema.columns WHERE {} ORDER BY table_name, ordinal_position;",
                is_database("table_schema", database)
            ),
        )?;
        let text = |hex: &str| unhex(hex).and_then(|bytes| String::from_utf8(bytes).ok());
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &answer {
            let names = line.split_once('\t').and_then(|(table, column)| Some((text(table)?, text(column)?)));
            let (table, column) = names.ok_or_else(|| DatabaseError::answer(&self.url.server(), line.as_bytes()))?;
            found.entry(table).or_default().push(column);
        }
        Ok(found)
    }

    /// Lists tables and views, each view with the tables of the database that it uses, through others as well.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn excludable_tables(&self, database: &str) -> Result<Vec<ExcludableTable>, DatabaseError> {
        let names: Vec<String> = self.tables(database)?.into_iter().map(|table| table.name).collect();
        let answer = self.run(
            &format!("asked for the views of {database:?}"),
            &format!(
                "SELECT HEX(CONVERT(table_name USING utf8mb4)), HEX(CONVERT(view_definition USING utf8mb4))
                   FROM information_schema.views WHERE {};",
                is_database("table_schema", database)
            ),
        )?;
        let text = |hex: &str| unhex(hex).and_then(|bytes| String::from_utf8(bytes).ok());
        let views = answer.iter().filter_map(|line| line.split_once('\t'));
        let views: BTreeMap<String, String> = views.filter_map(|(name, sql)| Some((text(name)?, text(sql)?))).collect();
        let uses = |sql: &str, name: &str| uses(sql, &format!("{}.{}", identifier(database), identifier(name)));
        let without = |name: &String| {
            let mut found = vec![name.clone()];
            let mut at = 0;
            while let Some(sql) = found.get(at).map(|name| views.get(name)) {
                let more = names.iter().filter(|it| sql.is_some_and(|sql| uses(sql, it)) && !found.contains(it));
                let more: Vec<String> = more.cloned().collect();
                found.extend(more);
                at += 1;
            }
            found
        };
        let table =
            |name: &String| ExcludableTable { quoted: name.clone(), names: vec![name.clone()], without: without(name) };
        Ok(names.iter().map(table).collect())
    }

    /// Returns the rights that everybody has, as `SHOW GRANTS` writes them; none where that is not known.
    pub fn grants_to_public(&self) -> Vec<String> {
        let lines = self.run("asked for the rights of PUBLIC", "SHOW GRANTS FOR PUBLIC;").unwrap_or_default();
        lines
            .into_iter()
            .filter(|line| line.starts_with("GRANT ") && !line.starts_with("GRANT USAGE ON *.* "))
            .collect()
    }

    /// Returns what is to be known of a database, `None` when there is none of this name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn facts(&self, database: &str) -> Result<Option<MysqlFacts>, DatabaseError> {
        let (schema_name, table_schema) = (is_database("schema_name", database), is_database("table_schema", database));
        let statements = format!(
            "SELECT CONCAT('create\\t', 'CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name)
               FROM information_schema.schemata WHERE {schema_name};
             SELECT CONCAT('size\\t', COALESCE(SUM(data_length + index_length), 0)), COALESCE(SUM(table_rows), 0),
                    COALESCE(SUM(table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')), 0)
               FROM information_schema.tables WHERE {table_schema};
             SELECT CONCAT('plain\\t', table_name) FROM information_schema.tables t
               LEFT JOIN information_schema.engines e ON t.engine = e.engine
               WHERE {table_schema} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
                 AND COALESCE(transactions, 'NO') <> 'YES' ORDER BY table_name;
             SELECT CONCAT('float\\t', table_name, '.', column_name) FROM information_schema.columns
               JOIN information_schema.tables USING (table_schema, table_name)
               WHERE {table_schema} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND data_type = 'float'
                 AND numeric_scale IS NULL AND COALESCE(generation_expression, '') = '' ORDER BY 1;
             SELECT CONCAT('foreign\\t', table_name, '.', column_name) FROM information_schema.columns
               JOIN information_schema.tables USING (table_schema, table_name)
               WHERE {table_schema} AND table_type = 'BASE TABLE'
                 AND (data_type = 'vector' OR COALESCE(generation_expression, '') <> '') ORDER BY 1;
             SELECT CONCAT('history\\t', COUNT(*)) FROM information_schema.tables
               WHERE {table_schema} AND table_type = 'SYSTEM VERSIONED';"
        );
        let lines = self.run(&format!("asked about database {database:?}"), &statements)?;
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, value) in lines.iter().filter_map(|line| line.split_once('\t')) {
            found.entry(kind).or_default().push(value);
        }
        let Some(create) = found.get("create") else { return Ok(None) };
        // Only MariaDB since 10.5 knows it.
        let comment = format!(
            "SELECT HEX(CONVERT(schema_comment USING utf8mb4)) FROM information_schema.schemata WHERE {schema_name};"
        );
        let comment = self.run("asked for its comment", &comment).ok().and_then(|lines| unhex(lines.first()?));
        let mut sizes =
            found.get("size").and_then(|values| values.first()).into_iter().flat_map(|text| text.split('\t'));
        let mut number = || sizes.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let names = |kind: &str| found.get(kind).into_iter().flatten().map(|&name| name.to_owned()).collect();
        Ok(Some(MysqlFacts {
            bytes: number(),
            rows: number(),
            tables: number(),
            create: create[0].to_owned(),
            comment: comment.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|comment| !comment.is_empty()),
            not_transactional: names("plain"),
            rounded: names("float"),
            foreign: names("foreign"),
            has_history: found.get("history").is_some_and(|count| count[0] != "0"),
        }))
    }

    /// Describes the dump program that fits the server, with its version and whether it can dump the history of rows.
    ///
    /// # Errors
    /// When none is installed, or option files would change what it dumps.
    pub fn dump_program(&self, server: &ServerFacts) -> Result<DumpProgram, DatabaseError> {
        if let Some(known) = self.programs.dump.get() {
            return Ok(known.clone());
        }
        let names = if server.is_mariadb() { ["mariadb-dump", "mysqldump"] } else { ["mysqldump", "mariadb-dump"] };
        let program = self.url.clients().first_of(&names);
        let printed = |argument: &str| {
            let command = alone(&program, [argument]);
            process::run(&command, b"")
                .map(|printed| String::from_utf8_lossy(&printed).trim().to_owned())
                .map_err(|failure| DatabaseError::failed(&command.name(), "asked for its version", &command, failure))
        };
        let (version, help) = (printed("--version")?, printed("--help")?);
        self.check_option_files(&program)?;
        // `mariadb-dump from 11.4.2-MariaDB, …`, `mysqldump  Ver 8.0.36 for Linux on x86_64`, `… Distrib 10.11.19-MariaDB, …`
        let words: Vec<&str> = version.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|&w| w == word).and_then(|at| words.get(at + 1)).copied();
        let short = after("Distrib").or_else(|| after("from")).or_else(|| after("Ver")).unwrap_or(&version);
        let found = DumpProgram { program: program.clone(), version: short.trim_end_matches(',').to_owned(), help };
        Ok(self.programs.dump.get_or_init(|| found).clone())
    }
}

/// Tells whether the text of a view has the full name of a table, and not the same within another or in a text.
fn uses(sql: &str, name: &str) -> bool {
    sql.match_indices(name).any(|(at, _)| {
        let is_end = |next: char| next.is_whitespace() || matches!(next, ')' | ',' | ';' | '.');
        !sql[..at].ends_with("`.") && sql[at + name.len()..].chars().next().is_none_or(is_end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_uses_a_table_that_it_names_in_full() {
        let cases = [
            ("select 1 from `shop`.`a`", true),
            ("select `shop`.`a`.`x` AS `x` from (`shop`.`a` join `shop`.`b`)", true),
            ("select `x`.`shop`.`a` from `y`.`z`", false),
            ("select '`shop`.`a`' from `y`.`z`", false),
            ("select 1 from `shop`.`a``b`", false),
            ("select '`shop`.`a`' from `shop`.`a` `t`", true),
        ];
        cases.iter().for_each(|(sql, is_used)| assert_eq!(uses(sql, "`shop`.`a`"), *is_used, "{sql}"));
    }

    fn server(url: &str) -> Mysql {
        Mysql::new(DatabaseUrl::parse(url, &URLS).expect("a URL"))
    }

    #[test]
    fn a_url_becomes_options_of_the_client() {
        let url = "mysql://joe:geheim@localhost:3307/shop?option-file=/etc/coffre.cnf&ssl-ca=/etc/ca.pem";
        let command = server(url).client(Some("shop"));
        let line: Vec<_> = command.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        let expected = [
            "--defaults-file=/etc/coffre.cnf",
            "--host=localhost",
            "--port=3307",
            "--protocol=tcp",
            "--user=joe",
            "--ssl-ca=/etc/ca.pem",
        ];
        assert_eq!(line[..6], expected);
        assert_eq!(line.last().expect("some"), "--database=shop");
        assert!(command.environment.contains(&("MYSQL_PWD".into(), "geheim".into())));
        let first = |url: &str| server(url).client(None).arguments[0].clone();
        assert_eq!(first("mysql://joe:geheim@h/shop"), "--no-defaults");
        assert_eq!(first("mysql://joe@h/shop"), "--host=h");
    }
}
