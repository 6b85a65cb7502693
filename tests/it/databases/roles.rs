//! Roles: what belongs to a server and not to one of its databases.

use crate::databases::postgres::passfile;
use crate::databases::{expect, summary};
use crate::support::desk::Desk;
use crate::support::postgres::{self, PostgresServer};

#[test]
fn roles_that_a_snapshot_lacks_are_told_at_the_backup_and_can_be_typed_at_the_restore() {
    let (Some(server), Some(other)) = (postgres::shared(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    server.sql(
        "postgres",
        "CREATE ROLE shopapp LOGIN; CREATE ROLE \"the reader\"; CREATE ROLE bystander; CREATE DATABASE rolled OWNER shopapp",
    );
    server.sql(
        "rolled",
        "CREATE TABLE t AS SELECT 1 AS x; GRANT SELECT ON t TO \"the reader\"; CREATE TABLE owned (y int);
        ALTER TABLE owned OWNER TO shopapp",
    );
    let backup = desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("rolled")]);
    expect(&backup, 0, &["left out   roles and users of the database servers; --all-databases stores them"]);

    let env = passfile(&other);
    let restore = |more: &[&str]| {
        desk.run_with(&env, &[&["restore", "latest", "--into-postgres", &other.url("")][..], more].concat())
    };
    let typed = "CREATE ROLE \"the reader\"; CREATE ROLE shopapp LOGIN;";
    let plan = restore(&["--plan"]);
    let told = "there is no role shopapp, which owns rolled, nor \"the reader\", which have to do with it: this snapshot has no \
        roles, so type CREATE ROLE";
    expect(&plan, 0, &[told, typed, "or add --no-owner, or --owner ROLE"]);
    assert!(!plan.out.contains("bystander"), "{plan:?}");
    let globals = restore(&["--globals"]);
    expect(
        &globals,
        1,
        &["has no roles or users: they are stored with --all-databases only", "hint: make those", typed],
    );

    other.sql("postgres", typed);
    let restored = restore(&["--json"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(summary(&restored)["databases"][0]["drop_replaced"].is_null(), "{restored:?}");
    assert_eq!(other.fingerprint("rolled"), server.fingerprint("rolled"));
}

#[test]
fn a_path_or_a_database_of_another_job_leads_to_the_option_that_finds_it() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    desk.backup();
    let target = server.url("nothing");
    let restored = desk.run_with(&env, &["restore", "latest", "--into-postgres", &target]);
    expect(&restored, 1, &["has no database of postgres that could be restored", "choose another by --job NAME"]);
    let dumped = desk.run(&["dump", "latest:shop.sql"]);
    expect(&dumped, 1, &["has no /shop.sql", "--job NAME", "a file that the shell has made for the output is empty"]);
    assert_eq!(dumped.out, "");
}
