//! Settings of a server, or of what it runs when somebody connects, that would make a client leave something out.

use crate::databases::expect;
use crate::databases::mysql::url;
use crate::support::desk::Desk;
use crate::support::mariadb::MariaDbServer;

/// A server with a database `shop` and a user without rights to escape `init_connect`; returns the URL that it is reached by.
fn server() -> Option<(MariaDbServer, String)> {
    let server = MariaDbServer::start()?;
    server.sql(
        "",
        "CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop;
        CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(50) COMMENT '日本', KEY (v));
        INSERT INTO t (v) VALUES ('é'), ('日本'), ('🦀'), ('it''s \\\\'); CREATE TABLE u AS SELECT seq FROM seq_1_to_100;
        CREATE TABLE w AS SELECT 1 AS x; CREATE VIEW vw AS SELECT CONCAT('a', '日本') AS x; CREATE PROCEDURE p() SELECT '🦀';
        CREATE TABLE h (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; INSERT INTO h VALUES (1, 1), (2, 2);
        UPDATE h SET v = 3; DELETE FROM h WHERE id = 2;
        CREATE USER keeper@'%' IDENTIFIED BY 'x'; GRANT ALL ON shop.* TO keeper@'%'; GRANT ALL ON `back`.* TO keeper@'%';
        GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, SET USER ON *.* TO keeper@'%'",
    );
    let url = server.url("shop").replace("root@", "keeper:x@");
    Some((server, url))
}

#[test]
fn a_limit_of_rows_never_makes_a_dump_smaller() {
    let Some((server, shop)) = server() else { return };
    let desk = Desk::with_repository();
    let variables = [("SHOP", shop.as_str())];
    let backup = || desk.run_with(&variables, &["backup", "--mysql", "env:SHOP"]);
    let told = [
        "begins sessions with sql_select_limit = 2",
        "rows and tables would be missing",
        "hint: as an administrator: SET GLOBAL",
    ];
    for (set, undo) in [
        ("SET GLOBAL sql_select_limit = 2", "SET GLOBAL sql_select_limit = DEFAULT"),
        ("SET GLOBAL init_connect = 'SET sql_select_limit = 2'", "SET GLOBAL init_connect = ''"),
    ] {
        server.sql("", set);
        expect(&backup(), 5, &told);
        server.sql("", undo);
    }
    assert_eq!(desk.snapshot_count(), 0);
    // Who may escape it has a whole dump, and our own questions have no limit.
    server.sql("", "SET GLOBAL init_connect = 'SET sql_select_limit = 2'");
    let all = desk.run(&["backup", "--mysql", &url(&server, ""), "--all-databases"]);
    expect(&all, 0, &["2 streams"]);
    server.sql("", "CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE c; SET GLOBAL sql_select_limit = 2");
    let all = desk.run(&["backup", "--mysql", &url(&server, ""), "--all-databases", "--keep-partial"]);
    for name in ["a", "b", "c", "shop"] {
        assert!(all.err.contains(&format!("\n  mysql/{name}.sql\n")), "{name}: {all:?}");
    }
}

#[test]
fn odd_settings_of_a_server_touch_neither_a_dump_nor_a_restore() {
    let Some((server, shop)) = server() else { return };
    let desk = Desk::with_repository();
    let back = shop.replace("/shop", "/back");
    let variables = [("SHOP", shop.as_str()), ("BACK", back.as_str())];
    let fingerprint = server.fingerprint("shop");
    for (set, undo) in [
        ("SET GLOBAL init_connect = 'SET NAMES latin1'", "SET GLOBAL init_connect = ''"),
        (
            "SET GLOBAL init_connect = 'SET sql_mode = ''ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'', time_zone = \
                ''+05:00'', autocommit = 0, character_set_results = latin1, sql_safe_updates = 1, max_error_count = 0'",
            "SET GLOBAL init_connect = ''",
        ),
        (
            "SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES', GLOBAL system_versioning_asof = '2001-01-01 00:00:00',
                GLOBAL max_statement_time = 0.05, GLOBAL lock_wait_timeout = 1, GLOBAL wait_timeout = 2, GLOBAL autocommit = 0,
                GLOBAL group_concat_max_len = 4, GLOBAL sql_quote_show_create = 0, GLOBAL sql_safe_updates = 1",
            "SET GLOBAL sql_mode = DEFAULT, GLOBAL system_versioning_asof = DEFAULT, GLOBAL max_statement_time = 0,
                GLOBAL lock_wait_timeout = DEFAULT, GLOBAL wait_timeout = DEFAULT, GLOBAL autocommit = 1,
                GLOBAL group_concat_max_len = DEFAULT, GLOBAL sql_quote_show_create = 1, GLOBAL sql_safe_updates = 0",
        ),
    ] {
        server.sql("", set);
        expect(&desk.run_with(&variables, &["backup", "--mysql", "env:SHOP"]), 0, &["1 stream"]);
        let restored = desk.run_with(&variables, &["restore", "latest", "--into-mysql", "env:BACK"]);
        server.sql("", undo);
        expect(&restored, 0, &["back restored"]);
        assert_eq!(server.fingerprint("back"), fingerprint, "{set}");
        let history = "SELECT COUNT(*) FROM h FOR SYSTEM_TIME ALL";
        assert_eq!(server.sql("back", history), server.sql("shop", history), "{set}");
        server.sql("", "DROP DATABASE back");
    }
}
