//! PostgreSQL there and back.

use crate::databases::{expect, fixture, summary};
use crate::support::desk::Desk;
use crate::support::postgres::{self, PostgresServer};

/// The variable with which clients find the password.
pub(super) fn passfile(server: &PostgresServer) -> [(&'static str, &str); 1] {
    [("PGPASSFILE", server.passfile().to_str().expect("plain"))]
}

#[test]
fn a_database_comes_back_as_it_was_with_its_settings_and_rights() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.load("there", &fixture("postgres.sql"));
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("there")]), 0, &["1 stream"]);

    let stream = desk.facts("postgres/there.dump");
    let facts = &stream["facts"];
    for (name, expected) in [("engine", "postgres"), ("database", "there"), ("encoding", "UTF8")] {
        assert_eq!(facts[name], expected);
    }
    for name in ["server_version", "client_version", "wal_lsn"] {
        assert!(facts[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {facts}");
    }
    for name in ["database_bytes", "archive_entries"] {
        assert!(facts[name].as_u64().is_some_and(|number| number > 0), "{name}: {facts}");
    }
    let rows = facts["rows_estimate"].as_u64().expect("a number");
    assert!(rows > 10_000, "{rows}");
    assert!(!stream["command"].to_string().contains(server.password()));

    let url = server.url("");
    let plan =
        desk.run_with(&env, &["restore", "latest", "--into-postgres", &url, "--database", "there=back", "--plan"]);
    expect(&plan, 0, &["there", "back", "nothing was changed"]);
    let restored = desk
        .run_with(&env, &["restore", "latest", "--into-postgres", &url, "--database", "there=back", "--exit-on-error"]);
    expect(&restored, 0, &["back restored"]);
    assert_eq!(server.fingerprint("back"), server.fingerprint("there"));
    let of_the_database = "
        SELECT datcollate, datctype, pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'),
            (SELECT array_agg(a ORDER BY a::text) FROM aclexplode(datacl) a)
        FROM pg_database WHERE datname = current_database();
        SELECT setrole::regrole, setting FROM pg_db_role_setting, unnest(setconfig) setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2";
    assert_eq!(server.sql("back", of_the_database), server.sql("there", of_the_database));
    let statistics = "SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'shop'";
    assert_eq!(server.sql("back", statistics).trim(), "t");

    // By several connections, through a spool file that is gone afterwards.
    let spool = desk.at("spool");
    std::fs::create_dir(&spool).expect("made");
    let spool = spool.to_str().expect("plain");
    let (target, jobs) = (server.url("parallel"), ["--jobs", "3", "--spool-dir", spool]);
    let parallel = [&["restore", "latest", "--into-postgres", &target][..], &jobs].concat();
    expect(&desk.run_with(&env, &parallel), 0, &["parallel restored"]);
    assert_eq!(server.fingerprint("parallel"), server.fingerprint("there"));
    assert_eq!(std::fs::read_dir(spool).expect("readable").count(), 0);
}

#[test]
fn the_estimate_of_rows_counts_what_is_dumped_and_no_catalog() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE counted");
    // Catalogs have an estimate of their own only once somebody has gathered it.
    let fill = "CREATE SCHEMA apart; CREATE TABLE apart.a AS SELECT generate_series(1, 1200) AS x;
        CREATE TABLE b AS SELECT generate_series(1, 34) AS x; CREATE MATERIALIZED VIEW m AS SELECT * FROM b;
        CREATE TABLE parted (x int) PARTITION BY LIST (x); CREATE TABLE leaf PARTITION OF parted DEFAULT;
        INSERT INTO parted SELECT generate_series(1, 500); ANALYZE";
    server.sql("counted", fill);
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("counted")]), 0, &["1 stream"]);
    assert_eq!(desk.facts("postgres/counted.dump")["facts"]["rows_estimate"], 1200 + 34 + 34 + 500);
    server.sql("postgres", "DROP DATABASE counted");
}

#[test]
fn large_tables_become_streams_of_their_own_under_one_snapshot() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.load("split", &fixture("postgres.sql"));
    let split = ["--jobs", "3", "--split-over", "100kB"];
    let url = server.url("split");
    let backup = [&["backup", "--postgres", &url][..], &split].concat();

    // Somebody moves rows from one table to another all the time, in transactions: their sum is always the same.
    server.sql(
        "split",
        "CREATE TABLE public.a AS SELECT i AS id, 100 AS amount, repeat('x', 200) AS pad FROM generate_series(1, 3000) i;
        CREATE TABLE public.b AS SELECT * FROM public.a; ALTER TABLE public.a ADD PRIMARY KEY (id); ALTER TABLE public.b ADD PRIMARY KEY (id)",
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                server.sql(
                    "split",
                    "BEGIN; UPDATE public.a SET amount = amount - 1; UPDATE public.b SET amount = amount + 1; COMMIT;",
                );
            }
        });
        // That tables have streams of their own from now on makes nothing smaller.
        expect(&desk.run_with(&env, &["backup", "--postgres", &url]), 0, &["1 stream"]);
        for _ in 0..3 {
            let run = desk.run_with(&env, &backup);
            expect(&run, 0, &["streams"]);
            assert!(!run.err.contains("pg_dump"), "{run:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let entries = desk.events("entry", &["ls", "-R", "latest:postgres"]);
    let paths: Vec<&str> = entries.iter().filter_map(|entry| entry["path"].as_str()).collect();
    for table in ["public.a", "public.b", "shop.items"] {
        assert!(paths.contains(&format!("/postgres/split.tables/{table}.dump").as_str()), "{paths:?}");
    }
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'split' AND state <> 'active'";
    assert_eq!(server.sql("postgres", held).trim(), "0", "a session was left behind");

    let target = server.url("joined");
    let restore = ["restore", "latest", "--into-postgres", &target, "--jobs", "2", "--exit-on-error"];
    expect(&desk.run_with(&env, &restore), 0, &["joined restored"]);
    let sum = "SELECT (SELECT sum(amount) FROM public.a) + (SELECT sum(amount) FROM public.b)";
    assert_eq!(server.sql("joined", sum).trim(), "600000");
    server.sql("split", "DROP TABLE public.a, public.b");
    server.sql("joined", "DROP TABLE public.a, public.b");
    assert_eq!(server.fingerprint("joined"), server.fingerprint("split"));

    // Without one of its parts it is not begun.
    let part = ["restore", "latest:postgres/split.tables", "--into-postgres", &target, "--plan"];
    expect(&desk.run_with(&env, &part), 1, &["OBSTACLE", "name the directory"]);

    // What it was in all is known from the snapshots, too: without those tables it is much less.
    std::fs::remove_dir_all(desk.at(".cache")).expect("there was one");
    server.sql("split", "DROP TABLE shop.items CASCADE");
    let run = desk.run_with(&env, &["backup", "--postgres", &url, "--shrink-limit", "90"]);
    expect(&run, 3, &["suspicious postgres/split.dump: only "]);
}

#[test]
fn all_databases_come_with_their_roles_and_a_foreign_encoding() {
    let Some(server) = PostgresServer::start() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(&server));
    server.load("first", &fixture("postgres.sql"));
    server.load_non_utf8("bytes");
    server.sql(
        "postgres",
        "CREATE DATABASE \"odd /name\\\"; CREATE ROLE clerk LOGIN PASSWORD 'x';
        CREATE TABLE of_the_server AS SELECT 42 AS x; CREATE DATABASE lossy OWNER clerk;
        CREATE DATABASE closed; ALTER DATABASE closed ALLOW_CONNECTIONS false;
        ALTER DATABASE \"odd /name\\\" IS_TEMPLATE true",
    );
    server.sql("template1", "CREATE TABLE for_all (x int)");
    // Its rows can only be put into a database of this name, and a restore begins in one of another.
    server.sql(
        "lossy",
        "CREATE FUNCTION fits() RETURNS bool LANGUAGE sql AS 'SELECT current_database() = ''lossy'';';
        CREATE DOMAIN fitting AS int CHECK (fits()); CREATE TABLE t (x fitting); INSERT INTO t VALUES (1)",
    );
    let backup = ["backup", "--postgres", &server.url(""), "--all-databases", "--jobs", "2", "--split-over", "10GB"];
    let left_out = ["database \"closed\" allows no connections", "template1 has objects of its own"];
    expect(&desk.run_with(&env, &backup), 0, &[&["6 streams"][..], &left_out].concat());
    assert_eq!(desk.snapshots()[0]["sources"][0], format!("postgres://127.0.0.1:{}/*", server.port()));
    let globals = desk.run(&["dump", "latest:postgres/globals.sql"]).out;
    assert!(globals.contains("CREATE ROLE clerk") && globals.contains("SCRAM-SHA-256$"), "{globals}");

    let Some(other) = PostgresServer::start() else { return };
    let (env, url) = (passfile(&other), other.url(""));
    let several = desk.run_with(&env, &["restore", "latest", "--into-postgres", &url]);
    expect(
        &several,
        2,
        &["several databases: bytes, first, lossy, odd /name\\, postgres", "hint: choose with --database"],
    );
    // A plan changes nothing, so it shows all of them, and what is to be chosen.
    let plan = desk.run_with(&env, &["restore", "latest", "--into-postgres", &url, "--plan"]);
    let told =
        ["bytes", "first", "lossy", "OBSTACLE   snapshot ", "several databases", "choose with --database OLD[=NEW]"];
    expect(&plan, 1, &told);
    let named = ["restore", "latest", "--into-postgres", &other.url("shop"), "--all-databases"];
    expect(&desk.run_with(&env, &named), 1, &["there is no database shop to connect to", "--database OLD=shop"]);
    let plan = desk.run_with(&env, &["restore", "latest", "--into-postgres", &url, "--all-databases", "--plan"]);
    expect(&plan, 0, &["postgres (exists, empty)", "note       there is no role clerk, which owns lossy"]);
    let roles = desk.run_with(&env, &["restore", "latest", "--into-postgres", &url, "--globals"]);
    // Who connects is there, and no failure.
    expect(&roles, 0, &["globals restored"]);
    // The one we connect as has the password now that it has there.
    let reset = format!("ALTER ROLE postgres PASSWORD '{}'", other.password().replace('\'', "''"));
    let mut psql = std::process::Command::new("psql");
    psql.args(["-q", "-d", &other.url("postgres"), "-c", &reset]).env("PGPASSWORD", server.password());
    assert!(psql.status().expect("runs").success());
    // The database that every server has is no obstacle while it is empty, and one that fails is none for the others.
    let restore = ["restore", "latest", "--into-postgres", &url, "--all-databases"];
    let restored = desk.run_with(&env, &restore);
    let parts = [
        "first restored",
        "bytes restored",
        "odd /name\\ restored",
        "postgres restored",
        "lossy NOT RESTORED",
        "COPY failed for table \"t\"",
        "there is no database lossy, nothing was left behind",
    ];
    expect(&restored, 1, &parts);
    for name in ["first", "bytes", "postgres"] {
        assert_eq!(other.fingerprint(name), server.fingerprint(name), "{name}");
    }
    assert_eq!(other.sql("postgres", "SELECT x FROM of_the_server").trim(), "42");
    // There was nothing in it, so nothing of it stays.
    assert!(!restored.out.contains("_replaced_"), "{restored:?}");
    let stays = "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_replaced\\_%'";
    assert_eq!(other.sql("postgres", stays).trim(), "0");
    let templates = "SELECT datname FROM pg_database WHERE datistemplate AND datname LIKE 'odd%'";
    assert_eq!(other.sql("postgres", templates).trim(), "odd /name\\");
    assert!(!other.sql("postgres", "SELECT datname FROM pg_database").contains("lossy"));
    let strict = desk.run_with(&env, &[&restore[..], &["--in-place", "--confirm", "postgres"]].concat());
    expect(&strict, 2, &["exists and would be replaced"]);
    // Now there is something in it.
    let again = ["restore", "latest", "--into-postgres", &url, "--database", "postgres"];
    expect(&desk.run_with(&env, &again), 1, &["error: postgres exists"]);
    other.sql("postgres", "DROP TABLE of_the_server");
    other.sql("postgres", "CREATE TABLE too_much (x int)");
    let again = [&again[..], &["--in-place", "--confirm", "postgres"]].concat();
    expect(&desk.run_with(&env, &again), 0, &["postgres restored", "is called postgres_replaced_"]);
    assert_eq!(other.fingerprint("postgres"), server.fingerprint("postgres"));
    let role = "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = 'clerk'";
    assert_eq!(other.sql("postgres", role), server.sql("postgres", role));
}

#[test]
fn plain_dumps_are_the_same_every_night_and_come_back() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.load("plain", &fixture("postgres.sql"));
    let backup = ["--json", "backup", "--postgres", &server.url("plain"), "--postgres-plain"];
    for new in [true, false] {
        let run = desk.run_with(&env, &backup);
        let summary = summary(&run);
        assert_eq!(summary["new_bytes"].as_u64().expect("a number") > 0, new, "{summary}");
    }
    let stream = desk.facts("postgres/plain.sql");
    assert_eq!(stream["facts"]["format"], "postgres plain");
    assert!(stream["command"].to_string().contains("--restrict-key=***"), "{stream}");
    expect(
        &desk.run_with(&env, &["restore", "latest", "--into-postgres", &server.url("plain again"), "--exit-on-error"]),
        0,
        &["plain again restored"],
    );
    assert_eq!(server.fingerprint("plain again"), server.fingerprint("plain"));
}

#[test]
fn an_existing_database_is_replaced_only_when_asked_and_is_kept() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE taken");
    server.sql("taken", "CREATE TABLE t AS SELECT 1 AS version");
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("taken")]), 0, &[]);
    server.sql("taken", "UPDATE t SET version = 2");

    let url = server.url("");
    let restore = ["restore", "latest", "--into-postgres", &url];
    let with = |more: &[&str]| desk.run_with(&env, &[&restore[..], more].concat());
    expect(&with(&[]), 1, &["error: taken exists", "hint: --database OLD=NEW"]);
    expect(&with(&["--plan"]), 1, &["taken (exists)", "OBSTACLE   taken exists"]);
    expect(&with(&["--in-place"]), 2, &["add --confirm taken"]);
    expect(&with(&["--in-place", "--confirm", "other"]), 2, &["add --confirm taken"]);
    assert_eq!(server.sql("taken", "SELECT version FROM t").trim(), "2");

    // Somebody is connected; it is not asked.
    let session = std::thread::spawn(|| {
        let server = postgres::shared().expect("it is there");
        std::panic::catch_unwind(|| server.sql("taken", "SELECT pg_sleep(60)")).is_err()
    });
    while server.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'taken'").trim() == "0" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let replaced = with(&["--in-place", "--confirm", "taken"]);
    expect(
        &replaced,
        0,
        &["taken restored", "is called taken_replaced_", "not needed: DROP DATABASE \"taken_replaced_"],
    );
    expect(
        &with(&["--plan"]),
        1,
        &["note       database taken_replaced_", "when it is not needed: DROP DATABASE \"taken"],
    );
    assert!(session.join().expect("joined"), "the session was ended");
    assert_eq!(server.sql("taken", "SELECT version FROM t").trim(), "1");
    let old = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'taken\\_replaced\\_%'");
    assert_eq!(server.sql(old.trim(), "SELECT version FROM t").trim(), "2");
}

#[test]
fn what_pg_dump_says_of_a_dump_that_it_calls_done_is_told_and_kept() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "postgres",
        "CREATE DATABASE subscribed; CREATE ROLE reader LOGIN PASSWORD 'reader' IN ROLE pg_read_all_data",
    );
    server.sql("subscribed", "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)");
    let url = server.url("subscribed").replace("postgres@", "reader@");
    let run = desk.run_with(&[("PGPASSWORD", "reader")], &["backup", "--postgres", &url]);
    expect(&run, 0, &["was dumped, but the program said: ", "subscriptions not dumped"]);
    let facts = desk.facts("postgres/subscribed.dump");
    assert!(facts["facts"]["said"].as_str().is_some_and(|text| text.contains("subscriptions not dumped")), "{facts}");
    server.sql("subscribed", "ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s");
}

#[test]
fn properties_of_databases_with_awkward_names_and_encodings_come_back() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql(
        "postgres",
        "CREATE ROLE \"Röle %s \"\"q\"\"\"; CREATE DATABASE props TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'
            OWNER \"Röle %s \"\"q\"\"\";
        ALTER DATABASE props SET search_path = ''; ALTER DATABASE props SET temp_tablespaces = '';
        ALTER ROLE \"Röle %s \"\"q\"\"\" IN DATABASE props SET search_path = '\"a b\"', public;
        GRANT CONNECT ON DATABASE props TO \"Röle %s \"\"q\"\"\" WITH GRANT OPTION;
        REVOKE CREATE ON DATABASE props FROM \"Röle %s \"\"q\"\"\";
        CREATE DATABASE \"a=b\"",
    );
    server.sql(
        "props",
        "SET client_encoding = 'UTF8'; COMMENT ON DATABASE props IS 'größe 100%';
        CREATE TABLE public.\"grüße\" AS SELECT i, repeat('ü', 100) AS pad FROM generate_series(1, 10000) i;
        CREATE TABLE public.plain AS SELECT i, repeat('ü', 100) AS pad FROM generate_series(1, 10000) i",
    );
    let backup = ["backup", "--postgres", &server.url("props"), "--jobs", "2", "--split-over", "10kB"];
    expect(&desk.run_with(&[&env[..], &[("PGCLIENTENCODING", "LATIN1")]].concat(), &backup), 0, &["2 streams"]);
    let in_place = ["restore", "latest", "--into-postgres", &server.url("props"), "--in-place", "--confirm", "props"];
    let restored = desk.run_with(&[&env[..], &[("PGCLIENTENCODING", "LATIN1")]].concat(), &in_place);
    expect(&restored, 0, &["props restored"]);
    let name = restored.out.split_whitespace().find(|word| word.starts_with("props_replaced_")).expect("it is named");
    let properties = |name: &str| {
        let of_the_database = format!(
            "SELECT pg_get_userbyid(datdba), (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(datacl) a),
                (SELECT array_agg(s::text ORDER BY s::text)
                 FROM (SELECT setrole::regrole::text || setconfig::text AS s FROM pg_db_role_setting
                 WHERE setdatabase = d.oid) settings) FROM pg_database d WHERE datname = '{name}'"
        );
        let comment = "SET client_encoding = 'UTF8';
            SELECT shobj_description((SELECT oid FROM pg_database WHERE datname = current_database()), 'pg_database')";
        let sum = "SELECT md5(string_agg(t::text, '' ORDER BY i)) FROM public.\"grüße\" t";
        let sum = format!("SET client_encoding = 'UTF8'; {sum}");
        (server.sql("postgres", &of_the_database), server.sql(name, comment), server.sql(name, &sum))
    };
    assert_eq!(properties("props"), properties(name));

    // A name with the character that a new name is written after; and one to connect by is not a new name.
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("a=b")]), 0, &["1 stream"]);
    let chosen = ["restore", "latest", "--into-postgres", &server.url("postgres"), "--plan"];
    expect(&desk.run_with(&env, &chosen), 1, &["OBSTACLE   a=b exists"]);
    let chosen = ["restore", "latest", "--into-postgres", &server.url(""), "--database", "a=b", "--plan"];
    expect(&desk.run_with(&env, &chosen), 1, &["OBSTACLE   a=b exists"]);
}

#[test]
fn what_only_a_superuser_may_read_is_told() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "postgres",
        "CREATE DATABASE mapped; CREATE ROLE watcher LOGIN PASSWORD 'watcher' IN ROLE pg_read_all_data",
    );
    server.sql(
        "mapped",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;
        CREATE USER MAPPING FOR postgres SERVER s OPTIONS (password 'geheim')",
    );
    let url = server.url("mapped").replace("postgres@", "watcher@");
    let run = desk.run_with(&[("PGPASSWORD", "watcher")], &["backup", "--postgres", &url]);
    expect(&run, 0, &["passwords and options of 1 user mappings of foreign servers may be missing"]);
    expect(&desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("mapped")]), 0, &[]);
    assert!(desk.facts("postgres/mapped.dump")["facts"]["hidden_user_mappings"].is_null());
}
