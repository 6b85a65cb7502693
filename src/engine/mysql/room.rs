//! Making room: a database that is to be replaced is dropped only when it is known that what replaces it can be had, and can be made.
//!
//! A server may refuse today what it let be made once: rows that are too large, tables without a primary key, functions that say
//! nothing of themselves. So everything but rows is made in a passing database first, while the whole dump is read through.

use std::io::{self, Write};

use crate::blocking::blocking;
use crate::engine::feed::{FeedError, Heard};
use crate::engine::lines::{DecidedLines, LineEdits};
use crate::engine::mysql::definer::with_definer;
use crate::engine::mysql::rename::Renamed;
use crate::engine::mysql::restore::{MysqlRun, judge, without_rows};
use crate::engine::mysql::sql::{identifier, literal, with_defaults};
use crate::engine::restore::Unrestored;
use crate::progress::Problem;

/// How long a database is waited for that is in use.
const LOCK_SECONDS: u32 = 60;
/// Bytes that a name may have, so that what is added fits into the 64 characters of a name.
const NAME_BYTES: usize = 40;

impl MysqlRun<'_> {
    /// Drops the database that is to be replaced, once it is known that what replaces it can be had and made.
    pub(super) async fn make_room(&self) -> Result<(), Unrestored> {
        self.restoring.monitor.phase(&format!("trying all but the rows of {} before it is replaced", self.name()));
        self.rehearse().await?;
        if self.restoring.cancel.is_cancelled() {
            return Err(FeedError::cancelled().left(self.step.clone(), self.untouched()));
        }
        self.restoring.phase("dropping");
        self.drop_existing().await?;
        self.restoring.phase("restoring");
        Ok(())
    }

    fn untouched(&self) -> String {
        format!("{} is untouched", self.name())
    }

    /// Reads the dump through, and makes everything but rows and events in a database that is dropped again. (Events would run: it is
    /// only tried whether they may be made.)
    async fn rehearse(&self) -> Result<(), Unrestored> {
        let mut end = NAME_BYTES.min(self.name().len());
        while !self.name().is_char_boundary(end) {
            end -= 1;
        }
        let passing = format!("{}_coffre_{}", &self.name()[..end], self.restoring.unique);
        if let Err(error) = self.create_database(&passing).await {
            // Somebody who may change this database only.
            let message =
                format!("whether it can be made is not tried first, as there may be no passing database: {error}");
            self.restoring.monitor.note(Problem::advice(self.name(), message));
            self.try_rights(self.name()).await.map_err(|error| self.failed(error, self.untouched()))?;
            let read = self.restoring.read_through(&self.restoring.database.main().path).await;
            return read.map_err(|error| error.left(self.step.clone(), self.untouched()));
        }
        let tried = self.rehearse_in(&passing).await;
        let drop = format!("DROP DATABASE {};\n", identifier(&passing));
        let (server, asked) = (self.server.clone(), "asked to drop a passing database");
        if let Err(error) = blocking(move || server.run(asked, &drop)).await {
            self.restoring.problem(format!("database {passing} was made to try whether it works, and stays: {error}"));
        }
        tried
    }

    async fn rehearse_in(&self, passing: &str) -> Result<(), Unrestored> {
        self.try_rights(passing).await.map_err(|error| self.failed(error, self.untouched()))?;
        let (path, old) = (&self.restoring.database.main().path, self.restoring.database.source.clone());
        let (new, definer) = (passing.to_owned(), self.restoring.wishes.adaptations.definer.clone());
        let adapt = move |input: Box<dyn Write + Send>| -> Box<dyn Write + Send> {
            let input = Box::new(WithoutRows::new(Renamed::new(input, &old, &new)));
            with_definer(input, definer.as_ref())
        };
        let tried = self.restoring.feed_adapted(path, &self.filling(passing), judge, adapt).await;
        tried.map(|_: Heard| ()).map_err(|error| without_rows(error).left(self.step.clone(), self.untouched()))
    }

    /// Drops it. Somebody who uses it is waited for, but not for long, and not when ending is asked for.
    async fn drop_existing(&self) -> Result<(), Unrestored> {
        let statement = format!("DROP DATABASE IF EXISTS {}", identifier(self.name()));
        let statements = with_defaults(&format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS};\n{statement};\n"));
        let said = self.restoring.say(&statements, &self.server.client(None), judge).await;
        let Err(error) = said else { return Ok(()) };
        let (asking, name) = (self.server.clone(), self.name().to_owned());
        let asked = blocking(move || {
            // The server goes on waiting for the lock when the client is gone.
            let sessions =
                format!("SELECT id FROM information_schema.processlist WHERE info = {};", literal(&statement));
            for id in asking.run("asked who drops", &sessions)? {
                // It may have ended meanwhile.
                let _ = asking.run("asked to end a session", &format!("KILL {id};"));
            }
            asking.facts(&name).map(|facts| facts.is_some())
        });
        let left = match asked.await {
            Ok(true) => self.untouched(),
            Ok(false) => format!("{} is dropped; the same command restores it", self.name()),
            Err(_) => "it may be dropped".to_owned(),
        };
        Err(error.left(self.step.clone(), left))
    }
}

/// Passes a dump on without rows and events. Of each line only its beginning and its end are looked at: a statement with rows begins
/// a line, and no text has the end of a line in it.
struct WithoutRows<W: Write> {
    inner: W,
    /// The statement is one with rows.
    is_rows: bool,
    /// The lines are about events.
    is_events: bool,
    /// Statements end otherwise: it is the text of a routine.
    is_code: bool,
}

/// Begins a statement with rows.
const ROWS: &[u8] = b"INSERT INTO `";
/// Begins what is said of events, and of what may come after them.
const EVENTS: &[u8] = b"-- Dumping events for database ";
const NO_EVENTS: [&[u8]; 3] =
    [b"-- Dumping routines for database ", b"-- Final view structure for view ", b"-- Dump completed"];
/// Begins a line that says how statements end.
const DELIMITER: &[u8] = b"DELIMITER ";
/// As much of a line as tells what it is.
const HEAD_BYTES: usize = 40;

impl<W: Write> WithoutRows<W> {
    fn new(inner: W) -> DecidedLines<Self> {
        DecidedLines::new(Self { inner, is_rows: false, is_events: false, is_code: false }, HEAD_BYTES)
    }
}

impl<W: Write> LineEdits for WithoutRows<W> {
    fn decide(&mut self, head: &[u8]) -> io::Result<()> {
        if let Some(delimiter) = head.strip_prefix(DELIMITER) {
            self.is_code = delimiter.trim_ascii_end() != b";";
        }
        if !self.is_code {
            self.is_events &= !NO_EVENTS.iter().any(|start| head.starts_with(start));
            self.is_events |= head.starts_with(EVENTS);
            self.is_rows |= head.starts_with(ROWS);
        }
        self.pass(head)
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_rows || self.is_events { Ok(()) } else { self.inner.write_all(bytes) }
    }

    fn end_statement(&mut self) {
        self.is_rows = false;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;

    #[test]
    fn rows_and_events_are_left_out_and_nothing_else() {
        let long = "x".repeat(3000);
        let before = "CREATE TABLE `t` (\n  `a` int\n);\n";
        let rows =
            format!("INSERT INTO `t` VALUES\n(1,'{long};'),\n(2,'a\\nINSERT');\nINSERT INTO `t` VALUES (3,';');\n");
        let between = "/*!40000 ALTER TABLE `t` ENABLE KEYS */;\n";
        let events = "-- Dumping events for database 'a'\n--\nDELIMITER ;;\nCREATE EVENT e DO BEGIN\nDELETE FROM t; END ;;\nDELIMITER ;\n";
        let after = "-- Dumping routines for database 'a'\nDELIMITER ;;\nCREATE PROCEDURE p() BEGIN\nINSERT INTO `t` VALUES (1);\n\
            END ;;\nDELIMITER ;\n-- Dump completed\n";
        let dump = format!("{before}{rows}{between}{events}{after}");
        let expected = format!("{before}{between}{after}");
        assert_eq!(passed(&dump, |kept| Box::new(WithoutRows::new(kept))), expected);
    }
}
