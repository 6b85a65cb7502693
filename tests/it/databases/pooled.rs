//! PostgreSQL behind a pooler of connections, and a standby of it.

use crate::databases::expect;
use crate::databases::postgres::passfile;
use crate::support::desk::{Desk, Run};
use crate::support::pgbouncer::Pooler;
use crate::support::postgres::{self, PostgresServer};

/// What an application finds in a session that it is given; it is busy for a moment, so that another one gets another session.
const SETTINGS: &str = "SELECT current_setting('search_path'), current_setting('default_transaction_read_only'),
    current_setting('default_transaction_isolation'), current_setting('statement_timeout'), current_setting('lock_timeout'),
    current_setting('row_security'), current_setting('bytea_output'), current_setting('extra_float_digits'),
    current_setting('synchronize_seqscans'), current_setting('intervalstyle') FROM pg_sleep(0.2)";

const SHOP: &str = "CREATE SCHEMA app; CREATE TABLE app.item (id int PRIMARY KEY, note text);
    INSERT INTO app.item SELECT n, 'note ' || n FROM generate_series(1, 3000) n;
    CREATE TABLE part (item int REFERENCES app.item); INSERT INTO part VALUES (7);
    CREATE VIEW seen AS SELECT note FROM app.item; CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM part'";

const SPLIT: [&str; 4] = ["--jobs", "3", "--split-over", "16KiB"];

#[test]
fn behind_a_pooler_a_dump_is_whole_or_refused_and_no_session_of_the_pool_is_changed() {
    let Some(server) = postgres::shared() else { return };
    let desk = Desk::with_repository();
    server.sql("postgres", "CREATE DATABASE pooled");
    server.sql("pooled", SHOP);
    let (before, fresh) = (server.fingerprint("pooled"), server.sql("pooled", SETTINGS));
    let backup = |pooler: &Pooler, more: &[&str]| -> Run {
        let env = [("PGPASSFILE", pooler.passfile().to_str().expect("plain"))];
        desk.run_with(&env, &[&["backup", "--postgres", &pooler.url("pooled")][..], more].concat())
    };

    let Some(pooler) = Pooler::start(server, "session", 8) else { return };
    for (name, more) in [("pooled_whole", &[][..]), ("pooled_split", &SPLIT[..])] {
        expect(&backup(&pooler, more), 0, &[]);
        let restore = ["restore", "latest", "--into-postgres", &server.url(name)];
        expect(&desk.run_with(&passfile(server), &restore), 0, &["restored"]);
        assert_eq!(server.fingerprint(name), before, "{name}");
    }
    assert_eq!(pooler.sql_at_once("pooled", SETTINGS, 3), vec![fresh.clone(); 3]);

    // A pool that keeps sessions for nobody, and has as many as an application uses meanwhile.
    let Some(pooler) = Pooler::start(server, "transaction", 2) else { return };
    pooler.sql_at_once("pooled", SETTINGS, 2);
    for more in [&[][..], &SPLIT[..]] {
        let told = ["a pooler shares the sessions of the server between transactions", "pool_mode = session"];
        expect(&backup(&pooler, more), 5, &told);
    }
    assert_eq!(desk.snapshot_count(), 2);
    assert_eq!(pooler.sql_at_once("pooled", SETTINGS, 2), vec![fresh; 2]);
    let into = ["restore", "latest", "--into-postgres", &pooler.url("pooled"), "--table", "part", "--into-existing"];
    let env = [("PGPASSFILE", pooler.passfile().to_str().expect("plain"))];
    expect(&desk.run_with(&env, &into), 1, &["a pooler shares the sessions"]);
}

#[test]
fn a_standby_is_dumped_with_the_rows_that_it_has_and_what_it_lacks_is_told() {
    let Some(primary) = PostgresServer::start() else { return };
    let desk = Desk::with_repository();
    primary.sql("postgres", "CREATE ROLE shopapp; CREATE DATABASE shop OWNER shopapp");
    primary.sql("shop", SHOP);
    primary.sql("shop", "CREATE UNLOGGED TABLE app.fast (x int); INSERT INTO app.fast VALUES (1), (2)");
    let standby = primary.standby();
    assert_eq!(standby.sql("shop", "SELECT pg_is_in_recovery(), count(*) FROM app.item"), "t|3000\n");
    let told = "a standby has no rows of unlogged tables, so the dump has none of these: app.fast";
    let all = ["backup", "--postgres", &standby.url(""), "--all-databases"];
    for more in [&[][..], &SPLIT[..]] {
        expect(&desk.run_with(&passfile(&standby), &[&all[..], more].concat()), 0, &[told]);
    }
    // Nothing can be put into it.
    let into = ["restore", "latest", "--into-postgres", &standby.url(""), "--database", "shop=copy"];
    expect(&desk.run_with(&passfile(&standby), &into), 1, &["read-only"]);
    drop(standby);

    let back = ["restore", "latest", "--into-postgres", &primary.url(""), "--database", "shop=shop_back"];
    expect(&desk.run_with(&passfile(&primary), &back), 0, &["shop_back restored"]);
    assert_eq!(primary.sql("shop_back", "SELECT count(*) FROM app.fast"), "0\n");
    primary.sql("shop", "TRUNCATE app.fast");
    assert_eq!(primary.fingerprint("shop_back"), primary.fingerprint("shop"));
}
