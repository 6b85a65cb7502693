//! Parts of a database that go into one that is there: all in one transaction, beside what it has and never in its place.

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::feed::{FeedError, Heard};
use crate::engine::parts::{DumpAspect, some_names};
use crate::engine::postgres::restore::{PostgresRun, RestoreFailure};
use crate::engine::postgres::script::{identifier, literal};
use crate::engine::restore::Unrestored;
use crate::progress::Problem;

impl PostgresRun<'_> {
    /// Puts what was chosen into the database, or nothing of it.
    pub(super) async fn beside(&self) -> Result<Heard, Unrestored> {
        let name = &self.plan.name;
        let unchanged = || format!("{name} is as it was: nothing of it was changed");
        self.check_tables().await.map_err(|error| self.failure(error).left(unchanged()))?;
        let heard = self.in_one_transaction().await.map_err(|failure| match failure.is_unanswered() {
            true => failure
                .left(format!("{name} is as it was as far as is known: the end of the transaction was not answered")),
            false => failure.left(unchanged()),
        })?;
        if self.restoring.wishes.analyze {
            let tables = self.chosen_tables().into_iter().map(|(quoted, _)| quoted).collect::<Vec<_>>().join(", ");
            let statement = if tables.is_empty() { "ANALYZE".to_owned() } else { format!("ANALYZE {tables}") };
            self.restoring.phase("gathering statistics of");
            let analyzed = self.sql("asked for statistics", name, vec![statement]).await;
            self.tell(analyzed, "ANALYZE");
        }
        Ok(heard)
    }

    async fn in_one_transaction(&self) -> Result<Heard, RestoreFailure> {
        let (main, list) = (self.plan.main(), self.list()?);
        let command = self.pg_restore(&self.plan.name, main, &["--single-transaction"], list.as_ref())?;
        self.feed(main, &command).await
    }

    /// Makes sure that tables which are to be made are not there, and those that are to get rows are.
    async fn check_tables(&self) -> Result<(), DatabaseError> {
        let tables = self.chosen_tables();
        if tables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = tables.iter().map(|(quoted, _)| literal(quoted)).collect();
        let sql = format!(
            "SELECT coalesce(json_agg(name), '[]') FROM unnest(ARRAY[{}]::text[]) name WHERE to_regclass(name) IS NOT NULL",
            names.join(", ")
        );
        let (server, name) = (self.server.clone(), self.plan.name.clone());
        let there: Vec<String> = blocking(move || server.ask(&name, "asked for its tables", &sql)).await?;
        let is_there = |(quoted, _): &&(String, String)| there.contains(quoted);
        let is_of_rows = self.restoring.wishes.parts.aspect == DumpAspect::Rows;
        let amiss = tables.iter().filter(|table| is_there(table) != is_of_rows).map(|(_, plain)| plain.clone());
        let amiss: Vec<String> = amiss.collect();
        self.restoring.wishes.parts.refuse(self.server.url().server(), &self.plan.name, &amiss)
    }

    /// Returns the tables that were chosen, as SQL wants them and as people do.
    fn chosen_tables(&self) -> Vec<(String, String)> {
        let tables = self.chosen.iter().flat_map(|chosen| &chosen.tables);
        let both = |(schema, table): &(String, String)| {
            (format!("{}.{}", identifier(schema), identifier(table)), format!("{schema}.{table}"))
        };
        tables.map(both).collect()
    }

    /// Tells what is made besides what was asked for.
    pub(super) fn tell_needed(&self) {
        let needed = self.chosen.as_ref().map_or(&[][..], |chosen| &chosen.needed);
        if !needed.is_empty() {
            let message = format!("made besides, without rows, as it is needed: {}", some_names(needed));
            self.restoring.monitor.note(Problem::advice(self.plan.name.clone(), message));
        }
    }

    /// Returns what of the dump was not asked for.
    pub(super) fn left_out(&self) -> Vec<String> {
        let others = self.chosen.iter().flat_map(|chosen| chosen.left_out.clone());
        let aspect = match self.restoring.wishes.parts.aspect {
            DumpAspect::Whole => None,
            DumpAspect::Schema => Some("all rows".to_owned()),
            DumpAspect::Rows => Some("how tables are made".to_owned()),
        };
        aspect.into_iter().chain(others).collect()
    }
}

impl RestoreFailure {
    /// Tells whether the transaction was to end, and the server did not say what became of it.
    fn is_unanswered(&self) -> bool {
        let RestoreFailure::Feed(_, FeedError::Client { heard, .. }) = self else { return false };
        heard.last.iter().any(|line| line.contains("could not commit") && !line.contains("ERROR:"))
    }
}
