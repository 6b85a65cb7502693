//! Definers of MariaDB: users who may not name others, what they define under another name, and names that become others.

use crate::databases::expect;
use crate::databases::mysql::url;
use crate::support::desk::{Desk, Run};
use crate::support::mariadb::{self, MariaDbServer};

/// The rights that a managed server gives its administrator: all but the one to make others the definers of something.
const MANAGED: &str = "CREATE USER managed@'%' IDENTIFIED BY 'managed';
    GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE,
        CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER ON *.* TO managed@'%'";
const SHOP: &str = "CREATE TABLE t AS SELECT 1 AS x; CREATE DEFINER = app@'%' VIEW v AS SELECT x FROM t;
    CREATE DEFINER = app@'%' EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01' DO DELETE FROM t";

/// A server with a database `shop` whose definer is another user than those who restore, and a backup of it; a row came later.
fn shop(desk: &Desk) -> Option<MariaDbServer> {
    let server = MariaDbServer::start()?;
    server.sql("", &format!("{MANAGED}; CREATE USER app@'%'; CREATE DATABASE shop; GRANT ALL ON shop.* TO app@'%'"));
    server.sql("shop", SHOP);
    expect(&desk.run(&["backup", "--mysql", &url(&server, "shop")]), 0, &["1 stream"]);
    server.sql("shop", "INSERT INTO t VALUES (2)");
    Some(server)
}

/// Restores as another user than root, whose password is the name.
fn restore_as(desk: &Desk, server: &MariaDbServer, user: &str, name: &str, more: &[&str]) -> Run {
    let url = server.url(name).replace("root@", &format!("{user}:{user}@"));
    desk.run_with(&[("INTO", url.as_str())], &[&["restore", "latest", "--into-mysql", "env:INTO"][..], more].concat())
}

const IN_PLACE: [&str; 3] = ["--in-place", "--confirm", "shop"];
/// What there is of databases, rows, and tries.
const THERE: &str = "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'shop%' ORDER BY 1; SELECT x FROM shop.t;
    SELECT 'event', definer FROM information_schema.events; SELECT 'view', definer FROM information_schema.views WHERE table_schema = 'shop';
    SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'coffre\\_%'";

#[test]
fn who_may_not_name_others_is_told_before_anything_is_dropped() {
    let desk = Desk::with_repository();
    let Some(server) = shop(&desk) else { return };
    let facts = &desk.facts("mysql/shop.sql")["facts"];
    assert_eq!(facts["definers"], r#"["app@%"]"#);
    assert_eq!(facts["defined"], r#"["event","view"]"#);
    let before = "shop\n1\n2\nevent\tapp@%\nview\tapp@%\n";
    let told = [
        "managed@% may not make others the definers of views, routines, triggers or events",
        "are app@%: grant it SET USER",
        "add --definer managed@%, which needs no right",
    ];
    for more in [&["--plan"][..], &[]] {
        expect(&restore_as(&desk, &server, "managed", "shop", &[&IN_PLACE[..], more].concat()), 1, &told);
        expect(&restore_as(&desk, &server, "managed", "shop_new", more), 1, &told);
    }
    assert_eq!(server.sql("", THERE), before);

    // The kinds need rights, too.
    let own = ["--definer", "managed@%"];
    let own_in_place = [&IN_PLACE[..], &own].concat();
    server.sql("", "REVOKE EVENT ON *.* FROM managed@'%'");
    let refused = "an event that managed@% defines may not be made: ERROR 1044";
    let run = restore_as(&desk, &server, "managed", "shop", &own_in_place);
    expect(&run, 1, &[refused, "shop is untouched"]);
    let run = restore_as(&desk, &server, "managed", "shop_new", &own);
    expect(&run, 1, &[refused, "there is no database shop_new, nothing was left behind"]);
    assert_eq!(server.sql("", THERE), before);

    server.sql("", "GRANT EVENT ON *.* TO managed@'%'");
    expect(&restore_as(&desk, &server, "managed", "shop", &own_in_place), 0, &["shop restored"]);
    assert_eq!(server.sql("", THERE), "shop\n1\nevent\tmanaged@%\nview\tmanaged@%\n");
    expect(&restore_as(&desk, &server, "managed", "shop_new", &own), 0, &["shop_new restored"]);
}

#[test]
fn where_no_passing_database_may_be_made_rights_are_tried_in_the_one_that_is_replaced() {
    let desk = Desk::with_repository();
    let Some(server) = shop(&desk) else { return };
    server.sql(
        "",
        "CREATE USER owner@'%' IDENTIFIED BY 'owner'; GRANT ALL ON shop.* TO owner@'%'; REVOKE EVENT ON shop.* FROM owner@'%'",
    );
    let unknown = "is not known, as this user may not read mysql.user: app@%";
    let plan = [&IN_PLACE[..], &["--plan"]].concat();
    expect(
        &restore_as(&desk, &server, "owner", "shop", &plan),
        1,
        &[unknown, "owner@% may not make others the definers"],
    );
    let own = [&IN_PLACE[..], &["--definer", "owner@%"]].concat();
    let refused = "an event that owner@% defines may not be made: ERROR 1044";
    expect(&restore_as(&desk, &server, "owner", "shop", &own), 1, &[refused, "shop is untouched"]);
    assert_eq!(server.sql("", THERE), "shop\n1\n2\nevent\tapp@%\nview\tapp@%\n");
    server.sql("", "GRANT EVENT ON shop.* TO owner@'%'");
    expect(&restore_as(&desk, &server, "owner", "shop", &own), 0, &["shop restored", "no passing database"]);
    assert_eq!(server.sql("", THERE), "shop\n1\nevent\towner@%\nview\towner@%\n");
}

#[test]
fn each_kind_is_tried_and_leaves_nothing() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE USER 'definers it`s'@'%'; CREATE ROLE definers_role; CREATE DATABASE definers_kinds; USE definers_kinds;
        GRANT ALL ON definers_kinds.* TO definers_role;
        CREATE TABLE t AS SELECT 1 AS x; CREATE DEFINER = 'definers it`s'@'%' FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1;
        CREATE DEFINER = definers_role PROCEDURE p() SELECT 1; CREATE DEFINER = definers_role VIEW v AS SELECT x FROM t;
        CREATE DEFINER = 'definers it`s'@'%' TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @x = 1;
        CREATE DEFINER = definers_role EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01' DO DELETE FROM t",
    );
    expect(&desk.run(&["backup", "--mysql", &url(server, "definers_kinds")]), 0, &["1 stream"]);
    let facts = &desk.facts("mysql/definers_kinds.sql")["facts"];
    assert_eq!(facts["definers"], r#"["definers it`s@%","definers_role"]"#);
    assert_eq!(facts["defined"], r#"["event","function","procedure","trigger","view"]"#);
    let restore = |name: &str, more: &[&str]| {
        desk.run(&[&["restore", "latest", "--into-mysql", &url(server, name)][..], more].concat())
    };
    let plan = restore("definers_back", &["--plan"]);
    expect(
        &plan,
        0,
        &["on definers_kinds alone: definers it`s@%, definers_role; grant what they need ON `definers_back`.*"],
    );
    assert!(!plan.out.contains("are not there"), "{plan:?}");
    expect(&restore("definers_back", &[]), 0, &["definers_back restored"]);
    let in_place = ["--in-place", "--confirm", "definers_kinds"];
    expect(&restore("definers_kinds", &in_place), 0, &["definers_kinds restored"]);
    for name in ["definers_kinds", "definers_back"] {
        let dump = server.fingerprint(name);
        assert!(!dump.contains("coffre") && dump.contains("DEFINER=`definers_role`"), "{dump}");
    }
}

#[test]
fn a_definer_that_became_another_one_is_told() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    // What is read as latin1 has two characters for one.
    server.sql(
        "",
        "SET NAMES latin1; CREATE USER 'definers_ü'@'%'; CREATE DATABASE definers_latin; USE definers_latin;
        CREATE TABLE t (x INT PRIMARY KEY); CREATE DEFINER = 'definers_ü'@'%' TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @x = 1",
    );
    expect(&desk.run(&["backup", "--mysql", &url(server, "definers_latin")]), 0, &["1 stream"]);
    let restore = |name: &str, more: &[&str]| {
        desk.run(&[&["restore", "latest", "--into-mysql", &url(server, name)][..], more].concat())
    };
    let told = "these define something in it, and did not where it was dumped: definers_Ãƒ";
    expect(&restore("definers_latin_back", &[]), 3, &["definers_latin_back restored", told]);
    let refused = "definers_Ã¼@%, who is to define everything, has a name beyond ASCII";
    expect(&restore("definers_latin_not", &["--definer", "definers_Ã¼@%"]), 1, &[refused]);
    expect(&restore("definers_latin_own", &["--definer", "root@localhost"]), 0, &["definers_latin_own restored"]);
    // What was there before is none of it.
    server.sql("definers_latin_back", "DROP TABLE t; CREATE DEFINER = definers_gone@'%' VIEW v AS SELECT 1");
    let beside = ["--into-existing", "--table", "t", "--definer", "root@localhost"];
    expect(&restore("definers_latin_back", &beside), 0, &["definers_latin_back restored"]);
}

#[test]
fn definers_that_differ_in_case_alone_are_two() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE USER definers_App@'%'; CREATE USER definers_app@'%'; CREATE DATABASE definers_two; USE definers_two;
        CREATE DEFINER = definers_App@'%' VIEW a AS SELECT 1; CREATE DEFINER = definers_app@'%' VIEW b AS SELECT 1;
        CREATE TABLE gone (x INT); CREATE DEFINER = root@localhost TRIGGER g BEFORE INSERT ON gone FOR EACH ROW SET @x = 1",
    );
    let backup = ["backup", "--mysql", &url(server, "definers_two"), "--exclude-table", "gone"];
    expect(&desk.run(&backup), 0, &["1 stream"]);
    // What is left out needs no definer.
    let facts = &desk.facts("mysql/definers_two.sql")["facts"];
    assert_eq!(facts["definers"], r#"["definers_App@%","definers_app@%"]"#);
    assert_eq!(facts["defined"], r#"["view"]"#);
    server.sql("", "DROP USER definers_App@'%'");
    let plan = desk.run(&["restore", "latest", "--into-mysql", &url(server, "definers_two_back"), "--plan"]);
    expect(&plan, 0, &["and are not there: definers_App@%; ", "on definers_two alone: definers_app@%; "]);
}
