//! Replacing a database of MariaDB: what was there is dropped only when what replaces it can be made.

use crate::databases::expect;
use crate::databases::mysql::url;
use crate::support::desk::Desk;
use crate::support::mariadb;

#[test]
fn what_cannot_be_made_replaces_nothing() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE once; CREATE TABLE once.t AS SELECT 1 AS x; CREATE DATABASE tried");
    server.sql("tried", "CREATE TABLE t AS SELECT 7 AS x; CREATE VIEW v AS SELECT x FROM once.t");
    expect(&desk.run(&["backup", "--mysql", &url(server, "tried")]), 0, &[]);
    server.sql("", "DROP DATABASE once");
    let in_place = ["restore", "latest", "--into-mysql", &url(server, "tried"), "--in-place", "--confirm", "tried"];
    expect(&desk.run(&in_place), 1, &["ERROR 1146", "tried is untouched"]);
    assert_eq!(server.sql("tried", "SELECT x FROM t"), "7\n");
    let passing = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'tried\\_coffre\\_%'";
    assert_eq!(server.sql("", passing), "0\n");
    // With what it needs it does.
    server.sql("", "CREATE DATABASE once; CREATE TABLE once.t AS SELECT 1 AS x; INSERT INTO tried.t VALUES (8)");
    expect(&desk.run(&in_place), 0, &["tried restored"]);
    assert_eq!(server.sql("tried", "SELECT x FROM t; SELECT x FROM v"), "7\n1\n");
}

#[test]
fn a_table_that_the_server_let_be_made_once_comes_back() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    let columns: String = (1..198).map(|number| format!("c{number} CHAR(60) NOT NULL, ")).collect();
    server.sql("", "CREATE DATABASE wide");
    server.sql(
        "wide",
        &format!(
            "SET SESSION innodb_strict_mode = 0;
            CREATE TABLE wide ({columns} id INT PRIMARY KEY) CHARACTER SET latin1 ROW_FORMAT=COMPACT;
            CREATE TABLE t AS SELECT 1 AS x; CREATE EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01' DO DELETE FROM t"
        ),
    );
    let fingerprint = server.fingerprint("wide");
    expect(&desk.run(&["backup", "--mysql", &url(server, "wide")]), 0, &[]);
    let in_place = ["restore", "latest", "--into-mysql", &url(server, "wide"), "--in-place", "--confirm", "wide"];
    expect(&desk.run(&in_place), 0, &["wide restored"]);
    assert_eq!(server.fingerprint("wide"), fingerprint);
}
