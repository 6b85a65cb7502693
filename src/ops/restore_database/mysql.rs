//! Restoring into MariaDB or MySQL: a new database is made and filled, and dropped again when that fails.

use std::io::Write;

use crate::database::mysql::{Mysql, escaped, identifier, literal, with_defaults};
use crate::database::url::DatabaseUrl;
use crate::database::{DatabaseError, fact};
use crate::ops::restore_database::feed::{FeedError, Feeder, Said};
use crate::ops::restore_database::lines::{marked_table, with_marks};
use crate::ops::restore_database::plan::DatabasePlan;
use crate::ops::restore_database::rename::Renamed;
use crate::ops::restore_database::{Choice, RestoreDatabaseError, RestoreDatabaseOptions, RestoredDatabase};
use crate::progress::Problem;

/// How long a database is waited for that is in use.
const LOCK_SECONDS: u32 = 60;
/// The comment of a database that is being restored.
pub(super) const UNDER_WAY: &str = "coffre is restoring this database";
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
pub(super) async fn restore(
    feeder: &Feeder,
    options: &RestoreDatabaseOptions,
    url: &DatabaseUrl,
    plan: &DatabasePlan,
) -> Result<RestoredDatabase, RestoreDatabaseError> {
    let server = Mysql::new(url.clone());
    let mut restored =
        RestoredDatabase { name: plan.name.clone(), bytes: plan.stream_bytes(), ..RestoredDatabase::default() };
    let step = format!("restoring {}", plan.name);
    if options.choice == Choice::Globals {
        for stream in &plan.streams {
            let mut command = server.client(None);
            if !options.exit_on_error {
                command.arguments.push("--force".into());
            }
            let left = || "users that were made before it stay".to_owned();
            let heard =
                feeder.feed(&stream.path, &command, judge).await.map_err(|error| error.left(step.clone(), left()))?;
            // With `--force` the client ends with status 0 whatever failed, even when the server went away.
            if heard.has_lost_rows {
                let failed = FeedError::Client { program: command.name(), status: 0, heard };
                return Err(failed.left(step, left()));
            }
            restored.failed_statements += heard.failed_statements;
            restored.said.extend(heard.failures);
        }
        return Ok(restored);
    }
    let name = identifier(&plan.name);
    let clauses = plan.fact(fact::CREATE).unwrap_or_default();
    let stream = plan.streams.first().expect("a plan has a main stream");
    if plan.exists {
        let left = || format!("{} is untouched", plan.name);
        feeder.monitor.phase(&format!("reading {} through before it is replaced", plan.name));
        feeder.read_through(&stream.path).await.map_err(|error| error.left(step.clone(), left()))?;
        if feeder.cancel.is_cancelled() {
            return Err(FeedError::Cancelled.left(step, left()));
        }
        feeder.monitor.phase(&format!("dropping {}", plan.name));
        drop_existing(feeder, &server, &plan.name, &step).await?;
        feeder.monitor.phase(&format!("restoring {}", plan.name));
    }
    let created = sql(&server, "asked to create a database", format!("CREATE DATABASE {name} {clauses};\n")).await;
    created.map_err(|source| {
        let left = if plan.exists { format!("{} is dropped", plan.name) } else { "nothing was changed".into() };
        RestoreDatabaseError::Server { step: step.clone(), left, source }
    })?;
    // MariaDB since 10.5 has comments. One that is left there by a restore that was killed says so.
    let set_comment = |text: &str| format!("ALTER DATABASE {name} COMMENT = {};\n", escaped(text));
    let is_marked = sql(&server, "asked to mark a database", set_comment(UNDER_WAY)).await.is_ok();
    // Never with `--force`: the client would end with status 0 after rows were lost, even when the server went away.
    let settings = if plan.fact(fact::HISTORY).is_some() { HISTORY } else { "" };
    let mut command = server.client_setting(Some(&plan.name), settings);
    command.arguments.extend(["--show-warnings".into(), "--unbuffered".into()]);
    command.joins_output = true;
    let (old, new) = (plan.source.clone(), plan.name.clone());
    let adapt = |input: Box<dyn Write + Send>| -> Box<dyn Write + Send> {
        let input = with_marks(input);
        if old == new { input } else { Box::new(Renamed::new(input, &old, &new)) }
    };
    let fed = feeder.feed_adapted(&stream.path, &command, judge, adapt).await;
    restored.not_carried =
        plan.fact(fact::CHANGED).map(|text| text.split("; ").map(str::to_owned).collect()).unwrap_or_default();
    restored.changes = fed.as_ref().map(|heard| heard.changes.iter().cloned().collect()).unwrap_or_default();
    if let Err(error) = fed {
        let error = without_rows(error);
        let left = if plan.exists {
            format!(
                "{} is incomplete, and what it was is gone; once the cause is removed, the same command restores it",
                plan.name
            )
        } else {
            match sql(&server, "asked to drop what is half restored", format!("DROP DATABASE {name};\n")).await {
                Ok(()) => format!("there is no database {}, nothing was left behind", plan.name),
                Err(_) => format!("database {} is half restored and may be dropped", plan.name),
            }
        };
        return Err(error.left(step, left));
    }
    let comment = plan.fact(fact::COMMENT).unwrap_or_default();
    if (is_marked || !comment.is_empty())
        && let Err(error) = sql(&server, "asked to comment a database", set_comment(comment)).await
    {
        let message = format!("its comment could not be set to {comment:?}: {error}");
        feeder.monitor.problem(Problem::missing(plan.name.clone(), message));
    }
    if plan.source != plan.name {
        match uses(&server, &plan.name, &plan.source).await {
            Ok(found) => restored.uses_original = found,
            Err(error) => {
                let message = format!("whether it uses {} is not known: {error}", plan.source);
                feeder.monitor.problem(Problem::missing(plan.name.clone(), message));
            }
        }
    }
    if options.analyze {
        feeder.monitor.phase(&format!("gathering statistics of {}", plan.name));
        // The data is there, whatever becomes of this.
        if let Err(error) = analyze(&server, &plan.name).await {
            let message = format!("ANALYZE: {error}");
            feeder.monitor.problem(Problem::missing(plan.name.clone(), message));
        }
    }
    Ok(restored)
}

/// Drops the database that is to be replaced. Somebody who uses it is waited for, but not for long, and not when ending is
/// asked for.
async fn drop_existing(feeder: &Feeder, server: &Mysql, name: &str, step: &str) -> Result<(), RestoreDatabaseError> {
    let statement = format!("DROP DATABASE IF EXISTS {}", identifier(name));
    let statements = with_defaults(&format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS};\n{statement};\n"));
    let Err(error) = feeder.say(&statements, &server.client(None), judge).await else { return Ok(()) };
    let (asking, name) = (server.clone(), name.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        // The server goes on waiting for the lock when the client is gone.
        let sessions = format!("SELECT id FROM information_schema.processlist WHERE info = {};", literal(&statement));
        for id in asking.run("asked who drops", &sessions)? {
            // It may have ended meanwhile.
            let _ = asking.run("asked to end a session", &format!("KILL {id};"));
        }
        asking.facts(&name).map(|facts| (name, facts.is_some()))
    });
    let left = match asked.await.expect("asking does not panic") {
        Ok((name, true)) => format!("{name} is untouched"),
        Ok((name, false)) => format!("{name} is dropped; the same command restores it"),
        Err(_) => "it may be dropped".to_owned(),
    };
    Err(error.left(step.to_owned(), left))
}

/// Leaves rows out of what the client said: it repeats the statement that failed.
fn without_rows(error: FeedError) -> FeedError {
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

/// Lists what in a copy uses the database that it was dumped from.
async fn uses(server: &Mysql, copy: &str, original: &str) -> Result<Vec<String>, DatabaseError> {
    let (server, copy, original) = (server.clone(), copy.to_owned(), original.to_owned());
    let asked = tokio::task::spawn_blocking(move || server.references(&copy, &original)).await;
    asked.expect("asking does not panic")
}

/// Judges a line of the client: statements that failed were skipped by `--force`, unless rows were among them, nobody may
/// come in, the connection is lost or the disk is full.
fn judge(line: &[u8]) -> Said {
    if line.starts_with(b"INSERT INTO ") {
        return Said::Lost;
    }
    if marked_table(line).is_some() {
        return Said::Table;
    }
    if let Some(rest) = [&b"Warning (Code "[..], b"Error (Code "].iter().find_map(|start| line.strip_prefix(*start)) {
        return if CHANGES.contains(&number(rest)) { Said::Changed } else { Said::Other };
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

/// Reads the number at the start of a text, `0` when there is none.
fn number(text: &[u8]) -> u32 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u32, |number, byte| number.saturating_mul(10).saturating_add(u32::from(byte - b'0')))
}

async fn analyze(server: &Mysql, database: &str) -> Result<(), DatabaseError> {
    let literal = crate::database::mysql::literal(database);
    let list = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {literal}
         AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED');"
    );
    let (asking, name) = (server.clone(), database.to_owned());
    let tables = tokio::task::spawn_blocking(move || asking.run("asked for its tables", &list)).await;
    let tables = tables.expect("asking does not panic")?;
    let named: Vec<String> =
        tables.iter().map(|table| format!("{}.{}", identifier(&name), identifier(table))).collect();
    match named.is_empty() {
        true => Ok(()),
        false => sql(server, "asked for statistics", format!("ANALYZE TABLE {};\n", named.join(", "))).await,
    }
}

async fn sql(server: &Mysql, asked: &str, statements: String) -> Result<(), DatabaseError> {
    let (server, asked) = (server.clone(), asked.to_owned());
    let ran = tokio::task::spawn_blocking(move || server.run(&asked, &statements)).await;
    ran.expect("asking does not panic").map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_never_a_failed_statement() {
        let cases: [(&[u8], Said); 10] = [
            (b"ERROR 1146 (42S02) at line 5: Table 'a.b' doesn't exist", Said::Failed(1)),
            (b"ERROR 2013 (HY000) at line 9: Lost connection", Said::Lost),
            (b"ERROR 1045 (28000): Access denied", Said::Lost),
            (b"INSERT INTO `t` VALUES (1)", Said::Lost),
            (b"ERROR 1114 (HY000) at line 9: The table 't' is full", Said::Lost),
            (b"ERROR at line 3: Unknown command '\\!'.", Said::Lost),
            (b"--------------", Said::Other),
            (b"Warning (Code 1265): Data truncated for column 'e' at row 1", Said::Changed),
            (b"Warning (Code 1681): Integer display width is deprecated", Said::Other),
            (b"coffre restores table 74", Said::Table),
        ];
        for (line, said) in cases {
            assert_eq!(judge(line), said, "{}", String::from_utf8_lossy(line));
        }
    }
}
