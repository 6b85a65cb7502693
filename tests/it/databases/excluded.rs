//! Tables that are left out of dumps, or whose rows are: the rest comes back, and what is missing is told at both ends.

use crate::databases::expect;
use crate::databases::mysql::url;
use crate::databases::postgres::passfile;
use crate::support::desk::Desk;
use crate::support::mariadb;
use crate::support::postgres;

impl Desk {
    fn left_out_tables(&self, stream: &str) -> String {
        self.facts(stream)["facts"]["left_out_tables"].as_str().expect("a text").to_owned()
    }
}

#[test]
fn tables_of_postgres_are_left_out_with_their_partitions_and_views() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE excluded");
    server.sql(
        "excluded",
        "CREATE SCHEMA app; CREATE TABLE app.\"Audit log\" AS SELECT generate_series(1, 1000) AS id;
        CREATE VIEW app.audited AS SELECT * FROM app.\"Audit log\"; CREATE VIEW app.twice AS SELECT * FROM app.audited;
        CREATE TABLE app.months (a int) PARTITION BY RANGE (a);
        CREATE TABLE app.months_1 PARTITION OF app.months FOR VALUES FROM (0) TO (100);
        INSERT INTO app.months VALUES (1), (2); CREATE TABLE app.shop AS SELECT generate_series(1, 10) AS id;
        CREATE TABLE public.shop AS SELECT 1 AS id",
    );
    let source = server.url("excluded");
    let backup = |more: &[&str]| {
        let backup = ["backup", "--postgres", &source, "--exclude-table", "*.Audit*", "--exclude-table-data", "months"];
        desk.run_with(&env, &[&backup[..], more].concat())
    };
    let left_out =
        "table app.Audit log; table app.audited; table app.twice; rows of table app.months; rows of table app.months_1";
    for more in [&[][..], &["--jobs", "2", "--split-over", "8KiB"], &["--postgres-plain"]] {
        let run = backup(&[more, &["--exclude-table", "absent", "--exclude-table-data", "app.shop"]].concat());
        expect(
            &run,
            0,
            &[
                "of database \"excluded\" is left out, as was asked for: table app.Audit log;",
                "no table has a name like absent",
            ],
        );
        let stream = if more == ["--postgres-plain"] { "postgres/excluded.sql" } else { "postgres/excluded.dump" };
        assert_eq!(desk.left_out_tables(stream), format!("{left_out}; rows of table app.shop"));
        let copy = format!("excluded_copy{}", more.len());
        let restore = desk.run_with(&env, &["restore", "latest", "--into-postgres", &server.url(&copy)]);
        expect(&restore, 0, &[&format!("the dump of {copy} was made without {left_out}")]);
        let there = server.sql(
            &copy,
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'app'::regnamespace;
            SELECT (SELECT count(*) FROM app.months), (SELECT count(*) FROM app.shop), (SELECT count(*) FROM public.shop)",
        );
        assert_eq!(there, "months months_1 shop\n0|0|1\n");
    }
}

#[test]
fn patterns_of_postgres_are_like_tables_and_not_schemas() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE excluded_like");
    server.sql(
        "excluded_like",
        "CREATE SCHEMA catalog; CREATE TABLE catalog.products (a int); CREATE TABLE catalog.log (a int);
        CREATE TABLE public.cat_log (a int)",
    );
    let backup = |pattern: &str| {
        desk.run_with(&env, &["backup", "--postgres", &server.url("excluded_like"), "--exclude-table", pattern])
    };
    expect(&backup("*log*"), 0, &[]);
    assert_eq!(desk.left_out_tables("postgres/excluded_like.dump"), "table catalog.log; table public.cat_log");
    expect(&backup("cat*.l*"), 0, &[]);
    assert_eq!(desk.left_out_tables("postgres/excluded_like.dump"), "table catalog.log");
    // `pg_dump` compares names in the encoding of the database.
    server.sql(
        "postgres",
        "CREATE DATABASE excluded_latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    server.sql("excluded_latin", "CREATE TABLE \"grün\" (a int)");
    let run = desk.run_with(&env, &["backup", "--postgres", &server.url("excluded_latin"), "--exclude-table", "gr*"]);
    expect(&run, 5, &["cannot be left out of database \"excluded_latin\"", "LATIN1"]);
}

#[test]
fn tables_of_mariadb_are_left_out_with_views_that_use_them() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE excluded_a; CREATE DATABASE excluded_b");
    server.sql(
        "excluded_a",
        "CREATE TABLE `log``1` AS SELECT 1 AS x; CREATE TABLE sessions (x int); INSERT INTO sessions VALUES (1), (2);
        CREATE TABLE kept AS SELECT 3 AS x; CREATE VIEW seen AS SELECT * FROM `log``1`; CREATE VIEW twice AS SELECT * FROM seen;
        CREATE VIEW active AS SELECT * FROM sessions",
    );
    server.sql("excluded_b", "CREATE TABLE sessions AS SELECT 1 AS x");
    let all =
        ["backup", "--mysql", &url(server, ""), "--all-databases", "--include-database", "excluded_?", "--no-globals"];
    let run = desk.run(
        &[&all[..], &["--exclude-table", "log*", "--exclude-table-data", "sess*", "--exclude-table", "no"]].concat(),
    );
    let left_out = "table log`1; table seen; table twice; rows of table sessions";
    expect(&run, 0, &["2 streams", &format!("of database \"excluded_a\" is left out, as was asked for: {left_out}")]);
    expect(&run, 0, &["no table has a name like no"]);
    assert_eq!(desk.left_out_tables("mysql/excluded_a.sql"), left_out);
    assert_eq!(desk.left_out_tables("mysql/excluded_b.sql"), "rows of table sessions");
    let restore = ["restore", "latest", "--into-mysql", &url(server, ""), "--database", "excluded_a=excluded_c"];
    expect(&desk.run(&restore), 0, &[&format!("the dump of excluded_c was made without {left_out}")]);
    let there = server.sql("excluded_c", "SHOW TABLES; SELECT COUNT(*) FROM active; SELECT x FROM kept");
    assert_eq!(there, "active\nkept\nsessions\n0\n3\n");
}

#[test]
fn tables_can_only_be_left_out_of_databases_of_servers() {
    let desk = Desk::with_repository();
    expect(&desk.run(&["backup", "source", "--exclude-table", "a"]), 2, &["databases of servers, and none is named"]);
    let both = ["backup", "--sqlite", "a.db", "--mysql", "mysql://root@localhost/a", "--exclude-table-data", "a"];
    expect(&desk.run(&both), 2, &["SQLite databases are copied whole"]);
    expect(
        &desk.run(&["backup", "--mysql", "mysql://h/a", "--exclude-table", "x["]),
        2,
        &["\"x[\" is no pattern for names"],
    );
    // A job of the configuration says it by the same key.
    let schema = desk.run(&["config", "schema"]);
    assert!(schema.out.contains("exclude-table-data") && schema.out.contains("\"exclude-table\""), "{schema:?}");
}
