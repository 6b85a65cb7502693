//! MariaDB with several clients that fill one database, and users into a server that has some already.
//!
//! These tests have a server of their own: they change what holds for all of it.

use std::sync::OnceLock;

use crate::databases::{expect, fixture, until};
use crate::support::desk::{Desk, Run};
use crate::support::mariadb::MariaDbServer;

/// Tables of many statements with rows: one that is for several clients, and some that are not.
const TABLES: &str = r"
    CREATE TABLE big (id INT AUTO_INCREMENT PRIMARY KEY, token CHAR(32) NOT NULL, at TIMESTAMP(6) NOT NULL, pad VARCHAR(200),
        raw VARBINARY(40), length INT AS (CHAR_LENGTH(pad)) STORED, note ENUM('a', 'ö'), day DATE, UNIQUE KEY (token), KEY (length));
    CREATE TABLE a_child (id INT PRIMARY KEY, big INT, pad VARCHAR(100), FOREIGN KEY (big) REFERENCES big (id));
    CREATE TABLE bigger (id INT PRIMARY KEY, child INT, FOREIGN KEY (child) REFERENCES a_child (id));
    CREATE TABLE seen (id INT);
    CREATE TABLE without_key (a INT, pad VARCHAR(100));
    CREATE TABLE flat_rows (id INT PRIMARY KEY, pad VARCHAR(100)) ENGINE = MyISAM;
    CREATE TABLE in_parts (id INT PRIMARY KEY, pad VARCHAR(100)) PARTITION BY HASH (id) PARTITIONS 3;
    CREATE TABLE hashed (id INT PRIMARY KEY, pad BLOB, UNIQUE (pad));
    SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
    INSERT INTO big (id, token, at, pad, raw, note, day) SELECT seq, MD5(seq), TIMESTAMP('2024-03-31') + INTERVAL seq * 97 SECOND,
        CONCAT('it''s; (\\', REPEAT('ü🦀\n', seq % 9)), UNHEX(MD5(seq)), IF(seq % 2, 'a', 'ö'), '0000-00-00' FROM seq_0_to_9000;
    INSERT INTO a_child SELECT seq, seq, REPEAT(MD5(seq), 2) FROM seq_1_to_4000;
    INSERT INTO bigger SELECT seq, 4000 FROM seq_1_to_9000;
    INSERT INTO without_key SELECT seq * 7919 % 2500, REPEAT(MD5(seq), 2) FROM seq_1_to_2500;
    INSERT INTO flat_rows SELECT * FROM without_key; INSERT INTO in_parts SELECT * FROM without_key;
    INSERT INTO hashed SELECT * FROM without_key;
    CREATE TRIGGER seeing AFTER INSERT ON big FOR EACH ROW INSERT INTO seen VALUES (NEW.id);
    CREATE VIEW notes AS SELECT note, COUNT(*) AS n FROM big GROUP BY note;";

/// The server of these tests.
fn own() -> Option<&'static MariaDbServer> {
    static OWN: OnceLock<Option<MariaDbServer>> = OnceLock::new();
    OWN.get_or_init(MariaDbServer::start).as_ref()
}

/// A desk, and where databases are. Statements with rows are short, so that a small table has many.
fn desk(server: &MariaDbServer) -> (Desk, impl Fn(&str) -> String) {
    let desk = Desk::with_repository();
    let file = desk.at("my.cnf");
    let options = std::fs::read_to_string(server.option_file()).expect("there");
    std::fs::write(&file, format!("{options}[mariadb-dump]\nnet-buffer-length = 16384\n")).expect("written");
    let url = move |database: &str| format!("{}?option-file={}", server.url(database), file.display());
    (desk, url)
}

/// Backs a database up and returns what was stored, without what names it.
fn dumped(desk: &Desk, url: &str, database: &str) -> String {
    expect(&desk.run(&["backup", "--mysql", url]), 0, &["1 stream"]);
    let dump = desk.run(&["dump", &format!("latest:mysql/{database}.sql")]).out;
    let kept = dump.lines().filter(|line| !line.starts_with("-- "));
    kept.map(|line| line.replace(&format!("`{database}`"), "`it`") + "\n").collect()
}

#[test]
fn several_clients_give_the_same_database_as_one() {
    let Some(server) = own() else { return };
    let (desk, url) = desk(server);
    server.load("spread_from", &fixture("mariadb.sql"));
    server.sql("spread_from", TABLES);
    let whole = dumped(&desk, &url("spread_from"), "spread_from");
    // What the dump sets counts for each client, whatever sessions have.
    server.sql(
        "",
        "SET GLOBAL time_zone = '+05:30', sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE', log_output = 'TABLE',
            general_log = ON",
    );
    let restore = |name: &str, more: &[&str]| {
        server.sql("", "TRUNCATE TABLE mysql.general_log");
        let target = url(name);
        let restored = desk.run(&[&["restore", "latest", "--into-mysql", target.as_str()][..], more].concat());
        expect(&restored, 0, &[format!("{name} restored").as_str()]);
    };
    restore("spread_back", &["--jobs", "4"]);
    let clients = |table: &str| {
        let statements = format!("argument LIKE 'INSERT INTO `{table}`%'");
        let counted = format!("SELECT COUNT(*), COUNT(DISTINCT thread_id) FROM mysql.general_log WHERE {statements}");
        let counted = server.sql("", &counted);
        let mut counts = counted.split_whitespace().map(|count| count.parse::<u32>().expect("a number"));
        (counts.next().expect("statements"), counts.next().expect("clients"))
    };
    for table in ["big", "a_child", "bigger"] {
        let (statements, clients) = clients(table);
        assert!(statements > 5 && clients > 1, "{table}: {statements} statements of {clients} clients");
    }
    for table in ["without_key", "flat_rows", "in_parts", "hashed"] {
        let (statements, clients) = clients(table);
        assert!(statements > 5 && clients == 1, "{table}: {statements} statements of {clients} clients");
    }
    assert_eq!(server.fingerprint("spread_back"), server.fingerprint("spread_from"));
    // One behind others that are left out.
    restore("spread_alone", &["--jobs", "3", "--table", "big", "--table", "in_parts"]);
    assert!(clients("big").1 > 1);
    let rows = "SELECT COUNT(*), SUM(CRC32(CONCAT_WS(',', id, token, at, pad, HEX(raw), length, note, day))) FROM big;
        CHECKSUM TABLE in_parts";
    assert_eq!(
        server.sql("spread_alone", rows).replace("spread_alone", "spread_from"),
        server.sql("spread_from", rows)
    );
    server.sql("", "SET GLOBAL general_log = OFF, time_zone = DEFAULT, sql_mode = DEFAULT, log_output = DEFAULT");
    // Rows that have no order of their own are in the same one.
    assert!(dumped(&desk, &url("spread_back"), "spread_back") == whole, "the dump of the copy is another");
}

#[test]
fn what_fails_at_one_of_several_clients_is_told_with_its_line_of_the_dump() {
    let Some(server) = own() else { return };
    let (desk, url) = desk(server);
    server.sql(
        "",
        "CREATE DATABASE broken; USE broken; CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200), CONSTRAINT small CHECK (v <> 'no'));
        SET check_constraint_checks = 0; INSERT INTO t SELECT seq, IF(seq = 1500, 'no', REPEAT(MD5(seq), 4)) FROM seq_1_to_3000;
        CREATE TABLE u (id INT PRIMARY KEY)",
    );
    expect(&desk.run(&["backup", "--mysql", &url("broken")]), 0, &["1 stream"]);
    let dump = desk.run(&["dump", "latest:mysql/broken.sql"]).out;
    let before = dump.split("(1500,'no')").next().expect("some");
    let line = before.rsplit_once("INSERT INTO `t`").expect("some").0.lines().count() + 1;
    let error = format!("ERROR 4025 (23000) at line {line}: CONSTRAINT");
    let told = [error.as_str(), "nothing was left behind"];
    for jobs in ["1", "4"] {
        let failed = desk.run(&["restore", "latest", "--into-mysql", &url("broken_back"), "--jobs", jobs]);
        expect(&failed, 1, &told);
        // Rows are not for messages.
        assert!(!failed.err.contains("INSERT INTO"), "{failed:?}");
        assert_eq!(server.sql("", "SHOW DATABASES LIKE 'broken\\_back'"), "");
        assert_eq!(server.sql("", "SELECT id FROM information_schema.processlist WHERE db = 'broken_back'"), "");
    }
}

#[test]
fn several_clients_end_when_one_is_lost_or_ending_is_asked_for() {
    let Some(server) = own() else { return };
    let desk = Desk::with_repository();
    let url = |name: &str| format!("{}?option-file={}", server.url(name), server.option_file().display());
    server.sql(
        "",
        "CREATE DATABASE wide; USE wide; CREATE TABLE t (id INT PRIMARY KEY, a CHAR(32), b CHAR(32), pad VARCHAR(1000), KEY (a), KEY (b));
        INSERT INTO t SELECT seq, MD5(seq), MD5(-seq), REPEAT(MD5(seq), 20) FROM seq_1_to_16000",
    );
    expect(&desk.run(&["backup", "--mysql", &url("wide")]), 0, &["1 stream"]);
    let restoring = ["restore", "latest", "--into-mysql", &url("cut"), "--jobs", "3"];
    let filling = "SELECT id FROM information_schema.processlist WHERE db = 'cut' AND info LIKE 'INSERT%'";
    for is_lost in [true, false] {
        let child = desk.start(&[], &restoring);
        let mut clients = String::new();
        until("the table is filled", || {
            clients = server.sql("", filling);
            !clients.is_empty()
        });
        let run: Run = if is_lost {
            server.sql("", &format!("KILL {}", clients.lines().last().expect("one")));
            child.wait_with_output().expect("ended").into()
        } else {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
            child.wait_with_output().expect("ended").into()
        };
        let (code, said) = if is_lost { (1, "    ERROR 20") } else { (130, "interrupted") };
        expect(&run, code, &[said, "there is no database cut, nothing was left behind"]);
        let sessions = "SELECT id FROM information_schema.processlist WHERE db = 'cut'";
        until("the sessions are gone", || server.sql("", sessions).is_empty());
    }
}

#[test]
fn users_come_to_a_server_that_has_some_already() {
    let Some(server) = own() else { return };
    let (desk, url) = desk(server);
    server.sql(
        "",
        "CREATE DATABASE peopled; CREATE TABLE peopled.t (a INT, b INT);
        CREATE ROLE readers; GRANT SELECT ON peopled.* TO readers;
        CREATE USER app@'%' IDENTIFIED BY 'dumped'; GRANT UPDATE (a) ON peopled.t TO app@'%'; GRANT DELETE ON peopled.* TO app@'%';
        CREATE USER `it's``me`@'10.%' IDENTIFIED BY 'x' REQUIRE SSL WITH MAX_USER_CONNECTIONS 5; GRANT readers TO `it's``me`@'10.%';
        SET DEFAULT ROLE readers FOR `it's``me`@'10.%'",
    );
    let shown = |account: &str| server.sql("", &format!("SHOW CREATE USER {account}; SHOW GRANTS FOR {account}"));
    let (app, me) = ("app@'%'", "`it's``me`@'10.%'");
    let dumped = [app, me].map(shown);
    let backup = ["backup", "--mysql", &url(""), "--all-databases", "--include-database", "peopled"];
    expect(&desk.run(&backup), 0, &["2 streams"]);
    server.sql(
        "",
        "SET PASSWORD FOR app@'%' = PASSWORD('here'); GRANT INSERT ON peopled.* TO app@'%'; DROP USER `it's``me`@'10.%';
        DROP ROLE readers; CREATE USER other@localhost",
    );
    let restored = desk.run(&["restore", "latest", "--into-mysql", &url(""), "--globals"]);
    // The one that was there has what was dumped besides.
    expect(&restored, 3, &["Operation CREATE USER failed for 'app'@'%'"]);
    let said = format!("{}{}", restored.out, restored.err);
    for always_there in ["root", "mariadb.sys"] {
        assert!(!said.contains(&format!("CREATE USER failed for '{always_there}'")), "{said}");
    }
    assert_eq!(shown(app), dumped[0].replace("GRANT DELETE ON", "GRANT INSERT, DELETE ON"));
    assert_eq!(shown(me), dumped[1]);
    assert!(shown("root@localhost").contains("GRANT ALL PRIVILEGES ON *.*"));
    assert!(shown("other@localhost").contains("other"), "what else is there stays");
}
