//! MariaDB there and back.

use crate::databases::{expect, fixture, until};
use crate::support::desk::{Desk, Run};
use crate::support::mariadb::{self, MariaDbServer};

/// A URL with which clients find the password.
pub(super) fn url(server: &MariaDbServer, database: &str) -> String {
    format!("{}?option-file={}", server.url(database), server.option_file().display())
}

/// A URL with the password in it, for a variable.
pub(super) fn url_with_password(server: &MariaDbServer, database: &str) -> String {
    let encoded: String = server.password().bytes().map(|byte| format!("%{byte:02x}")).collect();
    server.url(database).replacen("root@", &format!("root:{encoded}@"), 1)
}

#[test]
fn a_database_comes_back_as_it_was() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.load("there", &fixture("mariadb.sql"));
    let backup = desk.run(&["backup", "--mysql", &url(server, "there")]);
    let told = [
        "their engine has no transactions: crash_safe, flat",
        "six digits only",
        "corners.approximate, items.approximate",
    ];
    expect(&backup, 0, &[&["1 stream"][..], &told].concat());

    let stream = desk.facts("mysql/there.sql");
    let facts = &stream["facts"];
    for name in ["server_version", "client_version", "binlog_file", "gtids"] {
        assert!(facts[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {facts}");
    }
    for name in ["database_bytes", "rows_estimate", "binlog_position"] {
        assert!(facts[name].as_u64().is_some_and(|number| number > 0), "{name}: {facts}");
    }
    assert_eq!(facts["checked"], "ends with \"-- Dump completed\"");
    assert!(!stream["command"].to_string().contains(server.password()));

    let target = url(server, "back");
    expect(&desk.run(&["restore", "latest", "--into-mysql", &target, "--plan"]), 0, &["back", "nothing was changed"]);
    let restored = desk.run(&["restore", "latest", "--into-mysql", &target, "--exit-on-error"]);
    expect(&restored, 0, &["back restored"]);
    assert_eq!(server.fingerprint("back"), server.fingerprint("there"));
    let versions = "SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'there' AND table_type = 'SYSTEM VERSIONED'";
    let versioned = server.sql("there", versions);
    let versioned = versioned.lines().next().expect("the fixture has one");
    let history = format!("SELECT COUNT(*) FROM `{versioned}` FOR SYSTEM_TIME ALL");
    assert_eq!(server.sql("back", &history), server.sql("there", &history), "rows of the past");

    let again = desk.run(&["restore", "latest", "--into-mysql", &target]);
    expect(&again, 1, &["error: back exists"]);
    server.sql("back", "CREATE TABLE too_much (x INT)");
    let in_place = desk.run(&["restore", "latest", "--into-mysql", &target, "--in-place", "--confirm", "back"]);
    expect(&in_place, 0, &["back restored"]);
    assert_eq!(server.fingerprint("back"), server.fingerprint("there"));
}

#[test]
fn all_databases_come_with_their_users() {
    let Some(server) = MariaDbServer::start() else { return };
    let desk = Desk::with_repository();
    server.load("first", &fixture("mariadb.sql"));
    server.sql(
        "",
        "CREATE DATABASE `odd ``name=/` CHARACTER SET latin1 COLLATE latin1_german1_ci; USE `odd ``name=/`;
        CREATE TABLE t AS SELECT seq FROM seq_1_to_100;
        CREATE USER clerk@localhost IDENTIFIED BY 'x'; GRANT SELECT ON first.* TO clerk@localhost;
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'db9', USER 'joe');
        CREATE DATABASE aaa COMMENT 'it''s a \\\\ comment'; CREATE VIEW aaa.v AS SELECT seq FROM `odd ``name=/`.t;
        CREATE DATABASE `two\nlines`; CREATE DATABASE Odd CHARACTER SET latin2; CREATE DATABASE odd CHARACTER SET cp1251;
        GRANT SELECT ON first.* TO PUBLIC; SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'",
    );
    let backup = desk.run(&["backup", "--mysql", &url(&server, ""), "--all-databases", "--jobs", "2"]);
    expect(&backup, 0, &["7 streams", "what is granted to everybody: GRANT SELECT ON `first`.* TO PUBLIC"]);

    server.sql("", "SET GLOBAL sql_mode = DEFAULT");

    let Some(other) = MariaDbServer::start() else { return };
    let target = url(&other, "");
    let users = desk.run(&["restore", "latest", "--into-mysql", &target, "--globals"]);
    assert!(users.code == 0 || users.code == 3, "{users:?}");
    // The one we connect as has the password now that it has there.
    std::fs::copy(server.option_file(), other.option_file()).expect("copied");
    let grants = "SHOW GRANTS FOR clerk@localhost";
    assert_eq!(other.sql("", grants), server.sql("", grants));
    assert_eq!(other.sql("", "SELECT host FROM mysql.servers WHERE server_name = 'elsewhere'").trim(), "db9");
    let restored = desk.run(&["restore", "latest", "--into-mysql", &target, "--all-databases", "--exit-on-error"]);
    // One database has a view of another that comes after it.
    expect(&restored, 1, &["aaa NOT RESTORED", "not begun"]);
    other.sql("", "DROP DATABASE Odd");
    let restored = desk.run(&["restore", "latest", "--into-mysql", &target, "--all-databases"]);
    expect(&restored, 0, &["first restored", "odd `name=/ restored", "aaa restored", "lines restored"]);
    let comment = "SELECT schema_comment FROM information_schema.schemata WHERE schema_name = 'aaa'";
    assert_eq!(other.sql("", comment), server.sql("", comment));
    let sets = "SELECT schema_name, default_character_set_name FROM information_schema.schemata
        WHERE schema_name = 'odd' ORDER BY BINARY schema_name";
    assert_eq!(other.sql("", sets), "Odd\tlatin2\nodd\tcp1251\n");
    for name in ["first", "odd `name=/"] {
        assert_eq!(other.fingerprint(name), server.fingerprint(name), "{name}");
    }
    let collation = "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'odd `name=/'";
    assert_eq!(other.sql("", collation).trim(), "latin1_german1_ci");
}

#[test]
fn the_password_comes_from_a_variable_or_a_credential_and_never_from_an_argument() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE logins; CREATE TABLE logins.t AS SELECT 1 AS x");
    let refused = desk.run(&["backup", "--mysql", &server.url("logins").replacen("root@", "root:geheim@", 1)]);
    expect(&refused, 2, &["every user of this machine can read a password on the command line"]);
    assert!(!refused.err.contains("geheim"), "{refused:?}");

    let variable = [("SHOP_URL", url_with_password(server, "logins"))];
    let variable: Vec<(&str, &str)> = variable.iter().map(|(name, value)| (*name, value.as_str())).collect();
    expect(&desk.run_with(&variable, &["backup", "--mysql", "env:SHOP_URL"]), 0, &["1 stream"]);

    std::fs::write(desk.at("coffre-mysql-password"), format!("{}\n", server.password())).expect("written");
    let credentials = [("CREDENTIALS_DIRECTORY", desk.directory.path().to_str().expect("plain"))];
    expect(&desk.run_with(&credentials, &["backup", "--mysql", &server.url("logins")]), 0, &["1 stream"]);
}

#[test]
fn a_restore_whose_connection_is_lost_is_never_called_restored() {
    let Some(server) = MariaDbServer::start() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE DATABASE big; USE big; CREATE TABLE t AS SELECT seq, REPEAT(MD5(seq), 30) AS pad FROM seq_1_to_200000",
    );
    expect(&desk.run(&["backup", "--mysql", &url(&server, "big")]), 0, &[]);
    let child = desk.start(&[], &["restore", "latest", "--into-mysql", &url(&server, "copy")]);
    let filling = "SELECT id FROM information_schema.processlist WHERE db = 'copy' AND info LIKE 'INSERT%'";
    let mut connection = String::new();
    until("the table is filled", || {
        connection = server.sql("", filling).trim().to_owned();
        !connection.is_empty()
    });
    server.sql("", &format!("KILL {connection}"));
    let run: Run = child.wait_with_output().expect("ended").into();
    expect(&run, 1, &["restoring copy failed", "there is no database copy, nothing was left behind", "    ERROR 20"]);
    // Rows are not for messages.
    assert!(!run.err.contains("INSERT INTO"), "{run:?}");
    assert!(!server.sql("", "SHOW DATABASES").contains("copy"));

    // One that is killed cannot clean up; what it left says so.
    let mut child = desk.start(&[], &["restore", "latest", "--into-mysql", &url(&server, "copy")]);
    until("the table is filled", || !server.sql("", filling).trim().is_empty());
    child.kill().expect("it runs");
    child.wait().expect("reaped");
    until("its client is gone", || server.sql("", filling).trim().is_empty());
    let plan = desk.run(&["restore", "latest", "--into-mysql", &url(&server, "copy"), "--plan"]);
    expect(&plan, 1, &["OBSTACLE   copy exists", "note       copy is not complete: a restore into it was killed"]);
    let again = ["restore", "latest", "--into-mysql", &url(&server, "copy"), "--in-place", "--confirm", "copy"];
    expect(&desk.run(&again), 0, &["copy restored"]);
    let comment = "SELECT schema_comment FROM information_schema.schemata WHERE schema_name = 'copy'";
    assert_eq!(server.sql("", comment).trim(), "");
}

#[test]
fn a_table_whose_default_counts_in_a_sequence_comes_back_with_its_rows() {
    let Some(server) = MariaDbServer::start() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE DATABASE counted; USE counted; CREATE SEQUENCE s;
        CREATE TABLE t (id INT DEFAULT (NEXTVAL(s)), x INT); INSERT INTO t (x) VALUES (1), (2), (3)",
    );
    expect(&desk.run(&["backup", "--mysql", &url(&server, "counted")]), 0, &[]);
    server.sql("", "DROP DATABASE counted");
    expect(&desk.run(&["restore", "latest", "--into-mysql", &url(&server, "counted")]), 0, &["counted restored"]);
    assert_eq!(server.sql("counted", "SELECT SUM(id), COUNT(*) FROM t").trim(), "6\t3");
}

#[test]
fn routines_come_back_with_the_line_ends_that_they_have() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE lines_there");
    server.sql(
        "lines_there",
        "DELIMITER //\nCREATE PROCEDURE p()\r\nBEGIN\r\n  SELECT 'a\r\nb';\nEND //\n\
         CREATE TABLE t (x TEXT) //\nCREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW\r\nBEGIN\r\n  SET @a = 1;\r\nEND //\n\
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN\r\n  SET @a = 1;\r\nEND //\n",
    );
    expect(&desk.run(&["backup", "--mysql", &url(server, "lines_there")]), 0, &[]);
    expect(&desk.run(&["restore", "latest", "--into-mysql", &url(server, "lines_back")]), 0, &[]);
    let bodies = |database: &str| {
        let text = format!(
            "SELECT HEX(routine_definition) FROM information_schema.routines WHERE routine_schema = '{database}';
             SELECT HEX(action_statement) FROM information_schema.triggers WHERE trigger_schema = '{database}';
             SELECT HEX(event_definition) FROM information_schema.events WHERE event_schema = '{database}'"
        );
        server.sql("", &text)
    };
    assert_eq!(bodies("lines_there").matches("0D0A").count(), 5, "{}", bodies("lines_there"));
    assert_eq!(bodies("lines_back"), bodies("lines_there"));
}

#[test]
fn the_programs_of_mariadb_alone_restore_a_dump_as_the_kit_says() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE `by hand` CHARACTER SET latin1 COLLATE latin1_german1_ci");
    server.sql(
        "by hand",
        "DELIMITER //\nCREATE PROCEDURE p()\r\nBEGIN\r\n  SELECT 'a\r\nb';\nEND //\nCREATE TABLE t AS SELECT 1 AS x //",
    );
    let fingerprint = server.fingerprint("by hand");
    let bodies = "SELECT HEX(routine_definition) FROM information_schema.routines WHERE routine_schema = 'by hand';
        SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'by hand'";
    let before = server.sql("", bodies);
    expect(&desk.run(&["backup", "--mysql", &url(server, "by hand")]), 0, &["1 stream"]);
    server.sql("", "DROP DATABASE `by hand`");
    let page = desk.run(&["kit"]).out;
    let at = page.find("A dump that stands there as a file").expect("told");
    let lines = page[at..].lines().skip_while(|line| !line.starts_with("     "));
    let typed: String = lines.map_while(|line| line.strip_prefix("     ")).flat_map(|line| [line, "\n"]).collect();
    let reached = format!(
        "--defaults-file={} --protocol=tcp --host=127.0.0.1 --port={} --user",
        server.option_file().display(),
        server.port()
    );
    let script = format!("set -e\n{}", typed.replace("--password", "").replace("--user", &reached));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_coffre")).parent().expect("in a directory").display();
    let path = format!("{program}:{}", std::env::var("PATH").expect("set"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(desk.directory.path()).env_clear();
    shell.envs(desk.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
    let run: Run = shell.stdin(std::process::Stdio::null()).output().expect("runs").into();
    expect(&run, 0, &[]);
    assert_eq!(server.sql("", bodies), before, "{script}");
    assert_eq!(server.fingerprint("by hand"), fingerprint);
}

#[test]
fn a_dump_from_a_hostile_server_runs_no_programs() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE hostile; CREATE TABLE hostile.t AS SELECT 1 AS x");
    let proof = desk.at("proof");
    let lines = ["CREATE TABLE t (x INT);", "\\! touch PROOF", "system touch PROOF", "SELECT 1; \\! touch PROOF"];
    let lines = lines.map(|line| line.replace("PROOF", proof.to_str().expect("plain")));
    let programs = dump_program(&desk, &lines.each_ref().map(String::as_str));
    let bin = [("COFFRE_MYSQL_BIN", programs.to_str().expect("plain"))];
    expect(&desk.run_with(&bin, &["backup", "--mysql", &url(server, "hostile")]), 0, &[]);
    let restored = desk.run(&["restore", "latest", "--into-mysql", &url(server, "hostile again")]);
    expect(&restored, 1, &["restoring hostile again failed", "nothing was left behind"]);
    assert!(!proof.exists(), "a command of the dump was run");
}

#[test]
fn under_another_name_nothing_is_done_to_the_original() {
    let Some(server) = MariaDbServer::start() else { return };
    let desk = Desk::with_repository();
    // The routine knows the character set of then, which a dump brings back around it, by the name of the database.
    server.sql("", "CREATE DATABASE original CHARACTER SET utf8mb4");
    server.sql(
        "original",
        "CREATE TABLE t AS SELECT 1 AS x; CREATE PROCEDURE p() SELECT 1;
        CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1; ALTER DATABASE original CHARACTER SET cp1251",
    );
    expect(&desk.run(&["backup", "--mysql", &url(&server, "original")]), 0, &[]);
    server.sql("", "ALTER DATABASE original CHARACTER SET latin2");
    let restore = ["restore", "latest", "--into-mysql", &url(&server, "copy")];
    expect(&desk.run(&restore), 0, &["copy restored"]);
    let sets = "SELECT schema_name, default_character_set_name FROM information_schema.schemata
        WHERE schema_name IN ('original', 'copy') ORDER BY 1";
    assert_eq!(server.sql("", sets), "copy\tcp1251\noriginal\tlatin2\n");
    server.sql("", "DROP DATABASE original; DROP DATABASE copy");
    expect(&desk.run(&restore), 0, &["copy restored"]);
    assert_eq!(server.sql("", sets), "copy\tcp1251\n");
}

#[test]
fn a_row_that_the_server_would_not_take_is_known_before() {
    let Some(server) = MariaDbServer::start() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE DATABASE wide; CREATE TABLE wide.t (x LONGBLOB); INSERT INTO wide.t VALUES (REPEAT('x', 2000000))",
    );
    expect(&desk.run(&["backup", "--mysql", &url(&server, "wide")]), 0, &["1 stream"]);
    server.sql("", "SET GLOBAL max_allowed_packet = 3 * 1024 * 1024");
    let told = desk.run(&["backup", "--mysql", &url(&server, "wide")]);
    expect(&told, 0, &["a row takes 40000", "it can only be restored where max_allowed_packet is larger"]);
    let in_place = ["restore", "latest", "--into-mysql", &url(&server, "wide"), "--in-place", "--confirm", "wide"];
    expect(&desk.run(&in_place), 1, &["a row of wide takes 40000", "raise max_allowed_packet"]);
    assert_eq!(server.sql("wide", "SELECT LENGTH(x) FROM t").trim(), "2000000");
}

#[test]
fn an_interrupt_while_the_old_database_is_waited_for_leaves_it() {
    let Some(server) = MariaDbServer::start() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE busy; USE busy; CREATE TABLE t AS SELECT seq FROM seq_1_to_100");
    expect(&desk.run(&["backup", "--mysql", &url(&server, "busy")]), 0, &[]);
    std::thread::scope(|scope| {
        let session = scope.spawn(|| server.sql("busy", "BEGIN; SELECT COUNT(*) FROM t; SELECT SLEEP(6); COMMIT"));
        let count = |what: &str| {
            let text = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{what}'");
            server.sql("", &text).trim().to_owned()
        };
        until("somebody reads", || count("SELECT SLEEP%") == "1");
        let child = desk.start(
            &[],
            &["restore", "latest", "--into-mysql", &url(&server, "busy"), "--in-place", "--confirm", "busy"],
        );
        until("it waits", || count("DROP DATABASE%") == "1");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        expect(&child.wait_with_output().expect("ended").into(), 130, &["interrupted; busy is untouched"]);
        session.join().expect("no panic");
        until("nobody drops", || count("DROP DATABASE%") == "0");
    });
    assert_eq!(server.sql("busy", "SELECT COUNT(*) FROM t").trim(), "100");
}

#[test]
fn a_dump_that_lacks_the_rows_of_a_table_is_refused() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE rowless; CREATE TABLE rowless.t AS SELECT 1 AS x");
    // What it writes when triggers are made anew at the wrong moment, with status 0.
    let lines = ["-- Table structure for table `t`", "CREATE TABLE `t` (", ") ENGINE=InnoDB;"];
    let programs = dump_program(&desk, &lines);
    let bin = [("COFFRE_MYSQL_BIN", programs.to_str().expect("plain"))];
    let run = desk.run_with(&bin, &["backup", "--mysql", &url(server, "rowless")]);
    expect(&run, 5, &["has no rows of table `t`", "hint: run it again"]);
    assert_eq!(desk.snapshot_count(), 0);
}

/// Makes a directory of programs in which the dump program writes these lines and the mark of completion.
fn dump_program(desk: &Desk, lines: &[&str]) -> std::path::PathBuf {
    let quoted: Vec<String> = lines.iter().map(|line| format!("'{line}'")).collect();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*|*--help*|*--print-defaults*) exec mariadb-dump \"$@\";; esac\n\
         printf '%s\\n' {} '-- Dump completed'\n",
        quoted.join(" ")
    );
    desk.programs(&[("mariadb-dump", &script)], "mariadb")
}
