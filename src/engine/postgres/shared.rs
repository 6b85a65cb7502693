//! One exported snapshot of a database that several dumps see, held open by a session of ours.

use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::engine::postgres::contents::unquoted;
use crate::engine::postgres::script::{SAFE_SESSION, identifier, sent_back};
use crate::engine::postgres::server::{Postgres, TableSize};
use crate::process::{self, Piped, Process, wait_readable};

/// The snapshot that the streams of one database share: taken when the first is opened, given up when the last has ended.
pub struct SharedSnapshot {
    server: Arc<Postgres>,
    database: String,
    tables: Vec<TableSize>,
    state: Mutex<SharedState>,
}

struct SharedState {
    held: Option<ExportedSnapshot>,
    /// Streams that have not ended.
    left: usize,
}

/// One stream's share in it.
pub struct Share {
    shared: Arc<SharedSnapshot>,
    /// The id of the snapshot, as `pg_dump --snapshot` wants it.
    pub snapshot: String,
}

impl SharedSnapshot {
    /// Names the database, and the tables that have streams of their own.
    pub fn new(server: Arc<Postgres>, database: &str, tables: &[TableSize]) -> Self {
        let state = Mutex::new(SharedState { held: None, left: tables.len() + 1 });
        Self { server, database: database.to_owned(), tables: tables.to_vec(), state }
    }

    /// Takes the snapshot if nobody has yet.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn share(self: &Arc<Self>, cancel: &Cancel) -> Result<Share, DatabaseError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match state.held.take() {
            Some(held) => held,
            None => ExportedSnapshot::take(&self.server, &self.database, &self.tables, cancel)?,
        };
        let snapshot = held.id.clone();
        state.held = Some(held);
        Ok(Share { shared: self.clone(), snapshot })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            drop(state.held.take());
        }
    }
}

/// A session that holds a snapshot open for others to use. Dropping it ends the session, and with it the locks.
struct ExportedSnapshot {
    id: String,
    /// Closing it ends `psql`.
    input: Option<ChildStdin>,
    _process: Process,
}

impl ExportedSnapshot {
    /// Locks the tables against being changed in shape or emptied, then takes the snapshot: truncating a table is seen by
    /// older snapshots too, so the other order would not be safe.
    ///
    /// A table that somebody has locked is waited for, unless ending is asked for.
    fn take(server: &Postgres, database: &str, tables: &[TableSize], cancel: &Cancel) -> Result<Self, DatabaseError> {
        let statements = taking(tables);
        let command = server.psql(database);
        let spawn = |source| DatabaseError::Spawn { program: command.name(), source };
        let (mut process, pipes) = Process::spawn(&command, Piped { input: true, output: true }).map_err(spawn)?;
        let mut input = pipes.input;
        if let Some(input) = &mut input {
            // If it has ended, what it printed is missing, and its status tells why.
            let _ = input.write_all(statements.as_bytes()).and_then(|()| input.flush());
        }
        let mut id = String::new();
        if let Some(output) = pipes.output {
            while !wait_readable(&output, cancel, None).map_err(spawn)? {
                if cancel.is_cancelled() {
                    let why = "ending was asked for while its tables were waited for".to_owned();
                    return Err(DatabaseError::Refused { server: server.url().server(), why });
                }
            }
            BufReader::new(output).read_line(&mut id).map_err(spawn)?;
        }
        let id = id.trim().to_owned();
        if id.is_empty() {
            drop(input);
            let (ended, stderr) = process.wait().map_err(spawn)?;
            let failure = process::CommandFailed::ended(ended, stderr);
            return Err(DatabaseError::failed(&server.url().server(), "asked for a snapshot", &command, failure));
        }
        Ok(Self { id, input, _process: process })
    }
}

/// Writes what `psql` reads to lock tables and to tell the id of a snapshot that was taken afterwards.
///
/// In this isolation level each statement has a snapshot of its own. A stricter one would keep that of the statement by which the server
/// sends back the one that locks. What is exported is held as long as the transaction.
fn taking(tables: &[TableSize]) -> String {
    let quoted = |name: &String| identifier(name);
    let names = tables.iter().map(|table| unquoted(&table.name).iter().map(quoted).collect::<Vec<_>>().join("."));
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.collect::<Vec<_>>().join(", "));
    format!(
        "{SAFE_SESSION}\
         BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY;\n\
         SET LOCAL lock_timeout = '10min';\n\
         {}\
         SELECT pg_catalog.pg_export_snapshot();\n",
        sent_back(&lock)
    )
}

impl Drop for ExportedSnapshot {
    fn drop(&mut self) {
        // `psql` meets the end of its input and logs out before it would be told to end.
        drop(self.input.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_are_quoted_for_the_server_and_not_seen_by_psql() {
        let tables =
            ["public.\"Á\"\" Á\\! id\"", "a\n\\! id"].map(|name| TableSize { name: name.to_owned(), bytes: 1 });
        let written = taking(&tables);
        let lock = "LOCK TABLE \"public\".\"Á\"\" Á\\! id\", \"a\n\\! id\" IN ACCESS SHARE MODE";
        assert!(written.contains(&sent_back(lock)), "{written}");
        assert!(written.is_ascii() && written.matches('\\').count() == 1, "{written}");
    }
}
