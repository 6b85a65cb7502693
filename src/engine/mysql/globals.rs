//! Users, roles and grants, and what belongs to a server as they do, into one that may have some of them already.
//!
//! Statements that fail are counted, and the others are done: rights on a single table wait for that table, and a server of another
//! version does not know every right. Of accounts that are there already MariaDB and MySQL change what the dump says of them.

use std::io::{self, Write};

use crate::blocking::blocking;
use crate::engine::feed::{FeedError, Heard, Said};
use crate::engine::lines::{DecidedLines, LineEdits};
use crate::engine::mysql::facts;
use crate::engine::mysql::restore::{MysqlRun, judge, without_rows};
use crate::engine::mysql::statements::StatementBounds;
use crate::engine::parts::some_names;
use crate::engine::restore::{RestoredDatabase, Unrestored};
use crate::model::facts::fact;
use crate::process::readable;
use crate::progress::Problem;

/// How MySQL says that an account is there already, which is then changed.
const IS_THERE: &[u8] = b"Note (Code 3163): ";
/// How MariaDB says that an account cannot be made.
const NOT_MADE: &str = "Operation CREATE USER failed for ";
/// The account of every server of MariaDB.
const OF_SERVER: &str = "mariadb.sys@localhost";
/// As much of a line as a statement takes that loads something.
const HEAD_BYTES: usize = 4096;

impl MysqlRun<'_> {
    /// Restores the users, and what else belongs to the server.
    pub(super) async fn users(&self) -> Result<RestoredDatabase, Unrestored> {
        let mut restored = self.begin();
        let own = [self.connecting().await, Some(OF_SERVER.to_owned())];
        let own: Vec<String> = own.into_iter().flatten().map(|account| quoted(&account)).collect();
        let server = self.server.clone();
        let loaded = blocking(move || server.loaded()).await;
        for stream in &self.restoring.database.streams {
            let mut command = self.server.client(None);
            command.arguments.push("--show-warnings".into());
            command.joins_output = true;
            if !self.restoring.wishes.exit_on_error {
                command.arguments.push("--force".into());
            }
            let adapt =
                |input: Box<dyn Write + Send>| -> Box<dyn Write + Send> { Box::new(Unloaded::new(input, &loaded)) };
            let fed = match self.restoring.feed_adapted(&stream.path, &command, judge_user, adapt).await {
                // With `--force` the client ends with status 0 whatever failed, even when the server went away.
                Ok(heard) if heard.has_lost_rows => {
                    Err(FeedError::Client { program: command.name(), status: 0, heard })
                }
                fed => fed,
            };
            // The statement that failed may have the hash of a password.
            let heard =
                fed.map_err(|error| without_rows(error).left(&self.step, "users that were made before it stay"))?;
            let heard = without_own(heard, &own);
            self.tell_those_there(&heard);
            restored.failed_statements += heard.failed_statements;
            restored.said.extend(heard.failures);
        }
        self.tell_other_patterns().await;
        Ok(restored)
    }

    async fn connecting(&self) -> Option<String> {
        let server = self.server.clone();
        blocking(move || server.current_account()).await
    }

    /// Tells which accounts were there already.
    fn tell_those_there(&self, heard: &Heard) {
        let there: Vec<String> = heard.changes.iter().map(|said| named_in(said)).collect();
        if !there.is_empty() {
            let message = format!(
                "these were there already, and have the passwords and settings of the dump now, besides the rights that they had: {}",
                some_names(&there)
            );
            self.restoring.monitor.note(Problem::advice(self.name(), message));
        }
    }

    /// Tells that names of databases in grants mean others here: with `partial_revokes` they are no patterns.
    async fn tell_other_patterns(&self) {
        let plan = self.restoring.database;
        if plan.text(fact::SERVER_VERSION).is_none_or(|version| version.contains("MariaDB")) {
            return;
        }
        let server = self.server.clone();
        let were_names = plan.text(facts::PARTIAL_REVOKES).is_some();
        let message = match (were_names, blocking(move || server.has_partial_revokes()).await) {
            (true, Ok(false)) => {
                "partial_revokes is on where they were dumped, and off here: what was revoked in part is not, and _ and % in the names \
                 of databases stand for others: SET PERSIST partial_revokes = ON, and restore them again"
            }
            (false, Ok(true)) => {
                "partial_revokes is off where they were dumped, and on here: _ and % in the names of databases in grants stand for \
                 nothing else, so that rights are missing"
            }
            _ => return,
        };
        self.restoring.monitor.problem(Problem::suspicious(self.name(), message));
    }
}

/// Passes the statements on but for some that would fail, because what they load is loaded.
struct Unloaded<W: Write> {
    inner: W,
    /// Those, each as a line.
    loaded: Vec<Vec<u8>>,
    statements: StatementBounds,
}

impl<W: Write> Unloaded<W> {
    fn new(inner: W, loaded: &[String]) -> DecidedLines<Self> {
        let loaded = loaded.iter().map(|statement| format!("{statement};\n").into_bytes()).collect();
        DecidedLines::new(Self { inner, loaded, statements: StatementBounds::default() }, HEAD_BYTES)
    }
}

impl<W: Write> LineEdits for Unloaded<W> {
    fn decide(&mut self, head: &[u8]) -> io::Result<()> {
        if self.statements.are_between() && self.loaded.iter().any(|line| line == head) {
            return Ok(());
        }
        self.pass(head)
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.statements.pass(bytes);
        self.inner.write_all(bytes)
    }

    fn end_statement(&mut self) {}

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    fn cut_off(&mut self, held: &[u8]) {
        // Whoever reads it says what is missing.
        let _ = self.inner.write_all(held);
    }
}

/// Judges a line of a client that makes users. That a database or a right is missing is an error of one statement; whoever may not
/// come in has a client with another status.
fn judge_user(line: &[u8]) -> Said {
    const OF_ONE: [&[u8]; 2] = [b"ERROR 1044 ", b"ERROR 1049 "];
    if let Some(account) = line.strip_prefix(IS_THERE) {
        return Said::Changed(readable(account));
    }
    match judge(line) {
        Said::Lost if OF_ONE.iter().any(|start| line.starts_with(start)) => Said::Failed(1),
        // A warning about a setting that is no value of anybody's.
        Said::Changed(_) => Said::Other,
        said => said,
    }
}

/// Returns the account that a server says is there: `Authorization ID 'app'@'%' already exists.` Quotes in it have a backslash, or two
/// where the client wrote it.
fn named_in(said: &str) -> String {
    let quoted = said.split_once('\'').and_then(|(_, rest)| rest.rsplit_once('\''));
    quoted.map_or(said, |(account, _)| account).replacen("'@'", "@", 1).replace("\\\\'", "'").replace("\\'", "'")
}

/// Leaves out of what failed that accounts could not be made which are there always: the one that connects, and that of the server.
fn without_own(mut heard: Heard, own: &[String]) -> Heard {
    let is_own = |line: &String| {
        line.split_once(NOT_MADE).is_some_and(|(_, account)| own.iter().any(|own| account.trim_end() == own))
    };
    let before = heard.failures.len();
    heard.failures.retain(|line| !is_own(line));
    let own_failures = (before - heard.failures.len()) as u64;
    heard.failed_statements = heard.failed_statements.saturating_sub(own_failures);
    heard
}

/// Writes an account as servers do in messages.
fn quoted(account: &str) -> String {
    match account.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => format!("'{account}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;

    #[test]
    fn what_is_loaded_is_not_loaded_again() {
        let loaded = ["INSTALL PLUGIN `a` SONAME 'a.so'".to_owned()];
        let line = "INSTALL PLUGIN `a` SONAME 'a.so';\n";
        let user = format!("CREATE USER `x\n{line}`@`%` {};\n", "y".repeat(5000));
        let dump = |first: &str| {
            format!("-- Users\n\nSET a;\n{first}INSTALL PLUGIN `b` SONAME 'a.so';\n{user}{first}-- end\n")
        };
        assert_eq!(passed(&dump(line), |kept| Box::new(Unloaded::new(kept, &loaded))), dump(""));
        assert_eq!(passed(&dump(line), |kept| Box::new(Unloaded::new(kept, &[]))), dump(line));
    }

    #[test]
    fn what_is_missing_for_one_statement_ends_no_other() {
        for (line, said) in [
            (&b"ERROR 1049 (42000) at line 26: Unknown database 'shop'"[..], Said::Failed(1)),
            (b"ERROR 1044 (42000) at line 3: Access denied for user 'a'@'%' to database 'shop'", Said::Failed(1)),
            (b"ERROR 1045 (28000): Access denied for user 'a'@'%'", Said::Lost),
            (b"ERROR 2013 (HY000) at line 9: Lost connection", Said::Lost),
            (b"Warning (Code 1287): The SUPER privilege identifier is deprecated", Said::Other),
            (
                b"Note (Code 3163): Authorization ID 'app'@'%' already exists.",
                Said::Changed("Authorization ID 'app'@'%' already exists.".into()),
            ),
        ] {
            assert_eq!(judge_user(line), said, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(named_in(r": Authorization ID 'it\'s`me'@'10.%' already exists."), "it's`me@10.%");
        assert_eq!(named_in(r": Authorization ID 'it\\'s`me'@'10.%' already exists."), "it's`me@10.%");
    }

    #[test]
    fn the_account_that_connects_is_there_and_no_failure() {
        let failure = |account: &str| format!("ERROR 1396 (HY000) at line 9: {NOT_MADE}{account}");
        let mut heard = Heard::default();
        heard.failed_statements += 7;
        heard.failures.extend(["'root'@'localhost'", "'mariadb.sys'@'localhost'", "'root'@'%'"].map(failure));
        let heard = without_own(heard, &["root@localhost", OF_SERVER].map(quoted));
        assert_eq!((heard.failed_statements, heard.failures), (5, vec![failure("'root'@'%'")]));
    }
}
