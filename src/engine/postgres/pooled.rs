//! Poolers between a client and a server. One that gives the sessions of the server to others between transactions is refused.
//!
//! A dump sets what it needs for its session, such as the search path. Through such a pooler (PgBouncer with `pool_mode = transaction`) the
//! next transaction can be one of another session of the server, which lacks that, and whoever gets the first one finds the settings
//! there: an application whose tables are gone. Poolers that give a session to one client for as long as it is connected are as good as
//! the server. Which of both it is nothing tells, so it is tried, by two sessions that ask in turns and before anything is set.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::engine::postgres::server::Postgres;
use crate::process::{Piped, Process, wait_readable};

/// How long an answer is waited for: a pool of one session for each client may have no further one.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often each of two sessions is asked: a pool that has several free ones may happen to give each client the same again.
const TURNS: usize = 6;
/// Asks which session of which server this is: behind a balancer, sessions of two servers can have equal numbers. Poolers that keep a
/// session for whoever set something see that something is set; all know of this name and give each client its own.
const WHICH: &[u8] = b"SET application_name = 'coffre';\n\
    SELECT pg_catalog.pg_backend_pid(), EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time());\n";

impl Postgres {
    /// Makes sure that each of our sessions is one of the server, and our own. What cannot be asked is left to whatever is asked next, which
    /// says why.
    ///
    /// # Errors
    /// [`DatabaseError::SharedSessions`].
    pub fn check_sessions(&self, database: &str) -> Result<(), DatabaseError> {
        let Some(mut one) = PooledSession::start(self, database) else { return Ok(()) };
        let Some(first) = one.which() else { return Ok(()) };
        let Some(mut other) = PooledSession::start(self, database) else { return Ok(()) };
        let mut answers = vec![first];
        while answers.len() < 2 * TURNS {
            let asked = if answers.len().is_multiple_of(2) { &mut one } else { &mut other };
            let Some(answer) = asked.which() else { break };
            answers.push(answer);
            if are_shared(&answers) {
                return Err(DatabaseError::SharedSessions { server: self.url().server() });
            }
        }
        Ok(())
    }
}

/// Compares which sessions of the server two sessions had, which are open at the same time and answered in turns.
fn are_shared<T: PartialEq>(answers: &[T]) -> bool {
    let has_changed = answers.iter().zip(answers.iter().skip(2)).any(|(before, after)| before != after);
    has_changed || answers.windows(2).any(|pair| pair[0] == pair[1])
}

/// A session that stays open, with nothing between its transactions.
struct PooledSession {
    /// Closing it ends `psql`.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    process: Process,
    has_answered: bool,
}

impl PooledSession {
    fn start(server: &Postgres, database: &str) -> Option<Self> {
        let (process, pipes) = Process::spawn(&server.psql(database), Piped { input: true, output: true }).ok()?;
        let output = BufReader::new(pipes.output?);
        Some(Self { input: pipes.input, output, process, has_answered: false })
    }

    /// Returns which session of the server this one has now; none where it cannot be known.
    fn which(&mut self) -> Option<String> {
        let input = self.input.as_mut()?;
        self.has_answered = false;
        input.write_all(WHICH).and_then(|()| input.flush()).ok()?;
        let mut line = String::new();
        let is_there = wait_readable(self.output.get_ref(), &Cancel::default(), Some(ANSWER_LIMIT)).ok()?;
        if is_there {
            self.output.read_line(&mut line).ok()?;
        }
        let which = line.trim();
        self.has_answered = !which.is_empty();
        self.has_answered.then(|| which.to_owned())
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        drop(self.input.take());
        if self.has_answered {
            // It logs out, and whoever connects next does not find it there.
            let _ = self.process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_shared_when_two_have_one_or_one_has_two() {
        let cases: [(&[&str], bool); 10] = [
            (&[], false),
            (&["17|1"], false),
            (&["17|1", "18|1"], false),
            (&["17|1", "17|2"], false),
            (&["17|1", "18|1", "17|1", "18|1", "17|1"], false),
            (&["17|1", "17|1"], true),
            (&["17|1", "18|1", "18|1"], true),
            (&["17|1", "18|1", "19|1"], true),
            (&["17|1", "18|1", "17|2"], true),
            (&["17|1", "18|1", "17|1", "18|1", "17|1", "19|1"], true),
        ];
        for (answers, expected) in cases {
            assert_eq!(are_shared(answers), expected, "{answers:?}");
        }
    }
}
