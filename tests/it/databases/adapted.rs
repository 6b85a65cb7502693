//! Restores into a server that is another one: without its tablespaces, owners, locales or definers, and the flags for that.

use crate::databases::expect;
use crate::databases::postgres::passfile;
use crate::support::desk::{Desk, Run};
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
        INSERT INTO p VALUES (1); CREATE INDEX ON p (a) TABLESPACE pg_default",
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
    let each = "could not set \"default_tablespace\" to \"adapted Fast\"";
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

#[test]
fn flags_for_other_servers_are_refused_where_they_mean_nothing() {
    let desk = Desk::with_repository();
    let nowhere = "postgresql://postgres@127.0.0.1:1/x";
    let (mysql, sqlite) = (["--into-mysql", "mysql://root@127.0.0.1:1/x"], ["--into-sqlite", "x.db"]);
    for (flag, engines) in [(&["--no-tablespaces"][..], &[mysql, sqlite][..])] {
        let restore = |more: &[&str]| desk.run(&[&["restore", "latest"], flag, more].concat());
        for into in engines {
            expect(&restore(into), 2, &[&format!("{} means nothing for databases of ", flag[0])]);
        }
        let rows = ["--data-only", "--into-existing"];
        for more in [&["--globals"][..], &rows] {
            let run = restore(&[&["--into-postgres", nowhere], more].concat());
            expect(&run, 2, &[&format!("the argument '{}", flag[0]), "cannot be used with", more[0]]);
        }
        expect(&restore(&["--target", "x"]), 2, &["cannot be used with", "--target"]);
    }
}
