//! Parts of databases: one table comes back, alone or into a database that is there, and nothing else is touched.

use crate::databases::mysql::url;
use crate::databases::postgres::passfile;
use crate::databases::{expect, summary};
use crate::support::desk::{Desk, Run};
use crate::support::mariadb;
use crate::support::postgres::{self, PostgresServer};

const POSTGRES_SHOP: &str = "
    CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('well', 'ill'); CREATE SEQUENCE app.numbers START 40;
    CREATE TABLE app.customers (id serial PRIMARY KEY, mood app.mood);
    CREATE TABLE app.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES app.customers,
      note text CHECK (note <> ''), number int DEFAULT nextval('app.numbers'));
    CREATE INDEX ON app.orders (note); COMMENT ON COLUMN app.orders.note IS 'said';
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touch BEFORE INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touch();
    CREATE TABLE public.\"odd table\" (x int); CREATE VIEW app.seen AS SELECT * FROM app.orders;
    CREATE TABLE public.months (a int, b int, PRIMARY KEY (a)) PARTITION BY RANGE (a);
    CREATE TABLE public.months_1 PARTITION OF public.months FOR VALUES FROM (0) TO (10);
    INSERT INTO app.customers (mood) VALUES ('well'), ('ill'); INSERT INTO public.months VALUES (1, 2);
    INSERT INTO app.orders (customer, note) SELECT 1, 'note ' || n FROM generate_series(1, 500) n";
const ORDERS: &str = "SELECT count(*), sum(id), sum(number), md5(string_agg(note, ',' ORDER BY id)) FROM app.orders";

fn shop(server: &PostgresServer, name: &str) {
    server.sql("postgres", &format!("CREATE DATABASE {name}"));
    server.sql(name, &POSTGRES_SHOP.replace('\\', ""));
}

/// Backs a database up and returns what restores parts of it.
fn kept<'a>(desk: &'a Desk, server: &'a PostgresServer, name: &str) -> impl Fn(&str, &[&str]) -> Run + 'a {
    let env = passfile(server);
    expect(&desk.run_with(&env, &["backup", "--postgres", &server.url(name)]), 0, &["1 stream"]);
    move |name, more| {
        let restore = ["restore", "latest", "--into-postgres", &server.url(name)];
        desk.run_with(&passfile(server), &[&restore[..], more].concat())
    }
}

#[test]
fn a_table_of_postgres_comes_back_alone_with_what_belongs_to_it() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    shop(server, "parts_alone");
    let restore = kept(&desk, server, "parts_alone");
    let run = restore("parts_one", &["--table", "app.orders"]);
    let left_out =
        "table app.customers, view app.seen, table public.months, table public.months_1, table public.odd table";
    expect(
        &run,
        0,
        &["parts_one restored", "not asked for, and not restored", "fk constraint app.orders orders_customer_fkey"],
    );
    expect(&run, 0, &["made besides, without rows, as it is needed: schema app", "function app.touch()"]);
    for part in left_out.split(", ") {
        expect(&run, 0, &[part]);
    }
    assert_eq!(server.sql("parts_one", ORDERS), server.sql("parts_alone", ORDERS));
    let objects =
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE oid >= 16384 AND relnamespace <> 99;
        SELECT tgname FROM pg_trigger WHERE NOT tgisinternal; SELECT col_description('app.orders'::regclass, 3);
        SELECT nextval('app.numbers')";
    let expected = "numbers orders orders_id_seq orders_note_idx orders_pkey\ntouch\nsaid\n540\n";
    let there = server.sql("parts_one", objects);
    assert_eq!(there.lines().last(), expected.lines().last(), "{there}");
    assert!(there.contains("touch\nsaid") && there.contains("orders_note_idx orders_pkey"), "{there}");
    // Partitions come with their table, and a table may have a space in its name.
    expect(&restore("parts_months", &["--table", "months", "--table", "odd*"]), 0, &["parts_months restored"]);
    assert_eq!(server.sql("parts_months", "SELECT * FROM months; SELECT count(*) FROM \"odd table\""), "1|2\n0\n");
    expect(&restore("parts_month", &["--table", "months_1"]), 0, &["not restored: table attach public.months_1"]);
    let references = "not restored: fk constraint app.orders orders_customer_fkey";
    expect(&restore("parts_customers", &["--table", "customers"]), 0, &[references]);
    let none = restore("parts_none", &["--table", "app.order", "--table", "months"]);
    expect(&none, 1, &["no table like app.order; it has app.customers, app.orders", "nothing was changed"]);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'parts_none%'"), "0\n");
    expect(&restore("parts_schema", &["--schema-only"]), 0, &["not restored: all rows"]);
    let counts = "SELECT count(*) FROM app.orders; SELECT count(*) FROM pg_views WHERE schemaname = 'app'";
    assert_eq!(server.sql("parts_schema", counts), "0\n1\n");
}

#[test]
fn a_table_of_postgres_goes_into_a_database_that_is_there_or_nothing_of_it() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    shop(server, "parts_there");
    let restore = kept(&desk, server, "parts_there");
    let before = server.fingerprint("parts_there");
    let table = ["--table", "orders", "--into-existing"];
    let run = restore("parts_there", &table);
    expect(&run, 1, &["parts_there has app.orders already", "nothing of it was changed"]);
    assert_eq!(server.fingerprint("parts_there"), before);
    server.sql("parts_there", "DROP TABLE app.orders CASCADE; UPDATE app.customers SET mood = 'ill'");
    expect(
        &restore("parts_there", &["--table", "orders", "--into-existing", "--data-only"]),
        1,
        &["has no app.orders for the rows"],
    );
    expect(&restore("parts_there", &table), 0, &["parts_there restored"]);
    assert_eq!(server.sql("parts_there", "SELECT count(*) FROM app.customers WHERE mood = 'ill'"), "2\n");
    server.sql(
        "parts_there",
        "UPDATE app.customers SET mood = 'well' WHERE id = 1; CREATE VIEW app.seen AS SELECT * FROM app.orders",
    );
    assert_eq!(server.fingerprint("parts_there"), before);
    // Rows alone: all of them, or none.
    let rows = ["--table", "app.orders", "--into-existing", "--data-only"];
    server.sql("parts_there", "DELETE FROM app.orders WHERE id <> 7");
    expect(&restore("parts_there", &rows), 1, &["duplicate key", "nothing of it was changed"]);
    assert_eq!(server.sql("parts_there", "SELECT count(*) FROM app.orders"), "1\n");
    server.sql("parts_there", "DELETE FROM app.orders; SELECT setval('app.orders_id_seq', 900)");
    expect(&restore("parts_there", &rows), 0, &["sequences stay where they are", "how tables are made"]);
    let last = "SELECT last_value FROM app.orders_id_seq; SELECT setval('app.orders_id_seq', 500)";
    assert_eq!(server.sql("parts_there", last), "900\n500\n");
    assert_eq!(server.fingerprint("parts_there"), before);
    // What would touch more than tables, or nothing.
    expect(&restore("parts_there", &["--into-existing"]), 1, &["name tables by --table ('*' for all of them)"]);
    let view = ["--table", "seen", "--into-existing", "--data-only"];
    expect(&restore("parts_there", &view), 1, &["has no rows of what was asked for", "nothing was changed"]);
    expect(&restore("parts_there", &[&table[..], &["--skip-extension", "x"]].concat()), 2, &["--skip-extension"]);
    expect(&restore("parts_nowhere", &table), 1, &["there is no database parts_nowhere to restore into"]);
}

#[test]
fn parts_of_split_and_plain_dumps_are_restored_or_refused() {
    let Some(server) = postgres::shared() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(server));
    shop(server, "parts_split");
    let source = server.url("parts_split");
    let split = ["backup", "--postgres", &source, "--jobs", "2", "--split-over", "8KiB"];
    expect(&desk.run_with(&env, &split), 0, &[]);
    let restore = |name: &str, more: &[&str]| {
        let restore = ["restore", "latest", "--into-postgres", &server.url(name)];
        desk.run_with(&env, &[&restore[..], more].concat())
    };
    expect(&restore("parts_split_one", &["--table", "orders"]), 0, &["parts_split_one restored"]);
    assert_eq!(server.sql("parts_split_one", ORDERS), server.sql("parts_split", ORDERS));
    expect(&restore("parts_split_schema", &["--schema-only"]), 0, &[]);
    assert_eq!(server.sql("parts_split_schema", "SELECT count(*) FROM app.orders"), "0\n");
    expect(
        &restore("parts_split", &["--table", "orders", "--into-existing"]),
        1,
        &["--split-over", "--database OLD=NEW"],
    );
    expect(&desk.run_with(&env, &["backup", "--postgres", &source, "--postgres-plain"]), 0, &[]);
    expect(
        &restore("parts_plain", &["--table", "orders"]),
        1,
        &["is a dump of SQL (--postgres-plain), which is restored whole"],
    );
}

const MARIADB_SHOP: &str = "
    CREATE TABLE customers (id int AUTO_INCREMENT PRIMARY KEY, name text);
    CREATE TABLE orders (id int AUTO_INCREMENT PRIMARY KEY, customer int, note text, FOREIGN KEY (customer) REFERENCES customers (id));
    CREATE TABLE plain (x int) ENGINE = MyISAM; CREATE VIEW seen AS SELECT * FROM orders;
    INSERT INTO customers (name) VALUES ('Zoe'), ('-- Table structure for table `x`');
    INSERT INTO orders (customer, note) SELECT 1, CONCAT('note ', seq) FROM seq_1_to_500; INSERT INTO plain VALUES (1);
    CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = COALESCE(NEW.note, 'none');
    CREATE PROCEDURE p() SELECT 1";
const ROWS: &str = "SELECT COUNT(*), SUM(id), MD5(GROUP_CONCAT(note ORDER BY id)) FROM orders";

#[test]
fn a_table_of_mariadb_comes_back_alone_and_into_a_database_that_is_there() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE parts_shop");
    server.sql("parts_shop", MARIADB_SHOP);
    let (before, rows) = (server.fingerprint("parts_shop"), server.sql("parts_shop", ROWS));
    expect(&desk.run(&["backup", "--mysql", &url(server, "parts_shop")]), 0, &["1 stream"]);
    let restore = |name: &str, more: &[&str]| {
        desk.run(&[&["restore", "latest", "--into-mysql", &url(server, name)][..], more].concat())
    };
    let alone = restore("parts_one", &["--table", "ord*"]);
    let told = "not asked for, and not restored: table customers, table plain, view seen, procedures and functions";
    expect(&alone, 0, &["parts_one restored", told]);
    assert_eq!(server.sql("parts_one", ROWS), rows);
    assert_eq!(
        server.sql(
            "parts_one",
            "SHOW TABLES; SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'parts_one'"
        ),
        "orders\ntouch\n"
    );
    let none = restore("parts_none", &["--table", "Orders"]);
    expect(&none, 1, &["no table like Orders; it has customers, orders, plain, seen", "nothing was changed"]);
    assert_eq!(server.sql("", "SHOW DATABASES LIKE 'parts\\_none%'"), "");
    expect(&restore("parts_schema", &["--schema-only"]), 0, &["not restored: all rows"]);
    assert_eq!(
        server.sql("parts_schema", "SELECT COUNT(*) FROM seen; SELECT COUNT(*) FROM plain; CALL p()"),
        "0\n0\n1\n"
    );

    let table = ["--table", "orders", "--into-existing"];
    expect(&restore("parts_shop", &table), 1, &["parts_shop has orders already", "nothing of it was changed"]);
    server.sql("parts_shop", "DROP TABLE orders; UPDATE customers SET name = 'Anna' WHERE id = 1");
    expect(&restore("parts_shop", &[&table[..], &["--data-only"]].concat()), 1, &["has no orders for the rows"]);
    expect(&restore("parts_shop", &table), 0, &["parts_shop restored"]);
    assert_eq!(server.sql("parts_shop", "SELECT name FROM customers WHERE id = 1"), "Anna\n");
    server.sql("parts_shop", "UPDATE customers SET name = 'Zoe' WHERE id = 1");
    assert_eq!(server.fingerprint("parts_shop"), before);
    // Rows alone: all of them, or none.
    let data = [&table[..], &["--data-only"]].concat();
    server.sql("parts_shop", "DELETE FROM orders WHERE id <> 400");
    expect(&restore("parts_shop", &data), 1, &["Duplicate entry", "no row was added"]);
    assert_eq!(server.sql("parts_shop", "SELECT COUNT(*) FROM orders"), "1\n");
    server.sql("parts_shop", "DELETE FROM orders");
    let run = restore("parts_shop", &[&data[..], &["--json"]].concat());
    expect(&run, 0, &[]);
    assert_eq!(summary(&run)["databases"][0]["left_out"][0], "how tables are made");
    assert_eq!(server.fingerprint("parts_shop"), before);
}

#[test]
fn what_was_made_beside_is_dropped_again_when_the_rest_fails() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("", "CREATE DATABASE parts_undo; CREATE DATABASE parts_other");
    server
        .sql("parts_undo", "CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE t (y int); CREATE VIEW v AS SELECT * FROM t");
    server.sql("parts_other", "CREATE TABLE kept AS SELECT 3 AS x");
    expect(&desk.run(&["backup", "--mysql", &url(server, "parts_undo")]), 0, &["1 stream"]);
    let restore = ["restore", "latest", "--into-mysql", &url(server, "parts_other"), "--into-existing"];
    let run = desk.run(&[&restore[..], &["--table", "a", "--table", "v"]].concat());
    expect(&run, 1, &["parts_other is as it was: the tables that were made are dropped again", "parts_other.t"]);
    assert_eq!(server.sql("parts_other", "SHOW TABLES; SELECT x FROM kept"), "kept\n3\n");
}

#[test]
fn a_sqlite_database_is_restored_whole_only() {
    let desk = Desk::with_repository();
    let file = desk.at("app.db");
    let database = rusqlite::Connection::open(&file).expect("opened");
    database.execute_batch("CREATE TABLE t (x)").expect("made");
    let file = file.to_str().expect("text");
    expect(&desk.run(&["backup", "--sqlite", file]), 0, &[]);
    let other = desk.at("other.db");
    let restore = ["restore", "latest", "--into-sqlite", other.to_str().expect("text")];
    let run = desk.run(&[&restore[..], &["--table", "t"]].concat());
    expect(&run, 1, &["SQLite databases are restored whole"]);
    assert!(!other.exists());
    expect(&desk.run(&[&restore[..], &["--data-only"]].concat()), 2, &["--into-existing"]);
    expect(&desk.run(&[&restore[..], &["--table", "x["]].concat()), 2, &["\"x[\" is no pattern for names"]);
    expect(&desk.run(&["restore", "latest", "--target", "x", "--table", "t"]), 2, &["--table", "--target"]);
}
