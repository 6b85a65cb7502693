//! Servers that somebody else manages: databases that may not be entered, none called `postgres`, extensions that are not there,
//! and clients that are newer than the server.

use crate::databases::mysql::url;
use crate::databases::expect;
use crate::support::desk::Desk;
use crate::support::mariadb;
use crate::support::postgres;

#[test]
fn databases_that_may_not_be_entered_are_left_out_by_name_and_told() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "postgres",
        "CREATE ROLE nightly LOGIN PASSWORD 'nightly' BYPASSRLS IN ROLE pg_read_all_data;
        CREATE DATABASE managed_shop; CREATE DATABASE managed_admin; REVOKE CONNECT ON DATABASE managed_admin FROM PUBLIC",
    );
    server.sql("managed_shop", "CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    let url = server.url("postgres").replace("postgres@", "nightly@");
    let backup = |more: &[&str]| {
        let all = ["backup", "--postgres", &url, "--all-databases", "--include-database", "managed_*"];
        desk.run_with(&[("PGPASSWORD", "nightly")], &[&all[..], more].concat())
    };
    expect(&backup(&[]), 5, &["managed_admin", "permission denied for database"]);
    let told = ["database \"managed_admin\" is left out, as was asked for", "no database has a name like rdsadm?n"];
    let without = ["--exclude-database", "managed_adm*", "--exclude-database", "rdsadm?n"];
    let run = backup(&without);
    expect(&run, 0, &[&["2 streams"][..], &told].concat());
    let left_out = desk.facts("postgres/managed_shop.dump")["facts"]["left_out"].as_str().expect("a text").to_owned();
    assert!(left_out.contains("database managed_admin") && !left_out.contains("roles"), "{left_out}");
    let alone = backup(&[&without[..], &["--no-globals"]].concat());
    expect(&alone, 0, &["1 stream", "left out   roles and users of the database servers"]);
    let left_out = desk.facts("postgres/managed_shop.dump")["facts"]["left_out"].as_str().expect("a text").to_owned();
    assert!(left_out.ends_with("roles and tablespaces"), "{left_out}");
    expect(&backup(&["--exclude-database", "x["]), 2, &["\"x[\" is no pattern"]);
    expect(&desk.run(&["backup", "--postgres", &url, "--exclude-database", "a"]), 2, &["--all-databases"]);
}

#[test]
fn databases_and_users_of_mariadb_are_left_out_by_name_and_told() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE kept_a; CREATE TABLE kept_a.t AS SELECT 1 AS x; CREATE DATABASE kept_b");
    let all = ["backup", "--mysql", &url(server, ""), "--all-databases", "--include-database", "kept_?"];
    let run = desk.run(&[&all[..], &["--exclude-database", "*_b", "--no-globals"]].concat());
    expect(&run, 0, &["1 stream", "database \"kept_b\" is left out, as was asked for"]);
    let left_out = desk.facts("mysql/kept_a.sql")["facts"]["left_out"].as_str().expect("a text").to_owned();
    assert!(left_out.contains("database kept_b") && left_out.ends_with("users and grants"), "{left_out}");
}
