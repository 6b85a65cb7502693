//! Names: how a database that was restored gets its own, what becomes of the one that had it, and in what state a failure leaves
//! both.

use std::time::{Duration, Instant};

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::postgres::drop_statement;
use crate::engine::postgres::facts;
use crate::engine::postgres::restore::{PostgresRun, ScratchDatabase, cut};
use crate::engine::postgres::script::{identifier, literal};
use crate::engine::postgres::settings::is_open;

/// How long connections are ended to rename a database away from them.
const RENAME_LIMIT: Duration = Duration::from_secs(10);

impl PostgresRun<'_> {
    /// Returns a database to connect to that is not the one to be made or replaced.
    pub(super) fn elsewhere(&self) -> &str {
        self.server.maintenance_database()
    }

    /// Tells in what state everything is after a restore that failed; drops what is half restored.
    pub(super) async fn state(&self, scratch: &str, state: ScratchDatabase) -> String {
        let plan = self.plan;
        let unchanged = if plan.exists { format!("{} is untouched", plan.name) } else { "nothing was changed".into() };
        match state {
            ScratchDatabase::Missing => unchanged,
            ScratchDatabase::NotGiven => format!(
                "{unchanged}, and {}; made as it should be it can be renamed, or it can be dropped",
                self.not_given(scratch)
            ),
            ScratchDatabase::Complete => {
                format!("{unchanged}, and all that was restored is in {scratch}, which can be renamed or dropped")
            }
            ScratchDatabase::Half => {
                let drop = vec![format!("DROP DATABASE IF EXISTS {}", identifier(scratch))];
                match self.sql("asked to drop what is half restored", self.elsewhere(), drop).await {
                    Ok(()) if plan.exists => unchanged,
                    Ok(()) => format!("there is no database {}, nothing was left behind", plan.name),
                    Err(error) => {
                        format!("database {scratch} is half restored and may be dropped, which failed: {error}")
                    }
                }
            }
        }
    }

    /// Drops what is half restored under its own name, and gives the name back. Tells in what state everything is then.
    pub(super) async fn give_up(&self, replaced: Option<&str>) -> String {
        let name = identifier(&self.plan.name);
        let close = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        let [end, wait] = self.ending_connections(&self.plan.name);
        let drop = vec![close, end, wait, format!("DROP DATABASE {name}")];
        match self.insist("asked to drop what is half restored", drop).await {
            Ok(()) => self.give_back(replaced).await,
            Err(error) => format!(
                "database {} is half restored and may be dropped, which failed: {error}{}",
                self.plan.name,
                replaced.map_or_else(String::new, |old| format!("; what was there is called {old}"))
            ),
        }
    }

    /// Tells what there is when all was restored under its own name, and not given to its owner.
    pub(super) fn kept_under_its_name(&self, replaced: Option<&str>) -> String {
        let old = replaced.map_or_else(String::new, |old| format!("; what was there is called {old}"));
        format!("{}{old}", self.not_given(&self.plan.name))
    }

    /// Tells what a database lacks that was restored and not given to its owner.
    fn not_given(&self, database: &str) -> String {
        let role = self.restoring.wishes.adaptations.owners.role().unwrap_or_default();
        let (name, owner) = (identifier(database), identifier(role));
        let JsonList(dumped) = self.plan.fact(facts::SETTINGS).unwrap_or_default();
        let open = match is_open(&dumped) {
            true => format!(", and only then let others in, by GRANT CONNECT ON DATABASE {name} TO PUBLIC"),
            false => String::new(),
        };
        format!(
            "all that was restored is in {database}, not all of which was given to {role}: its settings are missing, its event triggers \
             may be disabled, and it is closed to others; give what is in it to its owner first, then itself, by ALTER DATABASE {name} \
             OWNER TO {owner}{open}"
        )
    }

    /// Renames what was there back. Tells in what state everything is then.
    pub(super) async fn give_back(&self, replaced: Option<&str>) -> String {
        let name = &self.plan.name;
        let Some(replaced) = replaced else { return format!("there is no database {name}, nothing was left behind") };
        let back = format!("ALTER DATABASE {} RENAME TO {}", identifier(replaced), identifier(name));
        match self.insist("asked to rename a database back", vec![back]).await {
            Ok(()) => format!("{name} is untouched"),
            Err(error) => format!("what was there is called {replaced}, and could not be renamed back: {error}"),
        }
    }

    /// Writes statements that end the connections to a database.
    fn ending_connections(&self, name: &str) -> [String; 2] {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = ";
        [format!("{end}{}", literal(name)), "SELECT pg_sleep(0.1)".to_owned()]
    }

    /// Runs statements one by one, again and again for a while: connections take a moment to end.
    async fn insist(&self, asked: &str, statements: Vec<String>) -> Result<(), DatabaseError> {
        let deadline = Instant::now() + RENAME_LIMIT;
        loop {
            match self.sql(asked, self.elsewhere(), statements.clone()).await {
                Err(_) if Instant::now() < deadline => {}
                done => return done,
            }
        }
    }

    /// Renames `scratch`; a database that has the name is renamed away in the same transaction, after its connections were
    /// ended, and stays.
    pub(super) async fn take_name(&self, scratch: &str) -> Result<Option<String>, DatabaseError> {
        let rename = vec![format!("ALTER DATABASE {} RENAME TO {}", identifier(scratch), identifier(&self.plan.name))];
        if !self.plan.exists {
            self.sql("asked to rename a database", self.elsewhere(), rename).await?;
            return Ok(None);
        }
        let replaced = self.exchange(rename).await?;
        Ok(if self.drop_untouched(&replaced).await { None } else { Some(replaced) })
    }

    /// Renames the database that is there away and returns the name that it has now.
    pub(super) async fn rename_away(&self) -> Result<String, DatabaseError> {
        self.exchange(Vec::new()).await
    }

    /// Renames the database that is there away, after its connections were ended, and runs `rename` in the same transaction.
    async fn exchange(&self, rename: Vec<String>) -> Result<String, DatabaseError> {
        let name = identifier(&self.plan.name);
        let replaced = format!("{}_replaced_{}", cut(&self.plan.name, 44), self.restoring.unique);
        // Until it has another name nobody can use the database.
        let close = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        let [end, wait] = self.ending_connections(&self.plan.name);
        let away = format!("ALTER DATABASE {name} RENAME TO {}", identifier(&replaced));
        let mut swap = vec![close, end, wait, "BEGIN".to_owned(), away];
        swap.extend(rename);
        swap.push("COMMIT".to_owned());
        let allow = |name: &str| vec![format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", identifier(name))];
        if let Err(failure) = self.insist("asked to exchange databases", swap).await {
            // The first failure is the one to tell.
            let _ = self.sql("asked to allow connections", self.elsewhere(), allow(&self.plan.name)).await;
            return Err(failure);
        }
        let allow = allow(&replaced);
        self.tell(self.sql("asked to allow connections", self.elsewhere(), allow.clone()).await, &allow.concat());
        Ok(replaced)
    }

    /// Drops what was replaced if it is as every server has it, and still is: somebody may have put something into it meanwhile.
    /// Returns whether it is gone; where it cannot be dropped it stays and is told.
    pub(super) async fn drop_untouched(&self, replaced: &str) -> bool {
        if !self.plan.is_untouched {
            return false;
        }
        let (server, name) = (self.server.clone(), replaced.to_owned());
        let is_untouched = blocking(move || server.is_untouched(&name)).await;
        let drop = vec![drop_statement(replaced)];
        is_untouched.unwrap_or(false) && self.sql("asked to drop a database", self.elsewhere(), drop).await.is_ok()
    }
}
