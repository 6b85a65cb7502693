//! Rows are counted while they are dumped, and digested where that is asked for; a restore says whether they came back.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::databases::mysql::url;
use crate::databases::postgres::passfile;
use crate::databases::{expect, fixture, summary};
use crate::support::desk::{Desk, Run};
use crate::support::mariadb;
use crate::support::postgres;

/// A table of a stream: its name, how many rows it has, and whether there is a digest of them.
type Counted = (String, u64, bool);

/// Returns what is kept of the tables of a stream, after making sure that all of its rows are among them or told.
fn counted(facts: &Value) -> Vec<Counted> {
    let tables: Vec<Value> = serde_json::from_str(facts["rows_by_table"].as_str().expect("counted")).expect("a list");
    let table = |table: &Value| {
        let name = table[0].as_str().expect("a name").to_owned();
        (name, table[1].as_u64().expect("a number"), table[2].as_str().is_some_and(|digest| digest.len() == 40))
    };
    let tables: Vec<Counted> = tables.iter().map(table).collect();
    let sum: u64 = tables.iter().map(|(_, rows, _)| rows).sum();
    let all = facts["rows"].as_u64().expect("a number");
    assert!(sum == all || sum < all && facts["tables_unlisted"].as_u64().is_some_and(|count| count > 0), "{facts}");
    tables
}

/// Returns what a restore with `--json` says of the rows of its only database.
fn compared(run: &Run) -> Value {
    summary(run)["databases"][0]["compared"].clone()
}

#[test]
fn awkward_rows_of_postgres_are_the_same_where_everything_is_set_otherwise() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    // With a time zone and ways to write dates, intervals, bytes and floats of its own, which the copy gets at the end.
    server.load("digests_there", &fixture("postgres.sql"));
    // Rows of these are put into the table above, and may come into the other one. A child has its columns in another order when it is
    // made anew.
    server.sql(
        "digests_there",
        "CREATE TYPE public.kind AS ENUM ('x', 'y'); CREATE TABLE public.kinds (k public.kind) PARTITION BY HASH (k);
        CREATE TABLE public.kinds_0 PARTITION OF public.kinds FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE public.kinds_1 PARTITION OF public.kinds FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO public.kinds VALUES ('x'), ('y'), ('y'); CREATE TABLE public.twice (x text, y float);
        INSERT INTO public.twice VALUES ('', 0.1), ('', 0.1), ('', 0.1), (NULL, 'NaN'), ('\\N', NULL);
        CREATE TABLE public.above (a int); CREATE TABLE public.child (own int) INHERITS (public.above);
        ALTER TABLE public.above ADD COLUMN late int; INSERT INTO public.child VALUES (1, 2, 3)",
    );
    let url = server.url("digests_there");
    expect(&desk.run_with(&env, &["backup", "--postgres", &url, "--digest"]), 0, &["1 stream"]);
    let facts = &desk.facts("postgres/digests_there.dump")["facts"];
    assert_eq!((&facts["rows_digested"], &facts["bytea_output"]), (&json!("postgres 1"), &json!("escape")));
    let tables = counted(facts);
    let (objects, of_rows): (Vec<_>, Vec<_>) = tables.iter().partition(|(name, ..)| name == "large objects");
    assert!(objects.len() == 1 && !objects[0].2 && of_rows.iter().all(|(.., is_digested)| *is_digested), "{tables:?}");
    let questions: Vec<String> = of_rows.iter().map(|(name, ..)| format!("SELECT count(*) FROM ONLY {name}")).collect();
    let counts: Vec<u64> = of_rows.iter().map(|(_, rows, _)| *rows).collect();
    let answers = server.sql("digests_there", &questions.join(";\n"));
    assert_eq!(answers.lines().map(|line| line.parse().expect("a number")).collect::<Vec<u64>>(), counts);
    let has = |wanted: &str, expected| of_rows.iter().any(|(name, rows, _)| name == wanted && *rows == expected);
    assert!(has("shop.no_columns", 3) && has("shop.no_rows", 0) && has("public.twice", 5), "{tables:?}");
    assert!(!tables.iter().any(|(name, ..)| name.contains("kinds")), "{tables:?}");

    let restore = ["--json", "restore", "latest", "--into-postgres", &server.url("digests_back")];
    let run = desk.run_with(&env, &restore);
    expect(&run, 0, &[]);
    let compared = compared(&run);
    let of = |name: &str| compared[name].as_u64().expect("a number");
    assert_eq!(compared["differing"], json!([]), "{compared}");
    // Of one it is not known by the digest, and large objects are counted.
    assert_eq!((of("same_tables"), of("digested_tables")), (tables.len() as u64 - 1, tables.len() as u64 - 2));
    assert_eq!(of("same_rows"), tables.iter().map(|(_, rows, _)| rows).sum::<u64>() - 1);
    let others = "public.child (it has as many rows; its columns are others, or in another order)";
    assert_eq!(compared["not_compared"], json!(["2 other tables (too many, or not kept by name)", others]));
    server.sql("postgres", "DROP DATABASE digests_back");
}

#[test]
fn split_and_plain_dumps_of_postgres_are_compared_and_what_a_restore_lost_is_told() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    server.sql("postgres", "CREATE DATABASE digests_small");
    server.sql(
        "digests_small",
        "CREATE TABLE many AS SELECT n AS x, repeat('x', 200) AS pad FROM generate_series(1, 900) n; CREATE TABLE few (x int);
        INSERT INTO few VALUES (1), (2); CREATE TABLE hidden (x int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    );
    let url = server.url("digests_small");
    let run = desk.run_with(&env, &["backup", "--postgres", &url, "--postgres-plain", "--digest"]);
    expect(&run, 0, &["1 stream"]);
    let expected: [Counted; 3] =
        [("public.few", 2), ("public.hidden", 0), ("public.many", 900)].map(|(name, rows)| (name.into(), rows, true));
    assert_eq!(counted(&desk.facts("postgres/digests_small.sql")["facts"]), expected);
    let run = desk.run_with(&env, &["restore", "latest", "--into-postgres", &server.url("digests_plain")]);
    expect(&run, 0, &["  3 tables with 902 rows compared with the dump, by digests: same\n"]);

    let split = ["backup", "--postgres", &url, "--digest", "--jobs", "2", "--split-over", "100KiB"];
    expect(&desk.run_with(&env, &split), 0, &["2 streams"]);
    assert_eq!(counted(&desk.facts("postgres/digests_small.dump")["facts"]), expected[..2]);
    let part = desk.facts("postgres/digests_small.tables/public.many.dump");
    assert_eq!(counted(&part["facts"]), expected[2..]);
    // Somebody takes from it while it is restored.
    let taking = "DELETE FROM public.few WHERE x = 1; UPDATE public.many SET x = -7 WHERE x = 7";
    let script = format!(
        "#!/bin/sh\npg_restore \"$@\"\nstatus=$?\nfor it; do\n  case $it in --dbname=*) psql -X -q \"$it\" -c '{taking}' \
         >/dev/null 2>&1 ;; esac\ndone\nexit $status\n"
    );
    let programs = desk.programs(&[("pg_restore", &script)], "psql");
    let lossy = [&env[..], &[("COFFRE_POSTGRES_BIN", programs.to_str().expect("plain"))]].concat();
    let target = server.url("digests_lossy");
    let run = desk.run_with(&lossy, &["--json", "restore", "latest", "--into-postgres", &target]);
    let told = "these rows are not those of the dump: public.few (2 rows dumped, 1 there), public.many (as many, 900, and other rows)";
    expect(&run, 3, &[told, "\"suspicious\""]);
    let differing = json!([
        {"dumped_rows": 2, "name": "public.few", "restored_rows": 1},
        {"dumped_rows": 900, "name": "public.many", "restored_rows": 900},
    ]);
    let (summary, compared) = (summary(&run), compared(&run));
    assert_eq!((&summary["outcome"], &compared["differing"]), (&json!("incomplete"), &differing));
    assert_eq!((&compared["same_tables"], &compared["same_rows"]), (&json!(1), &json!(0)));

    // Nobody looks, where nobody is to.
    let target = server.url("digests_unseen");
    let run = desk.run_with(&lossy, &["--json", "restore", "latest", "--into-postgres", &target, "--no-compare"]);
    expect(&run, 0, &[]);
    assert_eq!(self::compared(&run), Value::Null);
    // Of a table alone, that one is compared.
    let one = ["restore", "latest", "--into-postgres", &server.url("digests_one"), "--table", "few"];
    expect(&desk.run_with(&env, &one), 0, &["  1 table with 2 rows compared with the dump, by digests: same\n"]);
}

#[test]
fn awkward_rows_of_mariadb_are_the_same_and_what_a_restore_lost_is_told() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.load("digests_there", &fixture("mariadb.sql"));
    // Rows that are there twice, and a table whose rows are those of others.
    server.sql(
        "digests_there",
        "CREATE TABLE twice (x VARCHAR(9), y FLOAT, z TIMESTAMP NULL);
        INSERT INTO twice VALUES ('', 0.1, '2020-01-02 03:04:05'), ('', 0.1, '2020-01-02 03:04:05'), (NULL, NULL, NULL), ('\\\\''(),', 1e10, NULL);
        CREATE TABLE united (x VARCHAR(9)) ENGINE = MERGE",
    );
    expect(&desk.run(&["backup", "--mysql", &url(server, "digests_there"), "--digest"]), 0, &["1 stream"]);
    let facts = &desk.facts("mysql/digests_there.sql")["facts"];
    assert_eq!(facts["rows_digested"], "mysql 1");
    let tables = counted(facts);
    assert!(tables.iter().all(|(.., is_digested)| *is_digested), "{tables:?}");
    let rows = |name: &str| tables.iter().find(|(table, ..)| table == name).map(|(_, rows, _)| *rows);
    for (table, question) in [
        ("items", "items"),
        ("no_rows", "no_rows"),
        ("prices", "prices FOR SYSTEM_TIME ALL"),
        ("events", "events"),
        ("Table `with` \"quotes\" and spaces", "`Table ``with`` \"quotes\" and spaces`"),
        ("two\nlines; and a semicolon", "`two\nlines; and a semicolon`"),
    ] {
        let count = server.sql("digests_there", &format!("SELECT COUNT(*) FROM {question}"));
        assert_eq!(rows(table), count.trim().parse().ok(), "{table}");
    }
    assert_eq!((rows("twice"), rows("united")), (Some(4), None));

    let run = desk.run(&["restore", "latest", "--into-mysql", &url(server, "digests_back")]);
    let all = tables.iter().map(|(_, rows, _)| rows).sum::<u64>();
    let tables = tables.len();
    expect(&run, 0, &[]);
    let said = run.out.lines().find(|line| line.contains("compared with the dump")).expect("said");
    let said: String = said.chars().filter(|c| c.is_ascii() && *c != ' ').collect();
    assert_eq!(said, format!("{tables}tableswith{all}rowscomparedwiththedump,bydigests:same"), "{run:?}");

    // Without digests rows are counted. Somebody takes from them while they are restored.
    server.sql(
        "",
        "CREATE DATABASE digests_small; USE digests_small; CREATE TABLE few AS SELECT seq AS x FROM seq_1_to_3;
        CREATE TABLE many AS SELECT seq AS x FROM seq_1_to_500; CREATE TABLE Past (x INT) WITH SYSTEM VERSIONING;
        INSERT INTO Past VALUES (1), (2); DELETE FROM Past WHERE x = 1; CREATE SEQUENCE s",
    );
    expect(&desk.run(&["backup", "--mysql", &url(server, "digests_small")]), 0, &["1 stream"]);
    let small = &desk.facts("mysql/digests_small.sql")["facts"];
    let expected: [Counted; 3] =
        [("Past", 2), ("few", 3), ("many", 500)].map(|(name, rows)| (name.into(), rows, false));
    assert_eq!(counted(small), expected);
    let script = "#!/bin/sh\nmariadb \"$@\"\nstatus=$?\ncase \"$*\" in *--show-warnings*) echo 'DELETE FROM few WHERE x = 2; \
        UPDATE many SET x = 7' | mariadb \"$@\" >/dev/null 2>&1 ;; esac\nexit $status\n";
    let programs = desk.programs(&[("mariadb", script)], "mariadb-dump");
    let bin = [("COFFRE_MYSQL_BIN", programs.to_str().expect("plain"))];
    let run = desk.run_with(&bin, &["restore", "latest", "--into-mysql", &url(server, "digests_lossy")]);
    expect(&run, 3, &["these rows are not those of the dump: few (3 rows dumped, 2 there)"]);
    expect(&run, 3, &["  3 tables compared with the dump: 1 NOT THE SAME, see above\n"]);
    let run = desk.run_with(&bin, &["restore", "latest", "--into-mysql", &url(server, "digests_no"), "--no-compare"]);
    expect(&run, 0, &["digests_no restored"]);
    assert!(!run.out.contains("compared"), "{run:?}");
}

#[test]
fn rows_of_sqlite_are_digested_whatever_tables_they_are_of_and_digests_need_a_database() {
    let desk = Desk::with_repository();
    let (file, back) = (desk.at("app.db"), desk.at("back.db"));
    let schema = "PRAGMA encoding = 'UTF-16le'; CREATE TABLE \"odd \"\"name\" (a, b AS (a || 'x'), c AS (1) STORED);
        INSERT INTO \"odd \"\"name\" VALUES (NULL), (''), (x''), (x'00ff0a'), (1), ('1'), (1.0), (9e999), ('ü' || char(10)), ('1');
        CREATE TABLE keyed (k TEXT COLLATE nocase PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO keyed VALUES ('A', zeroblob(100000));
        CREATE TABLE empty (x INTEGER PRIMARY KEY AUTOINCREMENT); CREATE VIEW seen AS SELECT * FROM keyed;
        CREATE VIRTUAL TABLE words USING fts5(word); INSERT INTO words VALUES ('one'), ('two')";
    Connection::open(&file).expect("made").execute_batch(schema).expect("filled");
    let file = file.to_str().expect("plain");
    expect(&desk.run(&["backup", "--sqlite", file, "--digest"]), 0, &["1 stream"]);
    let facts = &desk.facts(&format!("sqlite{file}"))["facts"];
    let tables = counted(facts);
    let has = |wanted: &str, expected| tables.contains(&(wanted.to_owned(), expected, true));
    assert!(has("odd \"name", 10) && has("keyed", 1) && has("empty", 0) && has("words_content", 2), "{tables:?}");
    assert!(
        !tables.iter().any(|(name, ..)| ["words", "seen", "sqlite_sequence"].contains(&name.as_str())),
        "{tables:?}"
    );
    let said =
        format!("  {} tables with {} rows compared with the dump, by digests: same\n", tables.len(), facts["rows"]);
    expect(&desk.run(&["restore", "latest", "--into-sqlite", back.to_str().expect("plain")]), 0, &[said.as_str()]);
    let source = desk.at("source");
    let none = desk.run(&["backup", source.to_str().expect("plain"), "--digest"]);
    expect(&none, 2, &["--digest is about the rows of databases, and none is named"]);
}
