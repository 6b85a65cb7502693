//! Copies: what comes back as something else, and what of a copy is not its own, is told.

use crate::databases::mysql::url;
use crate::databases::{expect, summary};
use crate::support::desk::Desk;
use crate::support::mariadb;

#[test]
fn what_in_a_copy_uses_the_original_is_named() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE namesake");
    server.sql(
        "namesake",
        "CREATE TABLE t (id INT PRIMARY KEY, v INT); CREATE SEQUENCE s;
        CREATE TABLE counted (id INT DEFAULT (NEXTVAL(s)), x INT);
        DELIMITER //
        CREATE FUNCTION own(a INT) RETURNS INT READS SQL DATA RETURN a + (SELECT COUNT(*) FROM t) //
        CREATE FUNCTION foreign_sum() RETURNS INT READS SQL DATA RETURN (SELECT SUM(v) FROM namesake.t) //
        CREATE TRIGGER own_trigger AFTER INSERT ON t FOR EACH ROW SET @x = own(1) //
        CREATE TRIGGER foreign_trigger AFTER DELETE ON t FOR EACH ROW DELETE FROM namesake . counted //
        CREATE EVENT foreign_event ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01' DO DELETE FROM `namesake`.t //
        DELIMITER ;
        CREATE VIEW own_view AS SELECT id, own(v) AS x FROM t;
        CREATE VIEW by_alias AS SELECT namesake.id FROM t AS namesake",
    );
    expect(&desk.run(&["backup", "--mysql", &url(server, "namesake")]), 0, &[]);
    let restored = desk.run(&["--json", "restore", "latest", "--into-mysql", &url(server, "the copy")]);
    let named = "these use namesake, from which it was dumped, and not the copy: ";
    expect(&restored, 3, &[named]);
    let expected = ["routine foreign_sum", "trigger foreign_trigger", "event foreign_event", "default of counted.id"];
    assert_eq!(summary(&restored)["databases"][0]["uses_original"], serde_json::json!(expected));
    // Under its own name it uses itself.
    let in_place =
        ["restore", "latest", "--into-mysql", &url(server, "namesake"), "--in-place", "--confirm", "namesake"];
    expect(&desk.run(&in_place), 0, &["namesake restored"]);
}

#[test]
fn columns_that_a_dump_of_sql_changes_are_named_and_so_are_the_changes() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE changed CHARACTER SET utf8mb4");
    server.sql(
        "changed",
        "CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a', '🦀'), s SET('b', '🐘'), v VARCHAR(9) DEFAULT '🦀' COMMENT '🐘',
            honest ENUM('?', 'x'), plain VARCHAR(9) DEFAULT 'why?', said VARCHAR(9) DEFAULT CONCAT('🦀', '?'));
        INSERT INTO t VALUES (1, '🦀', '🐘', '🦀', '?', '🦀', '🦀'), (2, 'a', 'b', 'x', 'x', 'y', 'z');
        CREATE TABLE unused (e ENUM('a', '🦀'))",
    );
    let backup = desk.run(&["--json", "backup", "--mysql", &url(server, "changed")]);
    expect(&backup, 3, &["a dump of SQL does not carry these columns as they are"]);
    let told = desk.facts("mysql/changed.sql")["facts"]["changed_by_sql"].as_str().expect("a text").to_owned();
    let columns: Vec<&str> = told.split("; ").filter_map(|part| part.split(' ').next()).collect();
    assert_eq!(columns, ["t.e", "t.s", "t.v", "unused.e"], "{told}");
    assert_eq!(summary(&backup)["suspicious"][0]["stream"], "mysql/changed.sql");

    let restored = desk.run(&["--json", "restore", "latest", "--into-mysql", &url(server, "changed back")]);
    expect(&restored, 3, &["the server changed what it was given"]);
    let changes = ["t: Data truncated for column 'e'", "t: Data truncated for column 's'"];
    assert_eq!(summary(&restored)["databases"][0]["changes"], serde_json::json!(changes));
    let not_carried = summary(&restored)["databases"][0]["not_carried"].as_array().expect("an array").len();
    assert_eq!(not_carried, columns.len(), "{restored:?}");
    let rows = "SELECT id, e, s, v, honest, plain, said FROM t ORDER BY id";
    assert_eq!(server.sql("changed back", rows), "1\t\t\t🦀\t?\t🦀\t🦀\n2\ta\tb\tx\tx\ty\tz\n");

    // Without such members all is as it was; that a table went is meant.
    server.sql("changed", "ALTER TABLE t DROP e, DROP s, MODIFY v VARCHAR(9) DEFAULT 'x'; DROP TABLE unused");
    expect(&desk.run(&["backup", "--accept-anomalies", "--mysql", &url(server, "changed")]), 0, &[]);
    assert!(desk.facts("mysql/changed.sql")["facts"]["changed_by_sql"].is_null());
    let again =
        ["restore", "latest", "--into-mysql", &url(server, "changed back"), "--in-place", "--confirm", "changed back"];
    expect(&desk.run(&again), 0, &["changed back restored"]);
    assert_eq!(server.fingerprint("changed back"), server.fingerprint("changed"));
}
