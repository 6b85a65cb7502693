//! One owner for everything that is restored: a role that was named, in place of those to whom it belonged.
//!
//! What is restored is made by the user who connects, who may be able to make what the role is not: extensions, functions in C. It is
//! given to the role when all of it is there. What belongs to an extension stays that user's, as PostgreSQL has no way to give it away.
//! Beside what a database has the role itself makes what is its, in the same transaction.

use crate::database::DatabaseError;
use crate::engine::feed::Heard;
use crate::engine::postgres::restore::{PostgresRun, RestoreFailure};
use crate::engine::postgres::said::judge_all;
use crate::engine::postgres::server::{Postgres, SAFE_SESSION, User, identifier, literal};

/// Tells why everything cannot belong to a role.
///
/// # Errors
/// [`DatabaseError`].
pub fn obstacle(server: &Postgres, user: &User, role: &str) -> Result<Option<String>, DatabaseError> {
    let quoted = identifier(role);
    Ok(match server.may_act_for(role)? {
        Some(true) => None,
        Some(false) => Some(format!(
            "user {} may not act for role {role}, which is to own everything: as an administrator: GRANT {quoted} TO {}",
            user.name, user.name
        )),
        None => {
            Some(format!("there is no role {role}, which is to own everything: make it first, by CREATE ROLE {quoted}"))
        }
    })
}

impl Postgres {
    /// Tells whether the user has the rights of a role and may become it; none where there is no such role.
    fn may_act_for(&self, role: &str) -> Result<Option<bool>, DatabaseError> {
        // Since version 16 a member may have the rights of a role, be allowed to become it, or both.
        let sql = format!(
            "SELECT coalesce((SELECT to_json(pg_has_role(oid, 'USAGE') AND pg_has_role(oid,
               CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END))
             FROM pg_roles WHERE rolname = {}), 'null')",
            literal(role)
        );
        self.ask(self.maintenance_database(), &format!("asked for role {role}"), &sql)
    }
}

impl PostgresRun<'_> {
    /// Returns the clause for the owner of the database, if one was named.
    pub(super) fn owner_clause(&self) -> String {
        let role = self.restoring.wishes.adaptations.owners.role();
        role.map_or_else(String::new, |role| format!(" OWNER {}", identifier(role)))
    }

    /// Gives everything in `database`, where nothing else is, to the role that is to own it, if one was named. What cannot be given is
    /// counted among the statements that failed.
    pub(super) async fn give_to_owner(&self, database: &str) -> Result<Heard, RestoreFailure> {
        let Some(role) = self.restoring.wishes.adaptations.owners.role() else { return Ok(Heard::default()) };
        let mut command = self.server.psql(database);
        if !self.restoring.wishes.exit_on_error {
            command.arguments.push("--set=ON_ERROR_STOP=0".into());
        }
        let statements = format!("{SAFE_SESSION}{}", GIVING.replace("{role}", &literal(role)));
        let said = self.restoring.say(&statements, &command, judge_all).await;
        self.heard(self.plan.main(), &command, said)
    }
}

/// Statements that give away whatever is not of an extension, schemas first: what is in one needs its owner to have rights there.
/// Sequences that belong to columns go with their tables. Event triggers do not run meanwhile; they were made last, and would hear of
/// what they did not hear of in the original.
const GIVING: &str = r"
WITH role AS (SELECT oid, rolname AS name FROM pg_roles WHERE rolname = {role}), owned(place, class, oid, owner) AS (
  SELECT 1, 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace
  UNION ALL SELECT 2, 'pg_type'::regclass, t.oid, typowner FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
    WHERE coalesce(relkind = 'c', true) AND typtype <> 'm' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
  UNION ALL SELECT 2, 'pg_proc'::regclass, oid, proowner FROM pg_proc
  UNION ALL SELECT 2, 'pg_operator'::regclass, oid, oprowner FROM pg_operator
  UNION ALL SELECT 2, 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
  UNION ALL SELECT 2, 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
  UNION ALL SELECT 2, 'pg_collation'::regclass, oid, collowner FROM pg_collation
  UNION ALL SELECT 2, 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
  UNION ALL SELECT 2, 'pg_language'::regclass, oid, lanowner FROM pg_language
  UNION ALL SELECT 2, 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
  UNION ALL SELECT 2, 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
  UNION ALL SELECT 2, 'pg_foreign_data_wrapper'::regclass, oid, fdwowner FROM pg_foreign_data_wrapper
  UNION ALL SELECT 2, 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
  UNION ALL SELECT 3, 'pg_class'::regclass, oid, relowner FROM pg_class c
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
       OR relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
  UNION ALL SELECT 4, 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
  UNION ALL SELECT 4, 'pg_publication'::regclass, oid, pubowner FROM pg_publication
  UNION ALL SELECT 4, 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
  UNION ALL SELECT 4, 'pg_event_trigger'::regclass, oid, evtowner FROM pg_event_trigger
), statements(place, at, statement) AS (
  SELECT o.place, o.oid, format('ALTER %s %s OWNER TO %I',
    CASE WHEN kind = 'statistics object' THEN 'STATISTICS'
         WHEN kind = 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER'
         WHEN kind IN ('function', 'procedure', 'aggregate') AND current_setting('server_version_num')::int >= 110000
           THEN 'ROUTINE'
         ELSE upper(kind) END, called, role.name)
  FROM owned o CROSS JOIN role, pg_identify_object(class, o.oid, 0) i(kind, within, short, called)
  WHERE o.oid >= 16384 AND owner <> role.oid AND coalesce(within, called) !~ '^pg_(toast|temp)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e')
  UNION ALL SELECT 5, 0, format('ALTER SUBSCRIPTION %I OWNER TO %I', subname, role.name) FROM pg_subscription, role
    WHERE subowner <> role.oid AND subdbid = (SELECT d.oid FROM pg_database d WHERE datname = current_database())
  UNION ALL SELECT place, 0, format('ALTER EVENT TRIGGER %I %s', evtname, act) FROM pg_event_trigger,
    LATERAL (VALUES (0, 'DISABLE'),
      (6, CASE evtenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END)) a(place, act)
    WHERE evtenabled <> 'D' AND pg_has_role(evtowner, 'USAGE')
)
SELECT statement FROM statements ORDER BY place, at \gexec
";
