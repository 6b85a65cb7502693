//! Oracle's MySQL, which `tests/all` does not install: a server that runs already, and may be changed in every way.
//!
//! `COFFRE_TEST_MYSQL` is its URL, of a user who may do everything and needs no password (`mysql://root@127.0.0.1:3306`);
//! `COFFRE_TEST_MYSQL_BIN` is the directory of MySQL's own `mysql` and `mysqldump`. Without them these tests say that they are skipped.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::databases::{expect, summary};
use crate::support::daemon::run;
use crate::support::desk::{Desk, Run};

/// The server, for one test at a time: they change what holds for all sessions.
struct Server {
    url: String,
    programs: String,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    fn get() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let (Ok(url), Ok(programs)) = (std::env::var("COFFRE_TEST_MYSQL"), std::env::var("COFFRE_TEST_MYSQL_BIN"))
        else {
            eprintln!("skipped: COFFRE_TEST_MYSQL and COFFRE_TEST_MYSQL_BIN name no MySQL server and its programs");
            return None;
        };
        Some(Self { url, programs, _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) })
    }

    fn at(&self, database: &str) -> String {
        format!("{}/{database}", self.url.trim_end_matches('/'))
    }

    /// Runs statements and returns what they print.
    fn sql(&self, database: &str, statements: &str) -> String {
        let port = self.url.rsplit(':').next().expect("a URL with a port").trim_end_matches('/');
        let mut client = Command::new(format!("{}/mysql", self.programs));
        client.args(["--no-defaults", "--host=127.0.0.1", "--user=root", "--batch", "--raw", "--skip-column-names"]);
        client.args(["--default-character-set=utf8mb4", &format!("--port={port}"), &format!("--database={database}")]);
        run(&mut client, statements.as_bytes())
    }

    /// Makes a database of this name anew, and drops the copies of it.
    fn make(&self, database: &str, statements: &str) {
        self.sql("", &format!("DROP DATABASE IF EXISTS {database}; DROP DATABASE IF EXISTS {database}_back"));
        self.sql("", &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"));
        self.sql(database, statements);
    }

    /// Runs coffre with MySQL's own programs.
    fn coffre(&self, desk: &Desk, arguments: &[&str]) -> Run {
        desk.run_with(&[("COFFRE_MYSQL_BIN", &self.programs)], arguments)
    }

    fn backup(&self, desk: &Desk, database: &str) -> Run {
        self.coffre(
            desk,
            &["--json", "backup", "--shrink-limit", "0", "--tables-limit", "0", "--mysql", &self.at(database)],
        )
    }

    fn restore(&self, desk: &Desk, database: &str) -> Run {
        self.coffre(desk, &["--json", "restore", "latest", "--into-mysql", &self.at(&format!("{database}_back"))])
    }
}

#[test]
fn limits_and_hidden_keys_of_a_mysql_server_touch_no_dump() {
    let Some(server) = Server::get() else { return };
    let desk = Desk::with_repository();
    server.make(
        "limited",
        "SET sql_generate_invisible_primary_key = 1; CREATE TABLE hidden (a INT); INSERT INTO hidden VALUES (5), (6), (7);
        CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT); INSERT INTO t (v) VALUES (UUID()), (UUID()), (UUID());
        INSERT INTO t (v) SELECT a.v FROM t a, t b, t c, t d, t e, t f, t g, t h, t i; CREATE TABLE u AS SELECT 1 AS x",
    );
    let state = "SELECT my_row_id, a FROM hidden ORDER BY 1; SELECT COUNT(*), SUM(CRC32(v)) FROM t; SELECT x FROM u";
    let expected = server.sql("limited", state);
    for (set, undo) in [
        ("sql_select_limit = 2", "sql_select_limit = DEFAULT"),
        ("init_connect = 'SET sql_select_limit = 2'", "init_connect = ''"),
        (
            "show_gipk_in_create_table_and_information_schema = OFF",
            "show_gipk_in_create_table_and_information_schema = ON",
        ),
        ("max_execution_time = 5", "max_execution_time = 0"),
    ] {
        server.sql(
            "",
            &format!("CREATE USER IF NOT EXISTS keeper@'%'; GRANT ALL ON *.* TO keeper@'%'; SET GLOBAL {set}"),
        );
        let url = server.at("limited").replace("root@", "keeper@");
        let backup = server.coffre(&desk, &["backup", "--mysql", &url]);
        // MariaDB's programs cannot set what they rely on.
        let by_mariadb = desk.run(&["backup", "--mysql", &url, "--job", "mariadb"]);
        server.sql("", &format!("SET GLOBAL {undo}"));
        expect(&backup, 0, &["1 stream"]);
        if !set.starts_with("init_connect") {
            expect(&by_mariadb, 5, &["begins sessions with ", set.split(' ').next().expect("a name")]);
        }
        let restore = ["restore", "latest", "--job", "", "--into-mysql", &server.at("limited_back")];
        expect(&server.coffre(&desk, &restore), 0, &["limited_back restored"]);
        assert_eq!(server.sql("limited_back", state), expected, "{set}");
        server.sql("", "DROP DATABASE limited_back");
    }
}

#[test]
fn what_sql_does_not_carry_of_json_and_members_is_named() {
    let Some(server) = Server::get() else { return };
    let desk = Desk::with_repository();
    server.make(
        "documents",
        "CREATE TABLE decimals (id INT PRIMARY KEY, doc JSON); CREATE TABLE dates LIKE decimals; CREATE TABLE deep LIKE decimals;
        CREATE TABLE fine LIKE decimals;
        INSERT INTO decimals VALUES (1, JSON_OBJECT('price', CAST('12.30' AS DECIMAL(10, 2))));
        INSERT INTO dates VALUES (1, CAST(CAST('2025-01-01' AS DATE) AS JSON));
        INSERT INTO deep VALUES (1, '{}'), (2, JSON_ARRAY(1, JSON_OBJECT('a', JSON_ARRAY(CAST('1.5' AS DECIMAL(3, 1))))));
        INSERT INTO fine VALUES (1, '{\"a\": [1, 1.5, true, null, {\"b\": \"2025-01-01\"}], \"c\": 18446744073709551615}'), (2, NULL);
        CREATE TABLE many LIKE decimals; SET cte_max_recursion_depth = 100000;
        INSERT INTO many WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 30000)
            SELECT i, JSON_OBJECT('id', i, 'tags', JSON_ARRAY('a', 1.5e0), 'sub', JSON_OBJECT('x', REPEAT('y', 100))) FROM s;
        INSERT INTO many VALUES (30001, JSON_OBJECT('a', JSON_OBJECT('b', 1.50)));
        CREATE TABLE members (e ENUM('a', '🦀'), d VARCHAR(9) DEFAULT '🦀'); INSERT INTO members VALUES ('🦀', 'x'), ('a', 'y')",
    );
    let backup = server.backup(&desk, "documents");
    expect(&backup, 3, &["decimals, dates or blobs in JSON become doubles and texts"]);
    let told = desk.facts("mysql/documents.sql")["facts"]["changed_by_sql"].as_str().expect("a text").to_owned();
    let columns: Vec<&str> = told.split("; ").filter_map(|part| part.split(' ').next()).collect();
    assert_eq!(columns, ["dates.doc", "decimals.doc", "deep.doc", "many.doc", "members.e"], "{told}");
    let restored = server.restore(&desk, "documents");
    expect(&restored, 3, &["the server changed what it was given"]);
    assert_eq!(summary(&restored)["databases"][0]["changes"], json!(["members: Data truncated for column 'e'"]));
    let not_carried = summary(&restored)["databases"][0]["not_carried"].as_array().expect("an array").len();
    assert_eq!(not_carried, columns.len(), "{restored:?}");
    assert_eq!(server.sql("documents_back", "SELECT DEFAULT(d) FROM members LIMIT 1").trim(), "🦀");

    server.sql("documents", "DROP TABLE decimals, dates, deep, members; DELETE FROM many WHERE id = 30001");
    expect(&server.backup(&desk, "documents"), 0, &[]);
}

#[test]
fn what_mariadbs_programs_write_of_a_mysql_server_can_be_restored_or_is_refused() {
    let Some(server) = Server::get() else { return };
    let desk = Desk::with_repository();
    server.make(
        "foreign_to_it",
        "CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20), d JSON, g POINT SRID 4326, h INT INVISIBLE DEFAULT 7,
            c VARCHAR(20) DEFAULT (CONCAT('a', 'b')), KEY ((LENGTH(v))), CHECK (h > 0)) COLLATE utf8mb4_0900_as_cs;
        INSERT INTO plain (v, d, g, h) VALUES ('ß', '{\"a\": 1}', ST_SRID(POINT(1, 2), 4326), 8), ('SS', NULL, NULL, 9);
        CREATE TABLE computed (id INT PRIMARY KEY, twice INT AS (id * 2) STORED, thrice INT AS (id * 3) VIRTUAL);
        INSERT INTO computed (id) VALUES (1)",
    );
    let backup = || desk.run(&["backup", "--mysql", &server.at("foreign_to_it")]);
    let told = [
        "is MySQL, and ",
        "generated columns and vectors (computed.thrice, computed.twice)",
        "hint: install MySQL's own",
    ];
    expect(&backup(), 5, &told);

    server.sql("foreign_to_it", "DROP TABLE computed");
    expect(&backup(), 0, &["1 stream"]);
    let back = server.at("foreign_to_it_back");
    expect(&desk.run(&["restore", "latest", "--into-mysql", &back]), 0, &["foreign_to_it_back restored"]);
    let rows = "SELECT id, v, d, ST_AsText(g), ST_SRID(g), h, c FROM plain ORDER BY id; SHOW CREATE TABLE plain";
    // The server may say what goes without saying.
    let state = |database: &str| server.sql(database, rows).replace("CHARACTER SET utf8mb4 COLLATE", "COLLATE");
    assert_eq!(state("foreign_to_it_back"), state("foreign_to_it"));
}

#[test]
fn what_in_a_copy_of_a_mysql_database_uses_the_original_is_named() {
    let Some(server) = Server::get() else { return };
    let desk = Desk::with_repository();
    server.make(
        "doubled",
        "CREATE TABLE t (id INT PRIMARY KEY, v INT); CREATE TABLE t2 (id INT);
        CREATE FUNCTION f2() RETURNS INT DETERMINISTIC RETURN 2;
        CREATE FUNCTION f3() RETURNS INT READS SQL DATA RETURN (SELECT SUM(v) FROM doubled.t);
        CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW SET @x = f2();
        CREATE TRIGGER tr2 AFTER DELETE ON t FOR EACH ROW DELETE FROM doubled.t2 WHERE id = OLD.id;
        CREATE EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01 00:00:00' DO DELETE FROM doubled.t;
        CREATE VIEW v1 AS SELECT *, CONCAT('a', id) AS made FROM t; CREATE VIEW v4 AS SELECT doubled.t.id, doubled.f2() AS n FROM doubled.t;
        CREATE VIEW v7 AS SELECT doubled.id FROM t AS doubled",
    );
    expect(&server.backup(&desk, "doubled"), 0, &[]);
    let restored = server.restore(&desk, "doubled");
    expect(&restored, 3, &["these use doubled, from which it was dumped, and not the copy: "]);
    let uses = &summary(&restored)["databases"][0]["uses_original"];
    assert_eq!(uses, &json!(["view v4", "routine f3", "trigger tr2", "event ev"]));
}

#[test]
fn users_of_a_mysql_server_come_back_with_their_roles_and_rights() {
    const ACCOUNTS: [&str; 7] = [
        "app9@'%'",
        "`it's``me`@'10.%'",
        "locked9@localhost",
        "expired9@'%'",
        "''@nowhere9",
        "reader9@'%'",
        "`wri``ter9`@'10.%'",
    ];
    let Some(server) = Server::get() else { return };
    let desk = Desk::with_repository();
    let drop = format!("DROP USER IF EXISTS {}", ACCOUNTS.join(", "));
    server.sql("", &drop);
    server.make("peopled9", "CREATE TABLE t (a INT, b INT); CREATE PROCEDURE p() SELECT 1");
    server.sql(
        "",
        r#"SET GLOBAL partial_revokes = ON;
        CREATE ROLE reader9, `wri``ter9`@'10.%'; GRANT SELECT ON peopled9.* TO reader9; GRANT INSERT ON peopled9.* TO `wri``ter9`@'10.%';
        CREATE USER app9@'%' IDENTIFIED BY 'it''s' DEFAULT ROLE reader9
            REQUIRE SUBJECT 'x''; CREATE ROLE smuggled9; -- ' ISSUER '/O=\\' WITH MAX_USER_CONNECTIONS 5
            PASSWORD EXPIRE INTERVAL 90 DAY PASSWORD HISTORY 5 FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME UNBOUNDED
            ATTRIBUTE '{"k": "it''s ü"}';
        CREATE USER `it's``me`@'10.%' IDENTIFIED BY 'x' COMMENT 'a comment'; CREATE USER locked9@localhost ACCOUNT LOCK;
        CREATE USER expired9@'%' IDENTIFIED BY 'x' PASSWORD EXPIRE; CREATE USER ''@nowhere9;
        GRANT reader9 TO app9 WITH ADMIN OPTION; GRANT reader9, `wri``ter9`@'10.%' TO `it's``me`@'10.%';
        SET DEFAULT ROLE ALL TO `it's``me`@'10.%'; GRANT reader9 TO `wri``ter9`@'10.%';
        GRANT SELECT, INSERT ON *.* TO app9; REVOKE INSERT ON peopled9.* FROM app9;
        GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO app9 WITH GRANT OPTION; GRANT SELECT ON `peo\_led9%`.* TO locked9@localhost;
        GRANT SELECT (a), UPDATE (a, b) ON peopled9.t TO locked9@localhost;
        GRANT EXECUTE ON PROCEDURE peopled9.p TO locked9@localhost; GRANT PROXY ON app9 TO locked9@localhost;
        ALTER USER expired9 IDENTIFIED BY 'y' RETAIN CURRENT PASSWORD PASSWORD EXPIRE"#,
    );
    let shown = |account: &str| {
        let show = format!("SHOW CREATE USER {account}; SHOW GRANTS FOR {account}");
        server.sql("", &format!("SET print_identified_with_as_hex = ON; {show}"))
    };
    let dumped = ACCOUNTS.map(shown);
    // Whichever programs are there.
    let backup = ["backup", "--mysql", &server.at(""), "--all-databases", "--include-database", "peopled9"];
    let told = ["2 streams", "the second password of expired9@% is not in the dump"];
    expect(&desk.run(&backup), 0, &told);
    expect(&server.coffre(&desk, &backup), 0, &told);
    let facts = desk.facts("mysql/users.sql")["facts"].clone();
    assert_eq!(facts["partial_revokes"], "on");
    let gtids = server.sql("", "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')");
    assert_eq!(facts["gtids"].as_str().unwrap_or_default(), gtids.trim());

    let restore = || server.coffre(&desk, &["restore", "latest", "--into-mysql", &server.at(""), "--globals"]);
    server.sql("", &drop);
    expect(&restore(), 0, &[]);
    assert_eq!(ACCOUNTS.map(shown), dumped);
    assert_eq!(server.sql("", "SELECT user FROM mysql.user WHERE user = 'smuggled9'"), "");

    // What is there keeps its rights, and has the rest as it was dumped.
    server.sql("", "ALTER USER app9 IDENTIFIED BY 'other' REQUIRE NONE; GRANT SELECT ON peopled9.t TO app9");
    let again = restore();
    expect(&again, 0, &["these were there already", "app9@%", "it's`me@10.%"]);
    let more = "GRANT SELECT ON `peopled9`.`t` TO `app9`@`%`\n";
    let now = shown(ACCOUNTS[0]);
    assert!(now.contains(more) && now.replace(more, "") == dumped[0], "{now}");

    // Where rights cannot be revoked in part, some are missing that were.
    server.sql("", &format!("{drop}; SET GLOBAL partial_revokes = OFF"));
    expect(&restore(), 3, &["partial_revokes is on where they were dumped, and off here"]);
    server.sql("", &drop);
}
