//! Everything that goes wrong with a server: a clear error, the right exit code, no snapshot, and no process left.

use crate::databases::postgres::passfile;
use crate::databases::{expect, fixture, mysql, summary, until};
use crate::support::desk::Desk;
use crate::support::mariadb::{self, MariaDbServer};
use crate::support::postgres::{self, PostgresServer};

/// Tells whether a process of one of these names has `part` in its command line.
fn is_running(programs: &[&str], part: &str) -> bool {
    std::fs::read_dir("/proc").expect("there").flatten().any(|item| {
        let line = std::fs::read(item.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let program = line.split(' ').next().unwrap_or_default();
        programs.iter().any(|name| program.ends_with(name)) && line.contains(part)
    })
}

#[test]
fn a_server_that_cannot_be_reached_or_entered_says_so() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    let nowhere = desk.run(&["backup", "--postgres", "postgresql://joe@127.0.0.1:1/shop"]);
    expect(&nowhere, 5, &["so no snapshot was made", "Connection refused", "hint: is the server running"]);
    let locked = desk.run(&["backup", "--postgres", &server.url("postgres")]);
    expect(&locked, 5, &["no password supplied", "hint: check user and password"]);
    let wrong = desk.run_with(&[("PGPASSWORD", "wrong")], &["backup", "--postgres", &server.url("postgres")]);
    expect(&wrong, 5, &["password authentication failed", "hint: check user and password"]);
    let env = passfile(server);
    let unknown = desk.run_with(&env, &["backup", "--postgres", &server.url("no such database")]);
    expect(&unknown, 5, &["database \"no such database\" does not exist"]);
    expect(&desk.run(&["backup", "--postgres", &server.url("")]), 2, &["names no database", "--all-databases"]);
    expect(&desk.run(&["backup", "--postgres", "mysql://h/x"]), 2, &["another kind of server"]);
    assert_eq!(desk.snapshot_count(), 0);

    let Some(server) = mariadb::shared() else { return };
    let nowhere = desk.run(&["backup", "--mysql", "mysql://joe@127.0.0.1:1/shop"]);
    expect(&nowhere, 5, &["Can't connect", "hint: is the server running"]);
    expect(&desk.run(&["backup", "--mysql", &server.url("x")]), 5, &["Access denied", "hint: check user and password"]);
    expect(&desk.run(&["backup", "--mysql", &mysql::url(server, "no such")]), 5, &["has no database \"no such\""]);
    assert_eq!(desk.snapshot_count(), 0);
}

#[test]
fn a_right_that_is_missing_on_one_table_fails_the_whole() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "postgres",
        "CREATE ROLE narrow LOGIN PASSWORD 'narrow' IN ROLE pg_read_all_settings; CREATE DATABASE narrow",
    );
    server.sql(
        "narrow",
        "CREATE TABLE seen AS SELECT 1 AS x; CREATE TABLE hidden AS SELECT 1 AS x; GRANT SELECT ON seen TO narrow",
    );
    let password = [("PGPASSWORD", "narrow")];
    let url = server.url("narrow").replace("postgres@", "narrow@");
    let run = desk.run_with(&password, &["backup", "--postgres", &url]);
    expect(&run, 5, &["permission denied for table hidden", "hint: the user lacks a right"]);
    let split = desk.run_with(&password, &["backup", "--postgres", &url, "--jobs", "2", "--split-over", "1B"]);
    expect(&split, 5, &["permission denied for table hidden"]);
    server.sql("narrow", "GRANT SELECT ON hidden TO narrow");
    expect(&desk.run_with(&password, &["backup", "--postgres", &url]), 0, &[]);
    // The roles' passwords are a superuser's to read.
    let all = ["backup", "--postgres", &url, "--all-databases", "--keep-partial"];
    let run = desk.run_with(&password, &all);
    expect(&run, 5, &["may not read the passwords of roles", "INCOMPLETE"]);
}

#[test]
fn what_a_mariadb_user_does_not_see_is_never_left_out_in_silence() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE DATABASE narrow; USE narrow; CREATE TABLE seen AS SELECT 1 AS x; CREATE TABLE hidden (y INT);
        CREATE TRIGGER stamp BEFORE INSERT ON seen FOR EACH ROW SET NEW.x = 2;
        CREATE PROCEDURE tidy() DELETE FROM seen; CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM seen;
        CREATE USER narrow@'%' IDENTIFIED BY 'narrow'; GRANT SELECT ON narrow.seen TO narrow@'%'; CREATE ROLE helper",
    );
    let url = |name: &str| server.url(name).replace("root@", "narrow:narrow@");
    let (one, all) = (url("narrow"), url(""));
    let variables = [("ONE", one.as_str()), ("ALL", all.as_str())];
    let backup = || desk.run_with(&variables, &["backup", "--mysql", "env:ONE"]);
    // One right after the other: each is asked for by name.
    for (missing, grant) in [
        ("no SELECT ON `narrow`.*; without it tables and views would be", "SELECT ON narrow.* TO narrow@'%'"),
        ("no TRIGGER ON `narrow`.*; without it triggers would be", "TRIGGER ON narrow.* TO helper"),
        ("no TRIGGER ON `narrow`.*", "helper TO narrow@'%'; SET DEFAULT ROLE helper FOR narrow@'%'"),
        ("no EVENT ON `narrow`.*; without it events would be", "EVENT ON `narr%`.* TO helper"),
        ("no EVENT ON `narrow`.*", "EVENT, SHOW VIEW ON narrow.* TO helper"),
        ("no SELECT ON mysql.proc; without it procedures and functions", "SELECT ON mysql.proc TO narrow@'%'"),
    ] {
        expect(&backup(), 5, &[missing, "hint: as an administrator: GRANT "]);
        server.sql("", &format!("GRANT {grant}"));
    }
    expect(&backup(), 0, &[]);
    let dump = desk.run(&["dump", "latest:mysql/narrow.sql"]).out;
    for part in ["`seen`", "`hidden`", "TRIGGER stamp", "PROCEDURE `tidy`", "EVENT `nightly`"] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
    // A right to run routines shows them, but not what is in them: the program fails.
    server.sql("", "REVOKE SELECT ON mysql.proc FROM narrow@'%'; GRANT EXECUTE ON narrow.* TO narrow@'%'");
    expect(&backup(), 5, &["insufficient privileges", "hint: the user lacks a right"]);
    let all = desk.run_with(&variables, &["backup", "--mysql", "env:ALL", "--all-databases"]);
    expect(&all, 5, &["no SHOW DATABASES ON *.*; without it databases would be missing"]);
    assert_eq!(desk.snapshot_count(), 1);
}

#[test]
fn option_files_of_the_user_neither_change_a_dump_nor_win_over_what_was_named() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE filed; CREATE TABLE filed.t AS SELECT 'a row that must be there' AS x");
    let password = server.password().replace('\\', "\\\\").replace('"', "\\\"");
    // What clients read by themselves.
    let home = |text: &str| std::fs::write(desk.at(".my.cnf"), text).expect("written");
    home(&format!("[client]\npassword=\"{password}\"\n[mysqldump]\nquick\n[mysql]\nno-auto-rehash\n"));
    expect(&desk.run(&["backup", "--mysql", &server.url("filed")]), 0, &[]);
    home(&format!("[client]\npassword=\"{password}\"\n[mariadb-dump]\nwhere=\"x > 'z'\"\nno_data\n"));
    let changed = desk.run(&["backup", "--mysql", &server.url("filed")]);
    expect(&changed, 5, &["option files change what mariadb-dump does, by where, no-data", "hint: put what is needed"]);
    home(&format!("[client]\npassword=\"{password}\"\n[mysql]\nforce\n"));
    let restore = ["restore", "latest", "--into-mysql", &server.url("filed again")];
    expect(&desk.run(&restore), 1, &["option files change what mariadb does, by force", "hint: put what is needed"]);

    home("[client]\npassword=wrong\nuser=nobody\n[mariadb-dump]\nwhere=\"x > 'z'\"\n");
    expect(&desk.run(&["backup", "--mysql", &mysql::url(server, "filed")]), 0, &[]);
    assert!(desk.run(&["dump", "latest:mysql/filed.sql"]).out.contains("a row that must be there"));
    let url = mysql::url_with_password(server, "filed");
    expect(&desk.run_with(&[("FILED", &url)], &["backup", "--mysql", "env:FILED"]), 0, &[]);
    assert!(desk.run(&["dump", "latest:mysql/filed.sql"]).out.contains("a row that must be there"));
    let nowhere = format!("{}?option-file=/no/such/file", server.url("filed"));
    expect(&desk.run(&["backup", "--mysql", &nowhere]), 5, &["could not be reached with these option files"]);
}

#[test]
fn a_client_older_than_its_server_is_refused_before_it_dumps() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    let script = "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n";
    let old = desk.programs(&[("pg_dump", script), ("pg_restore", script)], "psql");
    let variables = [
        ("PGPASSFILE", server.passfile().to_str().expect("plain")),
        ("COFFRE_POSTGRES_BIN", old.to_str().expect("plain")),
    ];
    let run = desk.run_with(&variables, &["backup", "--postgres", &server.url("postgres")]);
    expect(&run, 5, &["pg_dump is of version 9.6.24, older than", "hint: install the client programs of that version"]);
    assert_eq!(desk.snapshot_count(), 0);
}

#[test]
fn a_server_killed_in_the_middle_of_a_dump_leaves_no_snapshot_and_no_process() {
    let Some(server) = PostgresServer::start() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "postgres",
        "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) AS pad FROM generate_series(1, 400000) i",
    );
    let port = server.port().to_string();
    let child = desk.start(
        &passfile(&server),
        &["backup", "--postgres", &server.url("postgres"), "--jobs", "2", "--split-over", "1MB"],
    );
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%big%'";
    until("the table is copied", || server.sql("postgres", copying).trim() != "0");
    server.kill();
    let run = child.wait_with_output().expect("ended").into();
    expect(&run, 5, &["so no snapshot was made"]);
    assert!(!is_running(&["pg_dump", "psql", "pg_restore"], &port), "a client was left");
    assert_eq!(desk.snapshot_count(), 0);

    let Some(server) = MariaDbServer::start() else { return };
    server.sql(
        "",
        "CREATE DATABASE big; USE big; CREATE TABLE t AS SELECT seq, REPEAT(MD5(seq), 30) AS pad FROM seq_1_to_400000",
    );
    let url = mysql::url(&server, "big");
    let port = format!("--port={}", server.port());
    let child = desk.start(&[], &["backup", "--mysql", &url]);
    let reading = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%FROM `t`%' AND db = 'big'";
    until("the table is read", || server.sql("", reading).trim() != "0");
    server.kill();
    let run = child.wait_with_output().expect("ended").into();
    expect(&run, 5, &["so no snapshot was made"]);
    assert!(!is_running(&["mariadb-dump", "mysqldump"], &port), "a client was left");
    assert_eq!(desk.snapshot_count(), 0);
}

#[test]
fn a_dump_that_is_interrupted_leaves_no_process_and_no_session() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE slow");
    server.sql("slow", "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 30) AS pad FROM generate_series(1, 300000) i");
    let child = desk
        .start(&passfile(server), &["backup", "--postgres", &server.url("slow"), "--jobs", "2", "--split-over", "1MB"]);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'slow'";
    until("it is connected", || server.sql("postgres", sessions).trim() != "0");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let run = child.wait_with_output().expect("ended").into();
    expect(&run, 130, &["interrupted"]);
    assert!(!is_running(&["pg_dump", "psql", "pg_restore"], "slow"), "a client was left");
    until("the sessions are gone", || server.sql("postgres", sessions).trim() == "0");
    assert_eq!(desk.snapshot_count(), 0);
}

#[test]
fn an_owner_of_a_database_gets_no_rights_from_those_who_back_it_up() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE ROLE mallory LOGIN; CREATE DATABASE trap OWNER mallory");
    // Functions of these names are called by whoever looks for facts, and are found before the server's own.
    server.sql(
        "trap",
        "SET ROLE mallory; CREATE SCHEMA trap;
        CREATE FUNCTION trap.spring() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE mallory SUPERUSER; END IF; END $$;
        CREATE FUNCTION public.shobj_description(oid, text) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN PERFORM trap.spring(); RETURN NULL; END $$;
        CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN PERFORM trap.spring(); RETURN 'x'; END $$;
        CREATE FUNCTION trap.current_database() RETURNS name LANGUAGE plpgsql AS
            $$ BEGIN PERFORM trap.spring(); RETURN 'trap'; END $$;
        CREATE FUNCTION trap.pg_export_snapshot() RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN PERFORM trap.spring(); RETURN pg_catalog.pg_export_snapshot(); END $$;
        ALTER DATABASE trap SET search_path = trap, public, pg_catalog;
        CREATE TABLE public.t AS SELECT i FROM generate_series(1, 10000) i",
    );
    let url = server.url("trap");
    let sprung = "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'";
    for more in [&[][..], &["--jobs", "2", "--split-over", "10kB"]] {
        expect(&desk.run_with(&env, &[&["backup", "--postgres", &url][..], more].concat()), 0, &[]);
        assert_eq!(server.sql("postgres", sprung).trim(), "f");
    }
    let restored = ["restore", "latest", "--into-postgres", &server.url("trap again")];
    expect(&desk.run_with(&env, &restored), 0, &["trap again restored"]);
    assert_eq!(server.sql("postgres", sprung).trim(), "f");
}

#[test]
fn an_interrupt_while_a_table_is_waited_for_ends_a_split_dump() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE locked");
    server.sql("locked", "CREATE TABLE large AS SELECT i, repeat('x', 100) AS pad FROM generate_series(1, 10000) i");
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            // Sizes can be asked for under this lock, and no table can be locked against it.
            let hold = "BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60); COMMIT";
            std::panic::catch_unwind(|| server.sql("locked", hold)).is_err()
        });
        let sleeping = "SELECT pid FROM pg_stat_activity WHERE datname = 'locked' AND query LIKE '%pg_sleep(60)%'
            AND wait_event = 'PgSleep'";
        until("it is locked", || !server.sql("postgres", sleeping).trim().is_empty());
        let url = server.url("locked");
        let child = desk.start(&env, &["backup", "--postgres", &url, "--jobs", "2", "--split-over", "10kB"]);
        until("it waits", || server.sql("postgres", "SELECT count(*) FROM pg_locks WHERE NOT granted").trim() != "0");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        expect(&child.wait_with_output().expect("ended").into(), 130, &["interrupted"]);
        let holding = server.sql("postgres", sleeping);
        server.sql("postgres", &format!("SELECT pg_terminate_backend({})", holding.trim()));
        assert!(holder.join().expect("joined"));
    });
}

#[test]
fn a_database_dropped_between_listing_and_dumping_fails_alone() {
    let Some(server) = PostgresServer::start() else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE first; CREATE DATABASE second");
    // The first is dumped while its table is locked; meanwhile the second goes.
    server.sql("first", "CREATE TABLE t AS SELECT 1 AS x");
    let holder = std::thread::scope(|scope| {
        let lock = scope.spawn(|| {
            let hold = "BEGIN; LOCK TABLE t; SELECT pg_sleep(60); COMMIT";
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.sql("first", hold))).is_err()
        });
        until("the table is locked", || {
            server.sql("first", "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'").trim() != "0"
        });
        let child = desk
            .start(&passfile(&server), &["backup", "--postgres", &server.url(""), "--all-databases", "--keep-partial"]);
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        until("the dump waits", || server.sql("first", waiting).trim() != "0");
        server.sql("postgres", "DROP DATABASE second");
        let release = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = 'first' AND query LIKE '%pg_sleep(60)%'";
        server.sql("postgres", release);
        assert!(lock.join().expect("no panic"), "it was held until then");
        child.wait_with_output().expect("ended")
    });
    expect(&holder.into(), 5, &["MISSING    postgres/second.dump", "database \"second\" does not exist", "INCOMPLETE"]);
    let snapshots = desk.snapshots();
    assert_eq!((snapshots.len(), &snapshots[0]["streams"]), (1, &3.into()));
}

#[test]
fn a_restore_that_fails_says_in_what_state_it_left_the_server() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.load("state", &fixture("postgres.sql"));
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("state")]), 0, &[]);
    let leftovers = "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_coffre\\_%'";

    // A role that may make databases and nothing else: owners and extensions fail.
    server.sql("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'maker'");
    let (url, password) = (server.url("made").replace("postgres@", "maker@"), [("PGPASSWORD", "maker")]);
    let strict = desk.run_with(&password, &["restore", "latest", "--into-postgres", &url, "--exit-on-error"]);
    expect(
        &strict,
        1,
        &["restoring /postgres/state.dump into made failed", "there is no database made, nothing was left behind"],
    );
    let mild = desk.run_with(&password, &["restore", "latest", "--into-postgres", &url]);
    expect(&mild, 3, &["made restored", "statements failed"]);
    // Each of them is told, with the statement.
    let again = url.replace("/made", "/told");
    let told = desk.run_with(&password, &["--json", "restore", "latest", "--into-postgres", &again]);
    let failed = summary(&told)["databases"][0]["failed_statements"].as_u64().expect("a number");
    let lines = mild.err.matches("could not execute query: ").count() as u64;
    assert!(failed > 3 && lines == failed.min(100), "{failed} failed, {lines} are told: {mild:?}");

    // What is missing takes rows with it: that is more than a statement that failed.
    server.sql("postgres", "CREATE DATABASE rows_lost");
    server.sql(
        "rows_lost",
        "CREATE FUNCTION size(int) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'int4abs';
        CREATE TABLE t (x int CHECK (size(x) > 0)); INSERT INTO t VALUES (1)",
    );
    let lost = server.url("rows_lost");
    for (more, said) in [
        (&[][..], "Command was: COPY public.t"),
        (&["--postgres-plain"][..], "permission denied for language internal"),
    ] {
        expect(&desk.run_with(&env, &[&["backup", "--postgres", &lost][..], more].concat()), 0, &[]);
        let restored =
            desk.run_with(&password, &["restore", "latest", "--into-postgres", &url.replace("made", "fewer")]);
        expect(&restored, 1, &[said, "there is no database fewer, nothing was left behind"]);
    }
    let plain = ["restore", "latest", "--into-postgres", &lost, "--no-owner", "--plan"];
    expect(&desk.run_with(&env, &plain), 1, &["OBSTACLE   rows_lost is a dump of SQL, which --no-owner cannot change"]);

    // Statistics that cannot be had, for a limit that the database sets itself, cost nothing that was restored; nor does a
    // session that cannot be ended.
    server.sql("postgres", "CREATE DATABASE mine OWNER maker; ALTER DATABASE mine SET statement_timeout = '1ms'");
    server.sql("postgres", "ALTER DATABASE mine SET default_transaction_read_only = on");
    let mine = server.url("mine").replace("postgres@", "maker@");
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("mine")]), 0, &[]);
    let session = std::thread::spawn(|| {
        let server = postgres::shared().expect("it is there");
        std::panic::catch_unwind(|| server.sql("mine", "SET statement_timeout = 0; SELECT pg_sleep(60)")).is_err()
    });
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND datname = 'mine'";
    until("it sleeps", || server.sql("postgres", sleeping).trim() != "0");
    let in_place = ["restore", "latest", "--into-postgres", &mine, "--in-place", "--confirm", "mine"];
    let kept = desk.run_with(&password, &in_place);
    expect(&kept, 1, &["superuser", "mine is untouched, and all that was restored is in mine_coffre_"]);
    assert_eq!(server.sql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'mine'").trim(), "t");
    let scratch = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'mine\\_coffre\\_%'");
    server.sql("postgres", &format!("DROP DATABASE {}", scratch.trim()));
    server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mine'");
    assert!(session.join().expect("joined"));
    expect(&desk.run_with(&password, &in_place), 0, &["mine restored"]);
    // What was not even begun is not half restored.
    server.sql("postgres", "CREATE ROLE nobody LOGIN PASSWORD 'maker'");
    let powerless = server.url("fresh").replace("postgres@", "nobody@");
    let refused = desk.run_with(&password, &["restore", "latest", "--into-postgres", &powerless]);
    expect(&refused, 1, &["the user may not create databases (CREATEDB)"]);
    server.sql("postgres", "CREATE DATABASE fresh_coffre_0123abcd");
    server.sql("postgres", "ALTER ROLE maker SET default_transaction_read_only = on");
    let planned = desk.run_with(&password, &["restore", "latest", "--into-postgres", &mine, "--plan"]);
    let told = ["OBSTACLE   sessions of the user are read-only", "OBSTACLE   mine exists"];
    expect(&planned, 1, &[&told[..], &["fresh_coffre_0123abcd was left behind"]].concat());
    server.sql("postgres", "ALTER ROLE maker RESET default_transaction_read_only");
    server.sql("postgres", "DROP DATABASE fresh_coffre_0123abcd");
    let foreign = server.url("state").replace("postgres@", "maker@");
    let planned = desk.run_with(&password, &["restore", "latest", "--into-postgres", &foreign, "--in-place", "--plan"]);
    expect(&planned, 1, &["OBSTACLE   the user does not own state, and may not rename it"]);
    let any = server.url("");
    let named =
        |name: &str| desk.run_with(&env, &["restore", "latest", "--into-postgres", &any, "--database", name, "--plan"]);
    expect(&named(&format!("mine={}", "n".repeat(64))), 1, &["is longer than the 63 bytes"]);
    expect(&named("mine="), 2, &["--database wants a name, or OLD=NEW"]);

    // Interrupted.
    let target = server.url("stopped");
    let state = format!("postgres://127.0.0.1:{}/state", server.port());
    let child = desk.start(&env, &["restore", "latest", "--path", &state, "--into-postgres", &target]);
    let begun = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'stopped\\_coffre\\_%'";
    until("it has begun", || server.sql("postgres", begun).trim() != "0");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let run = child.wait_with_output().expect("ended").into();
    expect(&run, 130, &["interrupted; there is no database stopped, nothing was left behind"]);
    assert_eq!(server.sql("postgres", leftovers).trim(), "0");

    lose_largest_pack(&desk);
    let run = desk.run_with(&env, &["restore", "latest", "--path", &state, "--into-postgres", &server.url("gone")]);
    expect(&run, 4, &["there is no database gone, nothing was left behind"]);
    assert_eq!(server.sql("postgres", leftovers).trim(), "0");

    let Some(server) = mariadb::shared() else { return };
    let url = |name: &str| mysql::url(server, name);
    let desk = Desk::with_repository();
    server.load("state", &fixture("mariadb.sql"));
    expect(&desk.run(&["backup", "--mysql", &url("state")]), 0, &[]);
    let before = server.fingerprint("state");
    lose_largest_pack(&desk);
    let made = desk.run(&["restore", "latest", "--into-mysql", &url("gone")]);
    expect(&made, 4, &["there is no database gone, nothing was left behind"]);
    assert!(!server.sql("", "SHOW DATABASES").contains("gone"));
    let replaced = desk.run(&["restore", "latest", "--into-mysql", &url("state"), "--in-place", "--confirm", "state"]);
    expect(&replaced, 4, &["state is untouched"]);
    assert_eq!(server.fingerprint("state"), before);
}

/// Removes the pack that holds most of what was stored.
fn lose_largest_pack(desk: &Desk) {
    let packs = std::fs::read_dir(desk.at("repository/packs")).expect("there").flat_map(|directory| {
        std::fs::read_dir(directory.expect("readable").path())
            .expect("readable")
            .map(|pack| pack.expect("readable").path())
    });
    let largest = packs.max_by_key(|pack| std::fs::metadata(pack).expect("there").len()).expect("one");
    std::fs::remove_file(largest).expect("removed");
}
