//! One owner for everything that is restored: a role that was named, in place of those to whom it belonged.
//!
//! What is restored is made by the user who connects, who may be able to make what the role is not: extensions, functions in C. It is
//! given to the role when all of it is there, the database itself last: its owner may connect, and could call functions that still run with
//! the rights of that user. What belongs to an extension stays that user's, as PostgreSQL has no way to give it away.
//! Beside what a database has the role itself makes what is its, in the same transaction.

use crate::blocking::blocking;
use crate::database::{DatabaseError, major};
use crate::engine::feed::Heard;
use crate::engine::parts::some_names;
use crate::engine::postgres::contents::unquoted;
use crate::engine::postgres::restore::{PostgresRun, RestoreFailure};
use crate::engine::postgres::said::judge_all;
use crate::engine::postgres::script::{SAFE_SESSION, identifier, literal};
use crate::engine::postgres::server::{Postgres, User};

/// The version since which each membership has options, instead of the member.
const OPTIONS_SINCE: u32 = 16;

/// Tells why everything cannot belong to a role.
///
/// # Errors
/// [`DatabaseError`].
pub fn obstacle(
    server: &Postgres,
    server_version: &str,
    user: &User,
    role: &str,
) -> Result<Option<String>, DatabaseError> {
    let quoted = identifier(role);
    let allowing = allowing(&quoted, &user.name, server_version);
    Ok(match server.may_act_for(role)? {
        Some(true) => None,
        Some(false) => Some(format!(
            "user {} may not act for role {role}, which is to own everything: as an administrator: {allowing}",
            user.name
        )),
        None => {
            Some(format!("there is no role {role}, which is to own everything: make it first, by CREATE ROLE {quoted}"))
        }
    })
}

/// Writes what lets a user act for a role, whether it is a member already or not.
fn allowing(role: &str, user: &str, server_version: &str) -> String {
    match major(server_version) < OPTIONS_SINCE {
        true => format!("GRANT {role} TO {user}; ALTER ROLE {user} INHERIT"),
        false => format!("GRANT {role} TO {user} WITH INHERIT TRUE, SET TRUE"),
    }
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
    /// Gives everything in `database`, where nothing else is, and then itself to the role that is to own it, if one was named. What cannot
    /// be given is counted among the statements that failed; what else belongs to others in the end is a problem.
    pub(super) async fn give_to_owner(&self, database: &str) -> Result<Heard, RestoreFailure> {
        let Some(role) = self.restoring.wishes.adaptations.owners.role() else { return Ok(Heard::default()) };
        let mut command = self.server.psql(database);
        if !self.restoring.wishes.exit_on_error {
            command.arguments.push("--set=ON_ERROR_STOP=0".into());
        }
        let oid = self.oid_of(role).await?;
        let giving = format!("{OWNED}{GIVING}").replace("{role}", &oid);
        let said = self.restoring.say(&format!("{SAFE_SESSION}{giving}"), &command, judge_all).await;
        let heard = self.heard(self.plan.main(), &command, said)?;
        self.tell_not_given(database, (role, &oid), &heard.failures).await;
        Ok(heard)
    }

    /// Returns the number of a role: a database of another encoding may know it by another name.
    async fn oid_of(&self, role: &str) -> Result<String, RestoreFailure> {
        let step = format!("asked for role {role}");
        let sql = format!("SELECT to_json(oid::bigint) FROM pg_roles WHERE rolname = {}", literal(role));
        let (server, database, asked) = (self.server.clone(), self.elsewhere().to_owned(), step.clone());
        let oid = blocking(move || server.ask::<u32>(&database, &asked, &sql)).await;
        oid.map(|oid| oid.to_string()).map_err(|error| RestoreFailure::Server(step, error))
    }

    /// Tells what does not belong to a role that was given everything, and was not told before.
    async fn tell_not_given(&self, database: &str, (role, oid): (&str, &str), told: &[String]) {
        let looking = format!("{OWNED}{NOT_GIVEN}").replace("{role}", oid);
        let (server, database) = (self.server.clone(), database.to_owned());
        let found =
            blocking(move || server.ask::<Vec<(String, String)>>(&database, "asked for owners", &looking)).await;
        let left = match found {
            Ok(found) => found.into_iter().filter(|(_, name)| !is_told(told, name)),
            Err(error) => {
                return self.restoring.problem(format!("whether all belongs to {role} is not known: {error}"));
            }
        };
        let left: Vec<String> = left.map(|(kind, name)| format!("{kind} {name}")).collect();
        if !left.is_empty() {
            self.restoring.problem(format!("these do not belong to {role}: {}", some_names(&left)));
        }
    }
}

/// Tells whether what was said of failures names an object, as PostgreSQL identifies it: `public.f(integer)`.
fn is_told(told: &[String], identity: &str) -> bool {
    let name = unquoted(identity.split('(').next().unwrap_or_default()).pop().unwrap_or_default();
    told.iter().any(|line| line.contains(&format!("\"{name}\"")) || line.ends_with(&format!(" {name}")))
}

/// What has an owner in the database that is connected to, and in which order it is given away.
const OWNED: &str = r"
WITH role AS (SELECT oid, rolname AS name FROM pg_roles WHERE oid = {role}), owned(place, class, oid, owner) AS (
  SELECT 1, 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace
  -- Since version 17 a multirange follows its range.
  UNION ALL SELECT 2, 'pg_type'::regclass, t.oid, typowner FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
    WHERE coalesce(relkind = 'c', true) AND (typtype <> 'm' OR current_setting('server_version_num')::int < 170000)
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
  -- Those that make values of a range are the server's own.
  UNION ALL SELECT 2, 'pg_proc'::regclass, oid, proowner FROM pg_proc p
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
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
)";

/// The second look, which also sees kinds of objects that are not known here. Extensions stay, a user mapping belongs to whom it maps, and
/// rights that are given by themselves to whoever gives them. What is in `pg_catalog` is in no dump: collations are imported there.
const NOT_GIVEN: &str = r", others AS (
  SELECT class, o.oid FROM owned o CROSS JOIN role WHERE owner <> role.oid
  UNION SELECT classid::regclass, objid FROM pg_shdepend, role
    WHERE dbid = (SELECT d.oid FROM pg_database d WHERE datname = current_database()) AND deptype = 'o' AND refobjid <> role.oid
      AND classid NOT IN ('pg_extension'::regclass, 'pg_user_mapping'::regclass, 'pg_default_acl'::regclass)
)
SELECT coalesce(json_agg(json_build_array(kind, called) ORDER BY kind, called), '[]')
FROM others o, pg_identify_object(class, o.oid, 0) i(kind, within, short, called)
WHERE (class = 'pg_largeobject'::regclass OR o.oid >= 16384) AND coalesce(within, '') !~ '^pg_(toast|temp|catalog$)'
  AND NOT (class = 'pg_namespace'::regclass AND called ~ '^pg_(toast|temp)')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e')";

/// Statements that give away whatever is not of an extension, schemas first: what is in one needs its owner to have rights there.
/// Sequences that belong to columns go with their tables. Event triggers do not run meanwhile; they were made last, and would hear of
/// what they did not hear of in the original. In the schema `public` of a new database only its owner may make something since version 15;
/// so, for a user who is no superuser, the role may meanwhile.
const GIVING: &str = r", statements(place, at, statement) AS (
  SELECT o.place, o.oid, format('ALTER %s %s OWNER TO %I',
    CASE WHEN kind = 'statistics object' THEN 'STATISTICS'
         WHEN kind = 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER'
         WHEN kind IN ('function', 'procedure', 'aggregate') AND current_setting('server_version_num')::int >= 110000
           THEN 'ROUTINE'
         ELSE upper(kind) END, called, role.name)
  FROM owned o CROSS JOIN role, pg_identify_object(class, o.oid, 0) i(kind, within, short, called)
  WHERE (class = 'pg_largeobject'::regclass OR o.oid >= 16384) AND owner <> role.oid
    AND coalesce(within, '') !~ '^pg_(toast|temp|catalog$)' AND NOT (class = 'pg_namespace'::regclass AND called ~ '^pg_(toast|temp)')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e')
  UNION ALL SELECT 5, 0, format('ALTER SUBSCRIPTION %I OWNER TO %I', subname, role.name) FROM pg_subscription, role
    WHERE subowner <> role.oid AND subdbid = (SELECT d.oid FROM pg_database d WHERE datname = current_database())
  UNION ALL SELECT place, 0, format('ALTER EVENT TRIGGER %I %s', evtname, act) FROM pg_event_trigger,
    LATERAL (VALUES (0, 'DISABLE'),
      (6, CASE evtenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END)) a(place, act)
    WHERE evtenabled <> 'D' AND pg_has_role(evtowner, 'USAGE')
  UNION ALL SELECT place, 0, format(act, role.name) FROM role, pg_namespace n,
    LATERAL (VALUES (1, 'GRANT CREATE ON SCHEMA public TO %I'), (5, 'REVOKE CREATE ON SCHEMA public FROM %I')) a(place, act)
    WHERE nspname = 'public' AND n.oid < 16384 AND NOT has_schema_privilege(role.oid, n.oid, 'CREATE')
      AND pg_has_role(nspowner, 'USAGE') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  UNION ALL SELECT 7, 0, format('ALTER DATABASE %I OWNER TO %I', current_database(), role.name) FROM role
)
SELECT statement FROM statements ORDER BY place, at \gexec
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psql_reads_nothing_but_ascii_and_one_command() {
        let read = format!("{OWNED}{GIVING}").replace("{role}", "16384");
        assert!(read.is_ascii() && read.ends_with(" \\gexec\n") && read.matches('\\').count() == 1);
        // Of these it would put in variables.
        assert!(!read.replace("::", "").contains(':'));
    }
}
