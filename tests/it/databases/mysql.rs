//! MariaDB there and back.

use crate::databases::{expect, fixture, until};
use crate::support::desk::Desk;
use crate::support::mariadb::{self, MariaDbServer};

/// A URL with which clients find the password.
fn url(server: &MariaDbServer, database: &str) -> String {
    format!("{}?option-file={}", server.url(database), server.option_file().display())
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
    for name in
        ["server_version", "client_version", "database_bytes", "rows_estimate", "binlog_file", "binlog_position"]
    {
        assert!(facts[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {facts}");
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
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'db9', USER 'joe')",
    );
    let backup = desk.run(&["backup", "--mysql", &url(&server, ""), "--all-databases", "--jobs", "2"]);
    expect(&backup, 0, &["3 streams"]);

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
    expect(&restored, 0, &["first restored", "odd `name=/ restored"]);
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
    let with_password = |password: &str| server.url("logins").replacen("root@", &format!("root:{password}@"), 1);
    let refused = desk.run(&["backup", "--mysql", &with_password("geheim")]);
    expect(&refused, 2, &["every user of this machine can read a password on the command line"]);
    assert!(!refused.err.contains("geheim"), "{refused:?}");

    let encoded: String = server.password().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let variable = [("SHOP_URL", with_password(&encoded))];
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
    let run = child.wait_with_output().expect("ended").into();
    expect(&run, 1, &["restoring copy failed", "there is no database copy, nothing was left behind"]);
    assert!(!server.sql("", "SHOW DATABASES").contains("copy"));
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
fn a_dump_from_a_hostile_server_runs_no_programs() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE hostile; CREATE TABLE hostile.t AS SELECT 1 AS x");
    // What a server could send that answers with more than names.
    let programs = desk.at("programs");
    std::fs::create_dir(&programs).expect("made");
    let proof = desk.at("proof");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*|*--help*|*--print-defaults*) exec mariadb-dump \"$@\";; esac\n\
         printf '%s\\n' 'CREATE TABLE t (x INT);' '\\! touch {0}' 'system touch {0}' 'SELECT 1; \\! touch {0}' \\\n\
         '-- Dump completed'\n",
        proof.display()
    );
    std::fs::write(programs.join("mariadb-dump"), script).expect("written");
    let real = std::process::Command::new("sh").args(["-c", "command -v mariadb"]).output().expect("runs").stdout;
    std::os::unix::fs::symlink(String::from_utf8(real).expect("a path").trim(), programs.join("mariadb"))
        .expect("linked");
    std::fs::set_permissions(programs.join("mariadb-dump"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("set");
    let bin = [("COFFRE_MYSQL_BIN", programs.to_str().expect("plain"))];
    expect(&desk.run_with(&bin, &["backup", "--mysql", &url(server, "hostile")]), 0, &[]);
    let restored = desk.run(&["restore", "latest", "--into-mysql", &url(server, "hostile again")]);
    expect(&restored, 1, &["restoring hostile again failed", "nothing was left behind"]);
    assert!(!proof.exists(), "a command of the dump was run");
}
