//! Restoring into MariaDB or MySQL: a new database is made and filled, and dropped again when that fails.

use std::io::{BufWriter, Write};
use std::sync::{Arc, PoisonError};

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::feed::{FeedError, Heard, Said};
use crate::engine::mysql::definer::with_definer;
use crate::engine::mysql::facts;
use crate::engine::mysql::marks::{MarkedLines, done_sign, marked_table, marks_before, with_lines_of_dump, with_marks};
use crate::engine::mysql::parts::PartsOfDump;
use crate::engine::mysql::rename::Renamed;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::{escaped, identifier, literal};
use crate::engine::restore::{Cause, RestoredDatabase, Restoring, Unrestored};
use crate::model::facts::fact;
use crate::process::{CommandOptions, readable};

/// The comment of a database that is being restored.
pub const UNDER_WAY: &str = "coffre is restoring this database";
/// Bytes that are collected for the client before it gets them.
const BUFFER_BYTES: usize = 64 * 1024;
/// What must be allowed before rows of the history of system-versioned tables can be put back.
const HISTORY: &str = ", system_versioning_insert_history=1";
/// Numbers of warnings by which a server says that it did not take what it was given: values that do not fit, or have no
/// meaning in their type, and tables that became others. (Dumps switch off the mode in which these are errors.)
const CHANGES: [u32; 20] = [
    1048, // a column cannot be null
    1071, // a key is too long, and was cut
    1246, // a column became one of another type
    1263, // null became the default of a column
    1264, // out of range
    1265, // truncated
    1266, // another engine
    1286, // an engine that is not known
    1292, // a value of another type that is wrong
    1299, // no valid TIMESTAMP
    1300, // no valid text
    1364, // no default
    1366, // a wrong value
    1367, // a value that is not understood
    1406, // too long
    1411, // a wrong value for a function
    1441, // a date out of range
    1916, // MariaDB: overflow
    1918, // MariaDB: a value that cannot be converted
    1977, // MariaDB: a character that cannot be converted
];

/// Restores one database, or the users.
///
/// # Errors
/// [`Unrestored`].
pub async fn restore(restoring: &Restoring<'_>) -> Result<RestoredDatabase, Unrestored> {
    let step = format!("restoring {}", restoring.database.name);
    let url = restoring.place.server().map_err(|error| Unrestored {
        step: step.clone(),
        left: "nothing was changed".into(),
        cause: Cause::Server(error),
    })?;
    let server = Mysql::new(url.clone());
    if restoring.wishes.are_globals {
        return MysqlRun { restoring, server, step, settings: String::new() }.users().await;
    }
    let asking = server.clone();
    let (mut settings, keeps_warnings) = blocking(move || {
        let settings = asking.lenient_settings();
        let keeps_warnings = asking.keeps_warnings(&settings);
        (settings, keeps_warnings)
    })
    .await;
    if !keeps_warnings {
        restoring.problem("the server keeps no warnings (max_error_count = 0): what it changes is not told".into());
    }
    if restoring.database.fact(facts::HISTORY).is_some() {
        settings += HISTORY;
    }
    MysqlRun { restoring, server, step, settings }.database().await
}

/// One restore into a server.
pub(super) struct MysqlRun<'a> {
    pub restoring: &'a Restoring<'a>,
    pub server: Mysql,
    pub step: String,
    /// Settings of the sessions that restore, each after a comma.
    pub settings: String,
}

impl MysqlRun<'_> {
    /// Returns the name that the database is to have.
    pub(super) fn name(&self) -> &str {
        &self.restoring.database.name
    }

    /// Says in what state everything is after the server failed.
    pub(super) fn failed(&self, source: DatabaseError, left: impl Into<String>) -> Unrestored {
        Unrestored { step: self.step.clone(), left: left.into(), cause: Cause::Server(source) }
    }

    pub(super) fn begin(&self) -> RestoredDatabase {
        let plan = self.restoring.database;
        RestoredDatabase { name: plan.name.clone(), bytes: plan.stream_bytes(), ..RestoredDatabase::default() }
    }

    async fn database(&self) -> Result<RestoredDatabase, Unrestored> {
        let plan = self.restoring.database;
        let found = self.find_parts().await?;
        if plan.is_added_to {
            return self.beside(found).await;
        }
        if plan.exists {
            self.make_room().await?;
        }
        let is_marked = self.create().await?;
        // What is replaced was looked at before it was dropped.
        if !plan.exists
            && let Err(error) = self.try_rights(&plan.name).await
        {
            let left = self.clean_up().await;
            return Err(self.failed(error, left));
        }
        let heard = match self.fill_new().await {
            Ok(heard) => heard,
            Err(error) => return Err(without_rows(error).left(&self.step, self.clean_up().await)),
        };
        // As early as can be: it is open to its users.
        let compared = self.compare().await;
        self.set_comment(is_marked).await;
        self.tell_other_definers(&[]).await;
        let restored = RestoredDatabase {
            changes: heard.changes.into_iter().collect(),
            not_carried: self.not_carried(),
            uses_original: self.uses_original().await,
            left_out: self.left_out(found),
            compared,
            ..self.begin()
        };
        if self.restoring.wishes.analyze {
            self.restoring.phase("gathering statistics of");
            // The data is there, whatever becomes of this.
            if let Err(error) = analyze(&self.server, self.name(), &[]).await {
                self.restoring.problem(format!("ANALYZE: {error}"));
            }
        }
        Ok(restored)
    }

    /// Makes the database, and tells whether its comment says that it is being restored.
    async fn create(&self) -> Result<bool, Unrestored> {
        let plan = self.restoring.database;
        self.create_database(&plan.name).await.map_err(|source| {
            let left = if plan.exists { format!("{} is dropped", plan.name) } else { "nothing was changed".into() };
            self.failed(source, left)
        })?;
        // MariaDB since 10.5 has comments. One that is left there by a restore that was killed says so.
        Ok(sql(&self.server, "asked to mark a database", self.comment(UNDER_WAY)).await.is_ok())
    }

    /// Makes a database like the one that was dumped.
    pub(super) async fn create_database(&self, name: &str) -> Result<(), DatabaseError> {
        let clauses = self.restoring.database.fact(facts::CREATE).unwrap_or_default();
        let create = format!("CREATE DATABASE {} {clauses};\n", identifier(name));
        sql(&self.server, "asked to create a database", create).await
    }

    /// Describes the client that a dump is fed to. Never with `--force`: it would end with status 0 after rows were lost, even when
    /// the server went away.
    pub(super) fn filling(&self, database: &str) -> CommandOptions {
        self.filling_setting(database, &self.settings)
    }

    /// The same with these settings for its session, each after a comma.
    pub(super) fn filling_setting(&self, database: &str, settings: &str) -> CommandOptions {
        let mut command = self.server.client_setting(Some(database), settings);
        command.arguments.extend(["--show-warnings".into(), "--unbuffered".into()]);
        command.joins_output = true;
        command
    }

    /// Writes the statement that gives the database a comment.
    fn comment(&self, text: &str) -> String {
        format!("ALTER DATABASE {} COMMENT = {};\n", identifier(self.name()), escaped(text))
    }

    /// Feeds the dump to the client, and notes where it is told which table comes.
    pub(super) async fn fill(&self, marked: MarkedLines) -> Result<Heard, FeedError> {
        let plan = self.restoring.database;
        let (command, adapt) = (self.filling(&plan.name), self.adapted());
        // Rows are short lines.
        let marking =
            |input: Box<dyn Write + Send>| adapt(with_marks(BufWriter::with_capacity(BUFFER_BYTES, input), marked));
        self.restoring.feed_adapted(&plan.main().path, &command, judge, marking).await
    }

    /// Feeds the dump to as many clients as are wanted, into a database that nobody else uses.
    async fn fill_new(&self) -> Result<Heard, FeedError> {
        if self.is_filled_by_several() {
            return self.fill_by_several().await;
        }
        let marked = MarkedLines::default();
        let filled = self.fill(marked.clone()).await;
        let marked = marked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        filled.map_err(|error| with_lines_of_dump(error, |line| line - marks_before(line, &marked)))
    }

    /// Returns what stands between the dump and its clients.
    pub(super) fn adapted(&self) -> impl FnOnce(Box<dyn Write + Send>) -> Box<dyn Write + Send> + use<> {
        let plan = self.restoring.database;
        let parts = self.restoring.wishes.parts.clone();
        let (old, new) = (plan.source.clone(), plan.name.clone());
        let definer = self.restoring.wishes.adaptations.definer.clone();
        move |input: Box<dyn Write + Send>| -> Box<dyn Write + Send> {
            let input = if old == new { input } else { Box::new(Renamed::new(input, &old, &new)) };
            let is_whole = parts.are_all() && !parts.into_existing;
            let input = if is_whole { input } else { Box::new(PartsOfDump::new(input, parts, Arc::default())) };
            with_definer(input, definer.as_ref())
        }
    }

    /// Drops what is half restored, unless it replaced something, and tells in what state everything is then.
    async fn clean_up(&self) -> String {
        let plan = self.restoring.database;
        if plan.exists {
            return format!(
                "{} is incomplete, and what it was is gone; once the cause is removed, the same command restores it",
                plan.name
            );
        }
        let drop = format!("DROP DATABASE {};\n", identifier(&plan.name));
        match sql(&self.server, "asked to drop what is half restored", drop).await {
            Ok(()) => format!("there is no database {}, nothing was left behind", plan.name),
            Err(_) => format!("database {} is half restored and may be dropped", plan.name),
        }
    }

    /// Gives the database the comment that it had.
    async fn set_comment(&self, is_marked: bool) {
        let comment = self.restoring.database.fact(facts::COMMENT).unwrap_or_default();
        if (is_marked || !comment.is_empty())
            && let Err(error) = sql(&self.server, "asked to comment a database", self.comment(&comment)).await
        {
            self.restoring.problem(format!("its comment could not be set to {comment:?}: {error}"));
        }
    }

    /// Lists the columns that the dump did not carry as they were.
    pub(super) fn not_carried(&self) -> Vec<String> {
        let changed = self.restoring.database.fact(fact::CHANGED).unwrap_or_default();
        changed.split("; ").filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    /// Lists what in a copy uses the database that it was dumped from.
    pub(super) async fn uses_original(&self) -> Vec<String> {
        let plan = self.restoring.database;
        if plan.source == plan.name {
            return Vec::new();
        }
        let (server, copy, original) = (self.server.clone(), plan.name.clone(), plan.source.clone());
        match blocking(move || server.references(&copy, &original)).await {
            Ok(found) => found,
            Err(error) => {
                self.restoring.problem(format!("whether it uses {} is not known: {error}", plan.source));
                Vec::new()
            }
        }
    }
}

/// Leaves rows out of what the client said: it repeats the statement that failed.
pub(super) fn without_rows(error: FeedError) -> FeedError {
    match error {
        FeedError::Client { program, status, mut heard } => {
            if heard.last.iter().any(|line| line.starts_with("ERROR ")) {
                heard.last.retain(|line| line.starts_with("ERROR "));
            }
            FeedError::Client { program, status, heard }
        }
        other => other,
    }
}

/// Judges a line of the client: statements that failed were skipped by `--force`, unless rows were among them, nobody may
/// come in, the connection is lost or the disk is full.
pub(super) fn judge(line: &[u8]) -> Said {
    if line.starts_with(b"INSERT INTO ") {
        return Said::Lost;
    }
    if let Some(table) = marked_table(line) {
        return Said::Table(table);
    }
    if let Some(sign) = done_sign(line) {
        return Said::Done(sign);
    }
    if let Some(rest) = [&b"Warning (Code "[..], b"Error (Code "].iter().find_map(|start| line.strip_prefix(*start)) {
        return if CHANGES.contains(&number(rest)) { Said::Changed(what_changed(line)) } else { Said::Other };
    }
    let Some(rest) = line.strip_prefix(b"ERROR ") else { return Said::Other };
    let number = number(rest);
    // Those that say that nobody may come in, and those of a full disk.
    const FINAL: [u32; 7] = [1040, 1044, 1045, 1049, 1021, 1026, 1114];
    // The client's own begin at 2000; one without a number is about what it reads.
    match number == 0 || (2000..3000).contains(&number) || FINAL.contains(&number) {
        true => Said::Lost,
        false => Said::Failed(1),
    }
}

/// Cuts a warning to what is the same for all rows: `Warning (Code 1265): Data truncated for column 'e' at row 1`.
fn what_changed(line: &[u8]) -> String {
    let what = readable(line);
    let what = what.split_once("): ").map_or(what.as_str(), |(_, what)| what);
    what.rsplit_once(" at row ").map_or(what, |(what, _)| what).to_owned()
}

/// Reads the number at the start of a text, `0` when there is none.
fn number(text: &[u8]) -> u32 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u32, |number, byte| number.saturating_mul(10).saturating_add(u32::from(byte - b'0')))
}

/// Lets the server gather statistics of tables: of those named, or of all.
pub(super) async fn analyze(server: &Mysql, database: &str, only: &[String]) -> Result<(), DatabaseError> {
    let literal = literal(database);
    let list = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {literal}
         AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED');"
    );
    let (asking, name) = (server.clone(), database.to_owned());
    let tables = blocking(move || asking.run("asked for its tables", &list)).await?;
    let is_meant = |table: &&String| only.is_empty() || only.contains(table);
    let named: Vec<String> =
        tables.iter().filter(is_meant).map(|table| format!("{}.{}", identifier(&name), identifier(table))).collect();
    match named.is_empty() {
        true => Ok(()),
        false => sql(server, "asked for statistics", format!("ANALYZE TABLE {};\n", named.join(", "))).await,
    }
}

async fn sql(server: &Mysql, asked: &str, statements: String) -> Result<(), DatabaseError> {
    let (server, asked) = (server.clone(), asked.to_owned());
    blocking(move || server.run(&asked, &statements)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_never_a_failed_statement() {
        let cases: [(&[u8], Said); 11] = [
            (b"ERROR 1146 (42S02) at line 5: Table 'a.b' doesn't exist", Said::Failed(1)),
            (b"ERROR 2013 (HY000) at line 9: Lost connection", Said::Lost),
            (b"ERROR 1045 (28000): Access denied", Said::Lost),
            (b"INSERT INTO `t` VALUES (1)", Said::Lost),
            (b"ERROR 1114 (HY000) at line 9: The table 't' is full", Said::Lost),
            (b"ERROR at line 3: Unknown command '\\!'.", Said::Lost),
            (b"--------------", Said::Other),
            (
                b"Warning (Code 1265): Data truncated for column 'e' at row 1",
                Said::Changed("Data truncated for column 'e'".into()),
            ),
            (b"Warning (Code 1681): Integer display width is deprecated", Said::Other),
            (b"coffre restores table 74", Said::Table("t".into())),
            (b"coffre has done this: 5e", Said::Done("5e".into())),
        ];
        for (line, said) in cases {
            assert_eq!(judge(line), said, "{}", String::from_utf8_lossy(line));
        }
    }
}
