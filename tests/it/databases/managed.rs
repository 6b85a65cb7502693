//! Servers that somebody else manages: databases that may not be entered, none called `postgres`, extensions that are not there,
//! and clients that are newer than the server.

use crate::databases::mysql::url;
use crate::databases::postgres::passfile;
use crate::databases::{expect, summary};
use crate::support::daemon::skip;
use crate::support::desk::Desk;
use crate::support::mariadb;
use crate::support::postgres::{self, PostgresServer};

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

#[test]
fn a_server_without_a_database_postgres_is_connected_to_by_the_one_in_the_url() {
    let Some(server) = PostgresServer::start() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(&server));
    server.sql("postgres", "CREATE DATABASE defaultdb");
    server.sql("defaultdb", "DROP DATABASE postgres; CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE t AS SELECT generate_series(1, 10) AS id");
    let fingerprint = server.fingerprint("shop");
    let (main, shop) = (server.url("defaultdb"), server.url("shop"));
    expect(
        &desk.run_with(&env, &["backup", "--postgres", &main, "--all-databases", "--job", "all"]),
        0,
        &["3 streams"],
    );
    expect(&desk.run_with(&env, &["backup", "--postgres", &shop, "--job", "one"]), 0, &["1 stream"]);
    let restore = |job: &str, url: &str, more: &[&str]| {
        let restore = ["restore", "latest", "--job", job, "--into-postgres", url];
        desk.run_with(&env, &[&restore[..], more].concat())
    };
    expect(&restore("all", &main, &["--database", "shop=copy", "--plan"]), 0, &["nothing stands against it"]);
    expect(&restore("all", &main, &["--database", "shop=copy"]), 0, &["copy restored"]);
    expect(&restore("one", &server.url("copy2"), &[]), 0, &["copy2 restored"]);
    expect(&restore("one", &shop, &["--in-place", "--confirm", "shop"]), 0, &["shop restored"]);
    for name in ["copy", "copy2", "shop"] {
        assert_eq!(server.fingerprint(name), fingerprint, "{name}");
    }
    // Whoever means a new name by it is told how to say that.
    let nowhere = restore("all", &server.url("nowhere"), &["--database", "shop=copy3"]);
    expect(&nowhere, 1, &["there is no database nowhere to connect to", "--database OLD=nowhere"]);
}

#[test]
fn an_extension_is_left_out_with_what_is_said_of_it() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE extended");
    server.sql(
        "extended",
        "CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'mine'; CREATE TABLE t AS SELECT 1 AS x;
        CREATE EXTENSION \"uuid-ossp\"",
    );
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("extended")]), 0, &[]);
    let extensions = &desk.facts("postgres/extended.dump")["facts"]["extensions"];
    assert!(
        extensions.as_str().is_some_and(|text| text.contains("hstore") && text.contains("uuid-ossp")),
        "{extensions}"
    );
    for (name, more) in [("less", &[][..]), ("less_by_jobs", &["--jobs", "2"])] {
        let restore = ["restore", "latest", "--into-postgres", &server.url(name), "--skip-extension", "hstore"];
        expect(&desk.run_with(&env, &[&restore[..], more].concat()), 0, &[&format!("{name} restored")]);
        let there = "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'; SELECT x FROM t";
        assert_eq!(server.sql(name, there), "uuid-ossp\n1\n");
    }
    // What a table needs is not left out by it.
    server.sql("extended", "CREATE TABLE h (x hstore); INSERT INTO h VALUES ('a=>1')");
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("extended")]), 0, &[]);
    let restore = ["restore", "latest", "--into-postgres", &server.url("lost"), "--skip-extension", "hstore"];
    expect(&desk.run_with(&env, &restore), 1, &["hstore\" does not exist", "nothing was left behind"]);
}

#[test]
fn an_extension_that_works_in_one_database_only_comes_back_there() {
    if !std::path::Path::new("/usr/share/postgresql/15/extension/pg_cron.control").exists() {
        return skip("pg_cron (postgresql-15-cron)");
    }
    let settings = ["shared_preload_libraries=pg_cron", "cron.database_name=timed"];
    let Some(server) = PostgresServer::start_with(&settings) else { return };
    let (desk, env) = (Desk::with_repository(), passfile(&server));
    server.sql("postgres", "CREATE DATABASE timed");
    server.sql(
        "timed",
        "CREATE EXTENSION pg_cron; CREATE TABLE t AS SELECT generate_series(1, 500) AS id;
        SELECT cron.schedule('nightly', '0 3 * * *', 'DELETE FROM t WHERE false')",
    );
    let jobs = "SELECT jobname, schedule, command FROM cron.job ORDER BY 1; SELECT count(*) FROM t";
    let before = server.sql("timed", jobs);
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("timed")]), 0, &[]);
    let restore = |url: &str, more: &[&str]| {
        desk.run_with(&env, &[&["restore", "latest", "--into-postgres", url][..], more].concat())
    };
    let url = server.url("");
    expect(&restore(&url, &["--in-place", "--confirm", "timed"]), 0, &["timed restored", "timed_replaced_"]);
    assert_eq!(server.sql("timed", jobs), before);
    server.sql("postgres", "DROP DATABASE timed WITH (FORCE)");
    expect(&restore(&url, &[]), 0, &["timed restored"]);
    assert_eq!(server.sql("timed", jobs), before);
    let told = "extension pg_cron works in database timed only (cron.database_name): it is left out";
    expect(&restore(&server.url("untimed"), &["--plan"]), 0, &[told]);
    expect(&restore(&server.url("untimed"), &[]), 3, &["untimed restored", told]);
    assert_eq!(server.sql("untimed", "SELECT count(*) FROM t").trim(), "500");

    // What fails in the middle gives the name back.
    server.sql("timed", "CREATE TABLE lost (x int CHECK (current_setting('my.own', true) IS NOT DISTINCT FROM 'x'))");
    server.sql("timed", "SET my.own = 'x'; INSERT INTO lost VALUES (1)");
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("timed")]), 0, &[]);
    let failed = restore(&url, &["--in-place", "--confirm", "timed"]);
    expect(&failed, 1, &["timed is untouched"]);
    assert_eq!(server.sql("timed", jobs), before);
}

/// Programs like those that are here, which say that they are of version 18 and begin as those do.
fn newer_clients(desk: &Desk) -> String {
    const DUMP: &str = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_dump (PostgreSQL) 18.1' && exit\n\
        case \"$*\" in *=plain*) pg_dump \"$@\" | sed 's/^SET lock_timeout = 0;$/&\\nSET transaction_timeout = 0;/' ;; *) exec pg_dump \"$@\" ;; esac\n";
    // It is told of first, and counted at the end.
    const RESTORE: &str = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_restore (PostgreSQL) 18.1' && exit\n\
        [ \"$1\" = --list ] && exec pg_restore \"$@\"\n\
        echo 'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \"transaction_timeout\"' >&2\n\
        echo 'Command was: SET transaction_timeout = 0;' >&2\n\
        pg_restore \"$@\" || exit\n\
        echo 'pg_restore: warning: errors ignored on restore: 1' >&2\nexit 1\n";
    let programs = desk.programs(&[("pg_dump", DUMP), ("pg_restore", RESTORE)], "psql");
    programs.to_str().expect("plain").to_owned()
}

#[test]
fn what_newer_clients_say_to_an_older_server_is_no_failure() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE older");
    server.sql("older", "CREATE TABLE t AS SELECT 'SET transaction_timeout = 0;' AS x FROM generate_series(1, 10)");
    let clients = newer_clients(&desk);
    let env = [&passfile(server)[..], &[("COFFRE_POSTGRES_BIN", clients.as_str())]].concat();
    for (name, backup, restore) in [
        ("as_archive", &[][..], &[][..]),
        ("strictly", &[], &["--exit-on-error"]),
        ("as_sql", &["--postgres-plain"], &[]),
    ] {
        expect(&desk.run_with(&env, &[&["backup", "--postgres", &server.url("older")][..], backup].concat()), 0, &[]);
        let into = ["--json", "restore", "latest", "--into-postgres", &server.url(name)];
        let restored = desk.run_with(&env, &[&into[..], restore].concat());
        expect(&restored, 0, &[]);
        assert_eq!(summary(&restored)["databases"][0]["failed_statements"], 0);
        assert_eq!(server.fingerprint(name), server.fingerprint("older"));
    }
}

#[test]
fn rows_come_back_whose_checks_need_a_search_path_or_other_tables() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    for (name, statements) in [
        (
            "checked_by_path",
            "CREATE TABLE dict (v text); INSERT INTO dict VALUES ('a'), ('b'), ('c');
            CREATE FUNCTION in_dict(p text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT 1 FROM dict WHERE v = p)';
            CREATE TABLE data (id int, v text CONSTRAINT known CHECK (in_dict(v)));
            COMMENT ON CONSTRAINT known ON data IS 'it''s known'; INSERT INTO data VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        ),
        (
            "checked_by_order",
            "CREATE TABLE z_dict (v text); INSERT INTO z_dict VALUES ('a'), ('b'), ('c');
            CREATE FUNCTION in_dict(p text) RETURNS boolean LANGUAGE sql STABLE
                AS 'SELECT EXISTS (SELECT 1 FROM public.z_dict WHERE v = p)';
            CREATE TABLE data (id int, v text CHECK (in_dict(v))); INSERT INTO data VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        ),
        (
            "generated_by_path",
            "CREATE SCHEMA \"own one\"; ALTER DATABASE generated_by_path SET search_path TO \"own one\", public;
            SET search_path TO \"own one\", public;
            CREATE FUNCTION inner_slug(p text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(p)';
            CREATE FUNCTION slug(p text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_slug(p); END';
            CREATE TABLE data (id int, v text, s text GENERATED ALWAYS AS (slug(v)) STORED);
            INSERT INTO data VALUES (1, 'A'), (2, 'B'), (3, 'C'); CREATE UNIQUE INDEX data_slug ON data (slug(v))",
        ),
    ] {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        server.sql(name, statements);
        expect(&desk.run_with(&env, &["backup", "--postgres", &server.url(name)]), 0, &[]);
        let copy = format!("{name}_back");
        let restored = desk.run_with(&env, &["restore", "latest", "--into-postgres", &server.url(&copy)]);
        expect(&restored, 0, &["its rows could not be put with the empty search path"]);
        assert_eq!(server.fingerprint(&copy), server.fingerprint(name), "{name}");
    }
}
