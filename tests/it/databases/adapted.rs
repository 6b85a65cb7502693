//! Restores into a server that is another one: without its tablespaces, owners, locales or definers, and the flags for that.

use crate::databases::mysql::url;
use crate::databases::postgres::passfile;
use crate::databases::{expect, fixture};
use crate::support::desk::{Desk, Run};
use crate::support::mariadb::{self, MariaDbServer};
use crate::support::postgres::{self, PostgresServer};

/// Returns what restores the newest snapshot into a server.
fn restoring<'a>(desk: &'a Desk, server: &'a PostgresServer) -> impl Fn(&str, &[&str]) -> Run + 'a {
    move |name, more| {
        let restore = ["restore", "latest", "--into-postgres", &server.url(name)];
        desk.run_with(&passfile(server), &[&restore[..], more].concat())
    }
}

/// Where tables, indexes and the database are that is connected to; nothing where all are in the usual tablespace.
const TABLESPACES: &str = "
    SELECT relname, spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace WHERE c.oid >= 16384 ORDER BY 1;
    SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace
    WHERE datname = current_database() AND spcname <> 'pg_default'";
const TABLED_ROWS: &str = "SELECT count(*), sum(id) FROM t; SELECT * FROM m; SELECT * FROM p";

/// Makes a database in tablespaces of its own, and backs it up.
fn tabled(desk: &Desk, server: &PostgresServer) {
    server.sql(
        "postgres",
        "SET allow_in_place_tablespaces = true; CREATE TABLESPACE adapted_slow LOCATION '';
        CREATE TABLESPACE \"adapted Fast\" LOCATION ''; CREATE DATABASE tabled TABLESPACE adapted_slow",
    );
    server.sql(
        "tabled",
        "CREATE TABLE t (id int PRIMARY KEY USING INDEX TABLESPACE \"adapted Fast\") TABLESPACE \"adapted Fast\";
        INSERT INTO t SELECT generate_series(1, 3000); CREATE MATERIALIZED VIEW m TABLESPACE \"adapted Fast\" AS SELECT count(*) FROM t;
        CREATE TABLE p (a int) PARTITION BY LIST (a) TABLESPACE \"adapted Fast\"; CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        INSERT INTO p VALUES (1)",
    );
    expect(&desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("tabled")]), 0, &[]);
}

#[test]
fn tablespaces_that_a_server_lacks_are_told_before_and_left_away_where_that_is_wanted() {
    let (Some(server), Some(other)) = (postgres::shared(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    tabled(&desk, server);
    let (here, there) = (restoring(&desk, server), restoring(&desk, &other));
    let rows = server.sql("tabled", TABLED_ROWS);
    let lacks = "the server has no tablespace adapted Fast, adapted_slow, which without uses";

    let plan = there("without", &["--plan"]);
    expect(&plan, 0, &["note       ", lacks, "or add --no-tablespaces", "nothing was changed"]);
    let told = there("without", &[]);
    let each = "could not set default_tablespace to \"adapted Fast\"";
    expect(&told, 3, &["without restored", "there is no tablespace adapted_slow", each]);
    assert!(!told.err.contains("more"), "{told:?}");
    expect(&there("strictly", &["--exit-on-error"]), 1, &[each, "hint: make the tablespace first", "--no-tablespaces"]);

    // What is wanted is not told.
    for (name, more) in [("one_by_one", &[][..]), ("by_jobs", &["--jobs", "2"]), ("strict", &["--exit-on-error"])] {
        let more = [more, &["--no-tablespaces"]].concat();
        expect(&there(name, &[&more[..], &["--plan"]].concat()), 0, &["nothing stands against it"]);
        let run = there(name, &more);
        expect(&run, 0, &[&format!("{name} restored")]);
        assert!(!run.err.contains("tablespace"), "{run:?}");
        assert_eq!((other.sql(name, TABLED_ROWS), other.sql(name, TABLESPACES)), (rows.clone(), String::new()));
    }

    // Where they are, they are used, unless that is not wanted.
    expect(&here("tabled_same", &["--plan"]), 0, &["nothing stands against it"]);
    expect(&here("tabled_same", &[]), 0, &["tabled_same restored"]);
    let before = server.sql("tabled", TABLESPACES);
    assert!(before.contains("t_pkey|adapted Fast") && before.ends_with("adapted_slow\n"), "{before}");
    assert_eq!(server.sql("tabled_same", TABLESPACES), before);
    expect(&here("tabled_usual", &["--no-tablespaces"]), 0, &[]);
    assert_eq!(
        (server.sql("tabled_usual", TABLED_ROWS), server.sql("tabled_usual", TABLESPACES)),
        (rows, String::new())
    );
}

#[test]
fn tables_beside_others_and_dumps_of_sql_cannot_do_without_their_tablespaces() {
    let (Some(server), Some(other)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    tabled(&desk, &server);
    let there = restoring(&desk, &other);
    other.sql("postgres", "CREATE DATABASE beside");
    let beside = ["--table", "t", "--into-existing"];
    let note = "no tablespace adapted Fast, which beside uses: if a table was in it, nothing is restored";
    expect(&there("beside", &[&beside[..], &["--plan"]].concat()), 0, &[note, "--no-tablespaces"]);
    expect(&there("beside", &beside), 1, &["beside is as it was", "--no-tablespaces"]);
    expect(&there("beside", &[&beside[..], &["--no-tablespaces"]].concat()), 0, &["beside restored"]);
    assert_eq!(other.sql("beside", "SELECT count(*) FROM t"), "3000\n");

    let plain = ["backup", "--postgres", &server.url("tabled"), "--postgres-plain"];
    expect(&desk.run_with(&passfile(&server), &plain), 0, &[]);
    let obstacle =
        "OBSTACLE   the server has no tablespace adapted Fast, adapted_slow, which plain uses, and a dump of SQL";
    expect(&there("plain", &["--plan"]), 1, &[obstacle, "CREATE TABLESPACE"]);
    let unchanged = "plain is a dump of SQL, which --no-tablespaces cannot change";
    expect(&there("plain", &["--no-tablespaces"]), 1, &[unchanged]);
    other.sql("postgres", "SET allow_in_place_tablespaces = true; CREATE TABLESPACE \"adapted Fast\" LOCATION ''");
    let lacks = "the server has no tablespace adapted_slow, which plain uses";
    expect(&there("plain", &["--plan"]), 0, &[lacks]);
    expect(&there("plain", &[]), 3, &["plain restored", "there is no tablespace adapted_slow"]);
}

/// Leaves out of a fingerprint what says to whom something belongs, and who may use it.
fn without_owners(fingerprint: &str) -> String {
    const OF_OWNERS: [&str; 4] = ["GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ", "large object "];
    let is_kept = |line: &&str| !line.contains(" OWNER TO ") && !OF_OWNERS.iter().any(|start| line.starts_with(start));
    fingerprint.lines().filter(is_kept).collect::<Vec<_>>().join("\n")
}

/// Returns the lines of a fingerprint by which something belongs to another role than `role`.
fn of_others<'a>(fingerprint: &'a str, role: &str) -> Vec<&'a str> {
    let (owned, large) = (format!(" OWNER TO {role};"), format!(": owner {}, ", role.trim_matches('"')));
    let is_of_another = |line: &&str| {
        line.contains(" OWNER TO ") && !line.ends_with(&owned)
            || line.starts_with("large object ") && !line.contains(&large)
    };
    fingerprint.lines().filter(is_of_another).collect()
}

#[test]
fn everything_belongs_to_the_role_that_is_named() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql(
        "postgres",
        "CREATE ROLE \"adapted app\"; CREATE ROLE adapted_old; CREATE DATABASE owned OWNER adapted_old",
    );
    server.load("owned", &fixture("postgres.sql"));
    server.sql(
        "owned",
        "ALTER TABLE shop.items OWNER TO adapted_old; ALTER SCHEMA shop OWNER TO adapted_old;
        CREATE EVENT TRIGGER adapted_off ON ddl_command_end EXECUTE FUNCTION shop.log_ddl();
        ALTER EVENT TRIGGER adapted_off DISABLE; ALTER EVENT TRIGGER coffre_test_log_ddl ENABLE ALWAYS;
        CREATE TYPE adapted_range AS RANGE (subtype = int); DO 'BEGIN PERFORM lo_create(77); END'; CREATE PUBLICATION pg_temporary_not",
    );
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("owned")]), 0, &[]);
    let restore = restoring(&desk, server);
    for (name, more) in [("owned_one", &[][..]), ("owned_by_jobs", &["--jobs", "2"])] {
        let run = restore(name, &[more, &["--owner", "adapted app"]].concat());
        let told = [
            "2 statements failed",
            "owner of event trigger \"coffre_test_log_ddl\"",
            "owner of event trigger \"adapted_off\"",
        ];
        expect(&run, 3, &[&[&*format!("{name} restored")][..], &told].concat());
        let there = server.fingerprint(name);
        let left =
            ["adapted_off", "coffre_test_log_ddl"].map(|it| format!("ALTER EVENT TRIGGER {it} OWNER TO postgres;"));
        assert_eq!(of_others(&there, "\"adapted app\""), left);
        assert!(!there.contains("GRANT ") && there.contains("large object 9"), "{there}");
        assert_eq!(without_owners(&there), without_owners(&server.fingerprint("owned")));
        let ranges = "SELECT DISTINCT typowner::regrole FROM pg_type WHERE typname LIKE '%adapted\\_%range'";
        assert_eq!(server.sql(name, ranges), "\"adapted app\"\n");
        // Nobody else may do anything with it, but what all might do in the original.
        let rights = format!(
            "SELECT pg_get_userbyid(datdba), (SELECT string_agg(grantee || privilege_type, ',') FROM aclexplode(datacl) WHERE grantee <> datdba)
            FROM pg_database WHERE datname = '{name}'"
        );
        assert_eq!(server.sql("postgres", &rights), "adapted app|0TEMPORARY\n");
        let triggers = "SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1";
        assert_eq!(server.sql(name, triggers), "adapted_off|D\ncoffre_test_log_ddl|A\n");
    }
    let strict = restore("owned_strictly", &["--owner", "adapted app", "--exit-on-error"]);
    // All of it is there: what failed is not worth another night.
    let kept = [
        "owner of event trigger",
        "all that was restored is in owned_strictly_coffre_",
        "given to adapted app",
        "give what is in it to its owner first, then itself, by ALTER DATABASE",
    ];
    expect(&strict, 1, &kept);
    // It was closed in the original.
    assert!(!strict.err.contains("GRANT CONNECT ON DATABASE \"owned_strictly_coffre_"), "{strict:?}");
    let left =
        server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'owned\\_strictly\\_coffre\\_%'");
    let owner = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{}'", left.trim());
    assert_eq!(server.sql("postgres", &owner), "postgres\n");
    let count = "SELECT count(*) FROM shop.items";
    assert_eq!(server.sql(left.trim(), count), server.sql("owned", count));
    server.sql("postgres", &format!("DROP DATABASE {left}"));
    let missing = "there is no role adapted_nobody, which is to own everything: make it first";
    expect(&restore("owned_not", &["--owner", "adapted_nobody"]), 1, &[missing, "CREATE ROLE \"adapted_nobody\""]);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'owned_not%'"), "0\n");
}

#[test]
fn a_member_of_a_role_makes_it_the_owner_and_nobody_else_does() {
    let (Some(server), Some(other)) = (postgres::shared(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE ROLE adapted_gone; CREATE DATABASE member OWNER adapted_gone");
    server.sql(
        "member",
        "CREATE EXTENSION hstore; CREATE SCHEMA app; CREATE TABLE app.t (id serial PRIMARY KEY, h hstore); INSERT INTO app.t (h) VALUES ('a=>1');
        CREATE TABLE u AS SELECT 1 AS x; CREATE VIEW v AS SELECT * FROM u; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
        ALTER TABLE u OWNER TO adapted_gone; GRANT SELECT ON v TO adapted_gone; COMMENT ON DATABASE member IS 'said'",
    );
    expect(&desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("member")]), 0, &[]);
    other.sql(
        "postgres",
        "CREATE ROLE app; CREATE ROLE others; CREATE ROLE deployer LOGIN CREATEDB PASSWORD 'deployer' IN ROLE app",
    );
    let restore = |name: &str, more: &[&str]| {
        let url = other.url(name).replace("postgres@", "deployer@");
        desk.run_with(
            &[("PGPASSWORD", "deployer")],
            &[&["restore", "latest", "--into-postgres", &url][..], more].concat(),
        )
    };
    expect(&restore("shop", &["--plan"]), 0, &["there is no role adapted_gone", "add --no-owner, or --owner ROLE"]);
    let refused = "user deployer may not act for role others, which is to own everything: as an administrator: GRANT \"others\" TO deployer";
    expect(&restore("shop", &["--owner", "others", "--plan"]), 1, &["OBSTACLE   ", refused]);
    expect(&restore("shop", &["--owner", "app", "--plan"]), 0, &["nothing stands against it"]);
    expect(&restore("shop", &["--owner", "app"]), 0, &["shop restored"]);
    assert_eq!(of_others(&other.fingerprint("shop"), "app"), Vec::<&str>::new());
    assert_eq!(without_owners(&other.fingerprint("shop")), without_owners(&server.fingerprint("member")));
    let database =
        "SELECT pg_get_userbyid(datdba), shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'";
    assert_eq!(other.sql("postgres", database), "app|said\n");
    other.sql("shop", "SET ROLE app; INSERT INTO app.t DEFAULT VALUES; ALTER TABLE u ADD y int; DROP FUNCTION f()");

    // Beside what is there the role makes what is its.
    other.sql("shop", "DROP TABLE u CASCADE; DROP TABLE app.t");
    let beside = ["--into-existing", "--table", "u", "--table", "t", "--owner", "app"];
    expect(&restore("shop", &beside), 0, &["shop restored"]);
    let owners = "SELECT relname, relowner::regrole FROM pg_class WHERE relkind IN ('r', 'S') AND relname IN ('u', 't', 't_id_seq') ORDER BY 1";
    assert_eq!(other.sql("shop", owners), "t|app\nt_id_seq|app\nu|app\n");

    expect(
        &desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("member"), "--postgres-plain"]),
        0,
        &[],
    );
    expect(&restore("plain", &["--owner", "app"]), 1, &["plain is a dump of SQL, which --owner cannot change"]);
}

#[test]
fn a_locale_that_a_server_lacks_is_told_before_and_another_takes_its_place() {
    let (Some(other), Some(server)) = (postgres::shared(), PostgresServer::start_with_locale("de_XX")) else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE sorted TEMPLATE template0 LC_COLLATE 'de_XX.UTF-8' LC_CTYPE 'de_XX.UTF-8'");
    server.sql("sorted", "CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ('b'), ('ä'), ('A')");
    let (here, there) = (restoring(&desk, &server), restoring(&desk, other));
    let locales = |server: &PostgresServer, name: &str| {
        let sql = "SELECT datcollate, datctype, datlocprovider, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = ";
        server.sql("postgres", &format!("{sql}'{name}'"))
    };
    for (name, backup) in [("locale_archive", &[][..]), ("locale_plain", &["--postgres-plain"])] {
        let source = server.url("sorted");
        let backup = [&["backup", "--postgres", &source][..], backup].concat();
        expect(&desk.run_with(&passfile(&server), &backup), 0, &[]);
        let lacks = format!("the server has no locale de_XX.UTF-8, which {name} has");
        expect(&there(name, &["--plan"]), 1, &[&format!("OBSTACLE   {lacks}"), "by --locale NAME", "indexes"]);
        expect(&there(name, &[]), 1, &[&lacks]);
        let nowhere = format!("the server has no locale xx_XX.UTF-8, with which {name} is to be made");
        expect(&there(name, &["--locale", "xx_XX.UTF-8"]), 1, &[&nowhere]);
        let note = format!(
            "{name} had locale de_XX.UTF-8 and gets C.UTF-8: texts, and so indexes, are in the order of that one"
        );
        expect(&there(name, &["--locale", "C.UTF-8", "--plan"]), 0, &[&note]);
        expect(&there(name, &["--locale", "C.UTF-8"]), 0, &[&note, &format!("{name} restored")]);
        assert_eq!(locales(other, name), "C.UTF-8|C.UTF-8|c|UTF8\n");
        assert_eq!(other.fingerprint(name), server.fingerprint("sorted"));
    }
    // Where it is, nothing is said of it.
    expect(&here("same", &["--plan"]), 0, &["nothing stands against it"]);
    expect(&here("same", &[]), 0, &["same restored"]);
    expect(&here("named", &["--locale", "de_XX.UTF-8", "--plan"]), 0, &["nothing stands against it"]);
    assert_eq!(locales(&server, "same"), "de_XX.UTF-8|de_XX.UTF-8|c|UTF8\n");
}

#[test]
fn another_locale_keeps_the_encoding_and_takes_the_place_of_one_of_icu() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    let made = |name: &str, clauses: &str| {
        server.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {clauses}"));
        server.sql(name, "CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ('b'), ('ä'), ('A')");
        expect(&desk.run_with(&env, &["backup", "--postgres", &server.url(name)]), 0, &[]);
    };
    let restore = restoring(&desk, server);
    let locale = |name: &str| {
        let sql = "SELECT datcollate, datlocprovider, daticulocale, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = ";
        server.sql("postgres", &format!("{sql}'{name}'"))
    };
    made("locale_icu", "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'");
    expect(&restore("locale_icu_same", &[]), 0, &[]);
    assert_eq!(locale("locale_icu_same"), "C.UTF-8|i|de-u-kn-true|UTF8\n");
    let note = "had locale de-u-kn-true and gets C.UTF-8";
    expect(&restore("locale_of_libc", &["--locale", "C.UTF-8"]), 0, &[note]);
    assert_eq!(locale("locale_of_libc"), "C.UTF-8|c||UTF8\n");

    made("locale_latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    expect(&restore("locale_latin_c", &["--locale", "POSIX"]), 0, &[]);
    // To PostgreSQL it is the same as C.
    assert_eq!(locale("locale_latin_c"), "C|c||LATIN1\n");
    let of_another = restore("locale_latin_utf8", &["--locale", "C.UTF-8"]);
    expect(&of_another, 1, &["encoding \"LATIN1\" does not match locale \"C.UTF-8\"", "nothing was changed"]);
}

const DEFINED: &str = "
    CREATE TABLE t (id INT PRIMARY KEY, note TEXT);
    INSERT INTO t VALUES (1, 'CREATE DEFINER=`adapted_old`@`%` VIEW'), (2, 'a\\nCREATE DEFINER=`adapted_old`@`%` VIEW');
    DELIMITER //
    CREATE DEFINER = 'adapted_old'@'%' VIEW v AS SELECT id, 'DEFINER=`adapted_old`@`%`' AS said FROM t //
    CREATE DEFINER = 'it`s @'@'10.%' SQL SECURITY INVOKER VIEW w AS SELECT * FROM v //
    CREATE DEFINER = 'adapted_old'@'%' TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN
      SET NEW.note = 'x';
    END //
    CREATE DEFINER = adapted_role PROCEDURE p() BEGIN
      PREPARE s FROM '
CREATE DEFINER=`adapted_old`@`%` VIEW z AS SELECT 1';
    END //
    CREATE DEFINER = 'adapted_old'@'%' FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1 //
    CREATE DEFINER = 'adapted_old'@'%' EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01' DO DELETE FROM t //
    SET sql_mode = 'ANSI_QUOTES' //
    CREATE DEFINER = 'adapted_old'@'%' PROCEDURE quoted() SELECT 1 AS \"x\" //
    SET sql_mode = '' //
    DELIMITER ;
";

fn definers(server: &MariaDbServer, database: &str) -> String {
    let of = |table: &str, name: &str, schema: &str| {
        format!("SELECT {name}, definer FROM information_schema.{table} WHERE {schema} = '{database}'")
    };
    let all = [
        of("views", "table_name", "table_schema"),
        of("routines", "routine_name", "routine_schema"),
        of("triggers", "trigger_name", "trigger_schema"),
        of("events", "event_name", "event_schema"),
    ];
    server.sql("", &format!("{} ORDER BY 1", all.join(" UNION ")))
}

#[test]
fn definers_that_a_server_lacks_are_told_before_and_another_takes_their_place() {
    let (Some(server), Some(other)) = (mariadb::shared(), MariaDbServer::start()) else { return };
    let desk = Desk::with_repository();
    server.sql(
        "",
        "CREATE USER adapted_old; CREATE USER 'it`s @'@'10.%'; CREATE ROLE adapted_role; CREATE DATABASE defined; GRANT ALL ON defined.* TO adapted_old",
    );
    server.sql("defined", DEFINED);
    expect(&desk.run(&["backup", "--mysql", &url(server, "defined")]), 0, &["1 stream"]);
    let restore = |name: &str, more: &[&str]| {
        desk.run(&[&["restore", "latest", "--into-mysql", &url(&other, name)][..], more].concat())
    };
    let named = "adapted_old@%, adapted_role, it`s @@10.%";
    let plan = restore("named", &["--plan"]);
    expect(&plan, 0, &["and are not there: ", "name another by --definer USER@HOST"]);
    for definer in named.split(", ") {
        expect(&plan, 0, &[definer]);
    }
    let missing = "there is no user the app@%, who is to define everything: make it first";
    expect(&restore("named", &["--definer", "the app@%"]), 1, &[missing]);
    assert_eq!(other.sql("", "SHOW DATABASES LIKE 'named'"), "");

    other.sql("", "CREATE USER 'the app'@'%'; GRANT ALL ON *.* TO 'the app'@'%'");
    expect(&restore("named", &["--definer", "the app@%", "--plan"]), 0, &["nothing stands against it"]);
    expect(&restore("named", &["--definer", "the app@%"]), 0, &["named restored"]);
    let expected = ["e", "f", "p", "quoted", "tr", "v", "w"].map(|name| format!("{name}\tthe app@%\n")).concat();
    assert_eq!(definers(&other, "named"), expected);
    let used = "SELECT COUNT(*) FROM w; SELECT f(); INSERT INTO t VALUES (3, ''); SELECT note FROM t WHERE id = 3; DELETE FROM t WHERE id = 3";
    assert_eq!(other.sql("named", used), "2\n1\nx\n");
    // Nothing else of it is changed: rows, texts and bodies name whom they named.
    for (sql, count) in [
        ("SELECT COUNT(*) FROM t WHERE note LIKE '%DEFINER=`adapted_old`@`\\%` VIEW'", "2\n"),
        ("SELECT COUNT(*) FROM v WHERE said = 'DEFINER=`adapted_old`@`%`'", "2\n"),
        (
            "SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = 'named' AND routine_name = 'p'
             AND routine_definition LIKE '%CREATE DEFINER=`adapted_old`@`\\%` VIEW z%'",
            "1\n",
        ),
    ] {
        assert_eq!(other.sql("named", sql), count, "{sql}");
    }
    // One that is replaced is tried with it before; so are parts.
    let in_place = ["--definer", "the app@%", "--in-place", "--confirm", "named"];
    expect(&restore("named", &in_place), 0, &["named restored"]);
    assert_eq!(definers(&other, "named"), expected);
    expect(&restore("part", &["--definer", "the app@%", "--table", "t", "--table", "v"]), 0, &["part restored"]);
    assert_eq!(definers(&other, "part"), "tr\tthe app@%\nv\tthe app@%\n");
    // Where they are, it is only said that they may have no rights under another name.
    let here = desk.run(&["restore", "latest", "--into-mysql", &url(server, "defined_here"), "--plan"]);
    expect(&here, 0, &["it can be done, with what the note says", "grant what they need ON `defined_here`.*"]);
}

#[test]
fn flags_for_other_servers_are_refused_where_they_mean_nothing() {
    let desk = Desk::with_repository();
    let nowhere = "postgresql://postgres@127.0.0.1:1/x";
    let (mysql, sqlite) = (["--into-mysql", "mysql://root@127.0.0.1:1/x"], ["--into-sqlite", "x.db"]);
    for (flag, engines) in [(&["--no-tablespaces"][..], &[mysql, sqlite][..]), (&["--owner", "app"], &[mysql, sqlite])]
    {
        let restore = |more: &[&str]| desk.run(&[&["restore", "latest"], flag, more].concat());
        for into in engines {
            expect(&restore(into), 2, &[&format!("{} means nothing for databases of ", flag[0])]);
        }
        let rows = ["--data-only", "--into-existing"];
        let more = if flag[0] == "--locale" { &rows[1..] } else { &rows[..] };
        for more in [&["--globals"][..], more] {
            let run = restore(&[&["--into-postgres", nowhere], more].concat());
            expect(&run, 2, &[&format!("the argument '{}", flag[0]), "cannot be used with", more[0]]);
        }
        expect(&restore(&["--target", "x"]), 2, &["cannot be used with", "--target"]);
    }
    let definer = ["restore", "latest", "--into-mysql", "mysql://root@127.0.0.1:1/x", "--definer", "app"];
    expect(&desk.run(&definer), 2, &["--definer", "this is no USER@HOST"]);
    let both = ["restore", "latest", "--into-postgres", nowhere, "--owner", "app", "--no-owner"];
    expect(&desk.run(&both), 2, &["the argument '--owner <ROLE>' cannot be used with '--no-owner'"]);
    expect(&desk.run(&["restore", "latest", "--into-postgres", nowhere, "--owner", ""]), 2, &["--owner"]);
}

#[test]
fn a_database_of_the_operating_system_s_locale_stays_one_where_others_are_made_with_icu() {
    let (Some(server), Some(other)) = (postgres::shared(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE locale_plain_libc");
    expect(&desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("locale_plain_libc")]), 0, &[]);
    // As `initdb --locale-provider=icu` makes it.
    let icu = "UPDATE pg_database SET datlocprovider = 'i', daticulocale = 'en-US' WHERE datname = 'template0'";
    other.sql("postgres", icu);
    expect(&restoring(&desk, &other)("sorted", &[]), 0, &["sorted restored"]);
    let provider = "SELECT datlocprovider, datcollate FROM pg_database WHERE datname = 'sorted'";
    assert_eq!(other.sql("postgres", provider), "c|C.UTF-8\n");
}

#[test]
fn nobody_else_gets_into_a_database_before_it_is_restored() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    let may = |name: &str| {
        let sql = format!("SELECT has_database_privilege('adapted_visitor', '{name}', 'CONNECT')");
        server.sql("postgres", &sql).trim().to_owned()
    };
    server.sql("postgres", "CREATE ROLE adapted_visitor; CREATE ROLE adapted_keeper; CREATE DATABASE closed_meanwhile");
    // It is filled while the database is restored.
    let looking = "CREATE MATERIALIZED VIEW meanwhile AS SELECT has_database_privilege('adapted_visitor', current_database(), 'CONNECT')
        OR has_database_privilege('adapted_keeper', current_database(), 'CONNECT') AS may";
    server.sql("closed_meanwhile", looking);
    let restore = restoring(&desk, server);
    for is_open in ["t", "f"] {
        if is_open == "f" {
            server.sql("postgres", "REVOKE CONNECT ON DATABASE closed_meanwhile FROM PUBLIC");
        }
        expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("closed_meanwhile")]), 0, &[]);
        for (more, owner) in
            [(&[][..], "postgres"), (&["--no-owner"], "postgres"), (&["--owner", "adapted_keeper"], "adapted_keeper")]
        {
            let name = format!("closed_{is_open}{}", more.len());
            let run = restore(&name, more);
            expect(&run, 0, &[&format!("{name} restored")]);
            assert_eq!((server.sql(&name, "SELECT may FROM meanwhile").trim(), may(&name).as_str()), ("f", is_open));
            let owned = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'");
            assert_eq!(server.sql("postgres", &owned).trim(), owner);
            let told = format!("only its owner may: for those who are to: GRANT CONNECT ON DATABASE \"{name}\" TO");
            let is_told = format!("{}{}", run.out, run.err).contains(&told);
            assert_eq!(is_told, is_open == "f" && !more.is_empty(), "{run:?}");
        }
    }
}

/// Makes a function of the server say something else in one database: what a server says of its databases is up to it.
fn lying(server: &PostgresServer, database: &str, arguments: &str, said: &str) {
    let said = said.replace('\\', "\\\\").replace('\'', "''");
    let sql =
        format!("CREATE FUNCTION pg_catalog.format({arguments}) RETURNS text LANGUAGE sql AS $$ SELECT E'{said}' $$");
    server.sql(database, &sql);
}

#[test]
fn nothing_that_a_server_or_a_snapshot_says_is_a_command_on_this_machine() {
    let Some(server) = PostgresServer::start() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(&server));
    let (mark, url) = (desk.at("was here"), server.url("lying"));
    let command = format!("\n\\! touch '{}'\n", mark.display());
    server.sql("postgres", "CREATE DATABASE lying; CREATE DATABASE path");
    server.sql("lying", "CREATE TABLE t AS SELECT 1 AS x");

    // The locale with which it was made.
    lying(&server, "lying", "text, name, text, text", &format!("ENCODING 'UTF8'{command}"));
    expect(&desk.run_with(&env, &["backup", "--postgres", &url]), 0, &[]);
    let facts = desk.facts("postgres/lying.dump")["facts"]["create_clauses"].to_string();
    assert!(facts.contains("touch"), "{facts}");
    let restore = restoring(&desk, &server);
    expect(&restore("told", &[]), 1, &["could not be asked to create a database", "syntax error"]);

    // The search path of its functions, which a second try uses.
    server.sql(
        "path",
        "CREATE TABLE dict AS SELECT 'a' AS v; 
        CREATE FUNCTION known(p text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE v = p)';
        CREATE TABLE data (v text CHECK (known(v))); INSERT INTO data VALUES ('a'); ALTER DATABASE path SET search_path TO public",
    );
    let text = command.replace('\\', "\\\\").replace('\'', "''");
    server.sql("postgres", &format!("UPDATE pg_db_role_setting SET setconfig = ARRAY[E'search_path=public{text}']"));
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("path")]), 0, &[]);
    expect(&restore("back", &[]), 1, &["COPY failed for table \"data\"", "nothing was left behind"]);

    // Where the session has another encoding, the second byte of a letter may swallow the quote or backslash behind it.
    let too = desk.at("was_here_too");
    server.sql("postgres", "CREATE DATABASE sjis; CREATE DATABASE odd");
    server.sql(
        "sjis",
        "CREATE TABLE dict AS SELECT 'a' AS v;
        CREATE FUNCTION known(p text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM dict WHERE v = p)';
        CREATE TABLE data (v text CHECK (known(v))); INSERT INTO data VALUES ('a'); ALTER DATABASE sjis SET search_path TO public;
        CREATE FUNCTION \"a A\"() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION \"b_Á' Á\\! touch was_here_too\n\"() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    server.sql(
        "postgres",
        "UPDATE pg_db_role_setting SET setconfig = ARRAY['search_path=public; SET client_encoding = ''SJIS''']
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = 'sjis')",
    );
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("sjis")]), 0, &[]);
    expect(&restore("sjis_back", &[]), 1, &["COPY failed for table \"data\"", "nothing was left behind"]);
    server.sql("odd", "CREATE TABLE \"t_Á' Á\"\" Á\\! touch was_here_too\" AS SELECT 1 AS x");
    let split = ["--jobs", "2", "--split-over", "1B"];
    let odd = server.url("odd");
    let backup = [&["backup", "--postgres", &odd][..], &split].concat();
    expect(&desk.run_with(&env, &backup), 0, &["2 streams"]);
    expect(&restore("odd_back", &[]), 0, &["odd_back restored"]);
    assert_eq!(server.sql("odd_back", "SELECT x FROM \"t_Á' Á\"\" Á\\! touch was_here_too\""), "1\n");

    // The names of its tables.
    lying(&server, "lying", "text, name, name", &format!("t IN ACCESS SHARE MODE;{command}"));
    let split = desk.run_with(&env, &[&["backup", "--postgres", &url][..], &split].concat());
    assert!(split.code != 0, "{split:?}");
    assert!(!mark.exists() && !too.exists(), "a command ran");
}

#[test]
fn a_dump_of_sql_runs_no_command_whoever_wrote_it() {
    let Some(server) = PostgresServer::start() else { return };
    let desk = Desk::with_repository();
    let mark = desk.at("was_here");
    let command = format!("\\! touch {}", mark.display());
    // Programs that write no key, and a command instead.
    let lying = |program: &str| {
        let is_own = "case \"$*\" in *--version*|*--help*) exec {program} \"$@\" ;; esac\n";
        let added = format!("s|^SET client_encoding.*$|&\\n\\{command}|");
        format!(
            "#!/bin/sh\n{}{program} \"$@\" | sed '/^.restrict /d; /^.unrestrict /d; {added}'\n",
            is_own.replace("{program}", program)
        )
    };
    let (dump, all) = (lying("pg_dump"), lying("pg_dumpall"));
    let listing = "#!/bin/sh\nexec pg_restore \"$@\"\n";
    let scripts = [("pg_dump", dump.as_str()), ("pg_dumpall", all.as_str()), ("pg_restore", listing)];
    let programs = desk.programs(&scripts, "psql");
    let env = [&passfile(&server)[..], &[("COFFRE_POSTGRES_BIN", programs.to_str().expect("plain"))]].concat();
    server.sql("postgres", "CREATE DATABASE written; CREATE ROLE adapted_made");
    server.sql("written", "CREATE TABLE t AS SELECT 1 AS x");
    let all = ["backup", "--postgres", &server.url(""), "--all-databases", "--postgres-plain"];
    expect(&desk.run_with(&env, &all), 0, &[]);
    for stream in ["written.sql", "globals.sql"] {
        let stored = desk.run(&["dump", &format!("latest:postgres/{stream}")]).out;
        assert!(stored.contains(&format!("\n{command}\n")) && !stored.contains("restrict "), "{stored}");
    }
    let restore = |more: &[&str]| {
        let into = ["restore", "latest", "--into-postgres", &server.url("")];
        desk.run_with(&passfile(&server), &[&into[..], more].concat())
    };
    expect(
        &restore(&["--database", "written=back"]),
        1,
        &["backslash commands are restricted", "nothing was left behind"],
    );
    expect(&restore(&["--globals"]), 3, &["globals restored", "backslash commands are restricted"]);
    assert!(!mark.exists(), "a command ran");
}

#[test]
fn without_owners_roles_that_are_needed_nevertheless_and_what_is_open_are_told() {
    let (Some(server), Some(other)) = (postgres::shared(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE ROLE adapted_ghost; CREATE DATABASE ghostly");
    server.sql(
        "ghostly",
        "CREATE TABLE t AS SELECT 1 AS x; CREATE POLICY seen ON t TO adapted_ghost USING (x = 1);
        CREATE FUNCTION f() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC;
        ALTER ROLE adapted_ghost IN DATABASE ghostly SET work_mem TO '5MB'",
    );
    expect(&desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("ghostly")]), 0, &[]);
    let restore = restoring(&desk, &other);
    let missing = "policies or user mappings of without are for roles that are not there: adapted_ghost";
    let open = "1 functions of without run with the rights of their owner, and not all might call them";
    expect(
        &restore("without", &["--no-owner", "--plan"]),
        0,
        &[missing, "type CREATE ROLE adapted_ghost; first", open],
    );
    let failed = [
        "without restored",
        "role \"adapted_ghost\" does not exist",
        "there is no role adapted_ghost, which had settings",
    ];
    expect(&restore("without", &["--no-owner"]), 3, &failed);
    other.sql("postgres", "CREATE ROLE adapted_ghost");
    expect(&restore("with", &["--no-owner"]), 0, &["with restored"]);
    let set = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'adapted_ghost'::regrole";
    assert_eq!(other.sql("with", &format!("{set}; SELECT polname FROM pg_policy")), "{work_mem=5MB}\nseen\n");
}

#[test]
fn tablespaces_that_may_not_be_used_are_told_before_a_row_moves() {
    let Some(server) = PostgresServer::start() else { return };
    let desk = Desk::with_repository();
    tabled(&desk, &server);
    server.sql("postgres", "CREATE ROLE deployer LOGIN CREATEDB PASSWORD 'deployer'");
    let restore = |name: &str, more: &[&str]| {
        let url = server.url(name).replace("postgres@", "deployer@");
        let restore = ["restore", "latest", "--into-postgres", &url, "--no-owner"];
        desk.run_with(&[("PGPASSWORD", "deployer")], &[&restore[..], more].concat())
    };
    let denied = "OBSTACLE   deployer may not use tablespace adapted Fast, adapted_slow, which shop uses: as an administrator: GRANT CREATE ON";
    expect(&restore("shop", &["--plan"]), 1, &[denied, "or add --no-tablespaces"]);
    expect(&restore("shop", &["--no-tablespaces"]), 0, &["shop restored"]);
    server.sql("postgres", "GRANT CREATE ON TABLESPACE \"adapted Fast\" TO deployer");
    let note = "note       deployer may not use tablespace adapted_slow, which shop2 uses";
    expect(&restore("shop2", &["--plan"]), 0, &[note]);
    let told = "deployer may not use tablespace adapted_slow, in which it was; it is in the usual one";
    expect(&restore("shop2", &[]), 3, &["shop2 restored", told]);
    assert_eq!(server.sql("shop2", TABLED_ROWS), server.sql("tabled", TABLED_ROWS));
}

#[test]
fn collations_that_a_new_database_lacks_are_asked_for_and_told_where_that_may_not_be() {
    let (Some(server), Some(other)) = (postgres::shared(), PostgresServer::start()) else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE collated");
    server.sql("collated", "CREATE TABLE t (v text COLLATE \"de-x-icu\"); INSERT INTO t VALUES ('ä')");
    expect(&desk.run_with(&passfile(server), &["backup", "--postgres", &server.url("collated")]), 0, &[]);
    // As if the server had been set up before it had the locale.
    other.sql("postgres", "ALTER DATABASE template0 ALLOW_CONNECTIONS true");
    for database in ["template0", "postgres"] {
        other.sql(database, "DELETE FROM pg_collation WHERE collname = 'de-x-icu'");
    }
    other.sql(
        "postgres",
        "ALTER DATABASE template0 ALLOW_CONNECTIONS false; CREATE ROLE app; CREATE ROLE deployer LOGIN CREATEDB PASSWORD 'deployer'",
    );
    let lacks = "no collation de-x-icu (of public.t)";
    let restore = restoring(&desk, &other);
    let note = format!("note       postgres has {lacks}, which shop uses");
    expect(&restore("shop", &["--plan"]), 0, &[&note, "the restore adds it"]);
    expect(&restore("shop", &["--owner", "app"]), 0, &["shop restored"]);
    assert_eq!(other.sql("shop", "SELECT v FROM t"), "ä\n");
    let of_app = "SELECT count(*) FROM pg_collation WHERE collowner = 'app'::regrole";
    assert_eq!(other.sql("shop", of_app), "0\n");
    let url = other.url("refused").replace("postgres@", "deployer@");
    let by_another = ["restore", "latest", "--into-postgres", &url, "--no-owner"];
    let told = format!("there is {lacks}: what needs it is not made");
    expect(&desk.run_with(&[("PGPASSWORD", "deployer")], &by_another), 1, &[&told, "nothing was left behind"]);
}

#[test]
fn who_acts_for_a_role_may_connect_meanwhile() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql(
        "postgres",
        "CREATE ROLE acted CREATEDB; CREATE ROLE actor LOGIN NOINHERIT PASSWORD 'actor' IN ROLE acted;
        ALTER ROLE actor SET role = 'acted'; CREATE DATABASE acting",
    );
    server.sql("acting", "CREATE TABLE t AS SELECT 1 AS a");
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("acting")]), 0, &["1 stream"]);
    let url = server.url("").replace("postgres@", "actor@");
    let restore = ["restore", "latest", "--into-postgres", &url, "--database", "acting=acted_for", "--no-owner"];
    expect(&desk.run_with(&[("PGPASSWORD", "actor")], &restore), 0, &["acted_for restored"]);
    let rights = server.sql("postgres", "SELECT datacl FROM pg_database WHERE datname = 'acted_for'");
    assert!(rights.contains("=Tc/acted") && !rights.contains("actor"), "{rights}");
}

#[test]
fn names_beyond_ascii_are_the_same_in_databases_of_other_encodings() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql(
        "postgres",
        "CREATE ROLE \"größe\"; CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    server.sql("latin", "CREATE TABLE t AS SELECT 1 AS a");
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url("latin")]), 0, &["1 stream"]);
    let url = server.url("");
    let restore = ["restore", "latest", "--into-postgres", &url, "--database", "latin=grüße", "--owner", "größe"];
    expect(&desk.run_with(&env, &restore), 0, &["grüße restored"]);
    let owner = "SELECT pg_get_userbyid(datdba), datacl FROM pg_database WHERE datname = 'grüße'";
    let owned = server.sql("postgres", owner);
    assert!(owned.starts_with("größe|") && owned.contains("=Tc/"), "{owned}");
}
