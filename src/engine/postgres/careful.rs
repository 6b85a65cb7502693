//! A second try for a database whose rows could not be put: its functions find what its users find, and rows come before checks.
//!
//! A dump is restored with an empty search path, and table by table. A function that names something without its schema fails
//! then, and one that looks into another table may find it empty. Users notice neither, until a check constraint or a generated
//! column calls such a function: the rows are refused that were there. So, where that was the reason, functions get the search
//! path of the database for as long as it is restored, and check constraints that call functions are made behind the rows.

use serde::Deserialize;

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::feed::{FeedError, Heard};
use crate::engine::json_list::JsonList;
use crate::engine::postgres::facts::{self, PostgresFormat};
use crate::engine::postgres::restore::{PostgresRun, RestoreFailure};
use crate::engine::postgres::script::literal;
use crate::progress::Problem;

/// The search path of a database for which none is set.
const USUAL_PATH: &str = "\"$user\", public";
/// How the statement among [`facts::SETTINGS`] begins that sets one.
const SET_PATH: &str = "ALTER DATABASE %I SET search_path TO ";
/// What is said of rows that a function or a constraint refused.
const SIGNS: [&str; 2] = ["check constraint", "function "];

/// Statements that make way for rows, and what makes everything as it was.
#[derive(Debug, Deserialize)]
struct Ways {
    /// Before the rows.
    open: Vec<String>,
    /// Behind the rows: constraints, each also in a form that takes the rows as they are.
    check: Vec<(String, String)>,
    /// At the end: functions.
    close: Vec<String>,
}

impl PostgresRun<'_> {
    /// Tells whether rows were refused for what a second try does otherwise.
    pub(super) fn may_be_careful(&self, failure: &RestoreFailure) -> bool {
        let RestoreFailure::Feed(_, FeedError::Client { heard, .. }) = failure else { return false };
        let is_archive = self.plan.fact(facts::FORMAT) == Some(PostgresFormat::Custom);
        let is_refused = || heard.last.iter().any(|line| SIGNS.iter().any(|sign| line.contains(sign)));
        is_archive && !self.restoring.wishes.exit_on_error && heard.has_lost_rows && is_refused()
    }

    /// Puts everything into `database`, which is there and empty.
    pub(super) async fn careful_data(&self, database: &str) -> Result<Heard, RestoreFailure> {
        self.restoring.phase("once more, rows before checks:");
        let mut said = self.sections(database, &["pre-data"]).await?;
        let path = self.search_path();
        let ways = self.ways(database, &path).await.map_err(|error| self.failure(error))?;
        let asked = "asked to make way for rows";
        self.sql(asked, database, ways.open).await.map_err(|error| self.failure(error))?;
        said.extend(self.rows(database).await?);
        for (checking, trusting) in &ways.check {
            if let Err(error) = self.sql("asked to check rows", database, vec![checking.clone()]).await {
                self.restoring.problem(format!("rows were not checked: {}: {error}", checking.trim_end()));
                let trusted = self.sql("asked for a check", database, vec![trusting.clone()]).await;
                self.tell(trusted, trusting.trim_end());
            }
        }
        said.extend(self.sections(database, &["post-data"]).await?);
        // An index calls them, too.
        self.gather_statistics(database).await;
        let closed = self.sql("asked to set functions back", database, ways.close).await;
        closed.map_err(|error| self.failure(error))?;
        let note = format!(
            "its rows could not be put with the empty search path that dumps are restored with, or before those of other tables; \
             they were put with {path} for its functions, and {} check constraints were made behind them",
            ways.check.len()
        );
        self.restoring.monitor.note(Problem::advice(self.plan.name.clone(), note));
        Ok(said)
    }

    /// Returns the search path of the database, as SQL.
    fn search_path(&self) -> String {
        let JsonList(settings) = self.plan.fact(facts::SETTINGS).unwrap_or_default();
        let set = settings.iter().find_map(|statement| statement.strip_prefix(SET_PATH));
        set.map_or_else(|| USUAL_PATH.to_owned(), |path| path.replace("%%", "%"))
    }

    async fn ways(&self, database: &str, path: &str) -> Result<Ways, DatabaseError> {
        let (server, database, sql) =
            (self.server.clone(), database.to_owned(), WAYS.replace("{path}", &literal(path)));
        blocking(move || server.ask(&database, "asked for its checks and functions", &sql)).await
    }
}

/// Constraints of tables that are not inherited and call functions that are no part of the server, and functions that are written in
/// a language which looks for names when it runs.
const WAYS: &str = r"
WITH checks AS (
  SELECT c.oid, conrelid::regclass AS place, conname FROM pg_constraint c
  WHERE contype = 'c' AND conrelid <> 0 AND coninhcount = 0
    AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
                AND d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384)
), functions AS (
  SELECT p.oid::regprocedure AS place FROM pg_proc p JOIN pg_language l ON l.oid = prolang
  WHERE p.oid >= 16384 AND prokind = 'f' AND lanname NOT IN ('c', 'internal')
    AND NOT EXISTS (SELECT FROM unnest(proconfig) s WHERE s LIKE 'search\_path=%')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
), made AS (
  SELECT made, regexp_replace(made, ' NOT VALID$', '') AS trim_end,
    CASE WHEN said IS NULL THEN '' ELSE format(E'COMMENT ON CONSTRAINT %I ON %s IS %L;\n', conname, place, said) END AS said
  FROM checks, obj_description(oid, 'pg_constraint') said,
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', place, conname, pg_get_constraintdef(oid)) made
), statements(step, at, statement) AS (
  SELECT 1, place::text, format(E'ALTER TABLE %s DROP CONSTRAINT %I;\n', place, conname) FROM checks
  UNION ALL SELECT 1, place::text, format(E'ALTER FUNCTION %s SET search_path TO %s;\n', place, {path}) FROM functions
  UNION ALL SELECT 2, place::text, format(E'ALTER FUNCTION %s RESET search_path;\n', place) FROM functions
)
SELECT json_build_object(
  'open', coalesce(json_agg(statement ORDER BY at) FILTER (WHERE step = 1), '[]'),
  'check', (SELECT coalesce(json_agg(json_build_array(made || E';\n' || said, trim_end || E' NOT VALID;\n' || said)), '[]') FROM made),
  'close', coalesce(json_agg(statement ORDER BY at) FILTER (WHERE step = 2), '[]')) FROM statements";
