//! Dumps as files: what the page beside them says, typed as it stands, brings databases back by the programs of their engines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::databases::mysql::url;
use crate::databases::postgres::passfile;
use crate::databases::{expect, summary};
use crate::support::desk::{Desk, Run};
use crate::support::mariadb;
use crate::support::postgres::PostgresServer;

/// Types what the page in a directory says, each line changed by `adapt`.
fn type_page(directory: &Path, variables: &[(&str, &str)], adapt: impl Fn(&str) -> String) {
    let page = page(directory);
    let typed = page.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with('#'));
    for line in typed {
        let mut shell = Command::new("sh");
        shell.args(["-c", &adapt(line)]).current_dir(directory).env_clear().stdin(Stdio::null());
        shell.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").envs(variables.iter().copied());
        let run: Run = shell.output().expect("runs").into();
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }
    assert!(!directory.join("hit").exists(), "no name runs anything");
}

fn page(directory: &Path) -> String {
    fs::read_to_string(directory.join("README.txt")).expect("there")
}

/// Returns the files that a run says it has written, after a look at their permissions and lengths.
fn files(desk: &Desk, directory: &str, run: &Run) -> Vec<String> {
    assert_eq!(run.code, 0, "{run:?}");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let root = desk.at(directory);
    assert_eq!((mode(&root), mode(&root.join("README.txt"))), (0o700, 0o600));
    let told = summary(run)["files"].as_array().expect("a list").clone();
    let file = |told: &Value| {
        let file = told["file"].as_str().expect("a text").to_owned();
        let path = root.join(&file);
        assert_eq!((mode(&path), mode(path.parent().expect("below"))), (0o600, 0o700), "{file}");
        assert_eq!(told["bytes"], fs::metadata(&path).expect("there").len(), "{file}");
        file
    };
    told.iter().map(file).collect()
}

#[test]
fn a_server_of_postgres_comes_back_by_its_own_programs_with_roles_and_split_tables() {
    let Some(server) = PostgresServer::start() else { return };
    let (desk, env) = (Desk::with_repository(), passfile(&server));
    let names = ["shop", "it's \"odd\" =$(touch hit)/../x"];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    server.sql("postgres", "CREATE ROLE shopapp LOGIN PASSWORD 'x'");
    for name in names {
        server.sql("postgres", &format!("CREATE DATABASE {} OWNER shopapp", quoted(name)));
        server.sql(
            name,
            "CREATE TABLE item (id int PRIMARY KEY, note text); ALTER TABLE item OWNER TO shopapp;
             INSERT INTO item SELECT n, 'note ' || n FROM generate_series(1, 2000) n;
             CREATE TABLE part (item int REFERENCES item); INSERT INTO part VALUES (7);
             CREATE VIEW seen AS SELECT note FROM item; GRANT SELECT ON seen TO shopapp",
        );
    }
    let before = names.map(|name| server.fingerprint(name));
    let backup = ["backup", "--postgres", &server.url(""), "--all-databases", "--jobs", "2", "--split-over", "16KiB"];
    expect(&desk.run_with(&env, &backup), 0, &["6 streams"]);
    let written = files(&desk, "dumps", &desk.run(&["--json", "restore", "latest", "--to-directory", "dumps"]));
    let odd = "postgres/it%27s%20%22odd%22%20%3D%24%28touch%20hit%29%2F..%2Fx";
    let of_odd = [format!("{odd}.dump"), format!("{odd}.tables/public.item.dump")];
    let others = ["globals.sql", "postgres.dump", "shop.dump", "shop.tables/public.item.dump"];
    let mut expected: Vec<String> = others.iter().map(|name| format!("postgres/{name}")).chain(of_odd).collect();
    expected.sort();
    assert_eq!(written[0], "postgres/globals.sql", "first");
    assert_eq!(
        {
            let mut sorted = written;
            sorted.sort();
            sorted
        },
        expected
    );

    names.iter().for_each(|name| drop(server.sql("postgres", &format!("DROP DATABASE {}", quoted(name)))));
    server.sql("postgres", "DROP ROLE shopapp");
    let port = server.port().to_string();
    type_page(&desk.at("dumps"), &[env[0], ("PGPORT", port.as_str())], str::to_owned);
    assert_eq!(names.map(|name| server.fingerprint(name)), before);
    let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()";
    names.iter().for_each(|name| assert_eq!(server.sql(name, owner), "shopapp\n"));

    // Parts of a snapshot: one database, or roles alone.
    let one = desk.run(&["--json", "restore", "latest", "--to-directory", "one", "--database", "shop"]);
    assert_eq!(files(&desk, "one", &one), ["postgres/shop.dump", "postgres/shop.tables/public.item.dump"]);
    let roles = desk.run(&["--json", "restore", "latest", "--to-directory", "roles", "--globals"]);
    assert_eq!(files(&desk, "roles", &roles), ["postgres/globals.sql"]);
    let half = desk.run(&["restore", "latest:postgres/shop.dump", "--to-directory", "half"]);
    expect(&half, 1, &["of shop 1 main streams and 0 of 1 tables"]);
    assert!(!desk.at("half").exists());
}

#[test]
fn a_database_of_mariadb_comes_back_by_its_own_program_whatever_its_name() {
    let Some(server) = mariadb::shared() else { return };
    let desk = Desk::with_repository();
    let name = "-to dir` é=$(touch hit)";
    server.sql("", &format!("CREATE DATABASE `{}` CHARACTER SET latin1 COLLATE latin1_bin", name.replace('`', "``")));
    server.sql(
        name,
        "CREATE TABLE t (id INT PRIMARY KEY, note VARCHAR(40)); INSERT INTO t SELECT seq, CONCAT('note ', seq) FROM seq_1_to_900;
         CREATE VIEW v AS SELECT note FROM t; CREATE PROCEDURE p() SELECT 1",
    );
    let before = server.fingerprint(name);
    expect(&desk.run(&["backup", "--mysql", &url(server, name)]), 0, &["1 stream"]);
    let written = files(&desk, "dumps", &desk.run(&["--json", "restore", "latest", "--to-directory", "dumps"]));
    assert_eq!(written, ["mysql/%2Dto%20dir%60%20%C3%A9%3D%24%28touch%20hit%29.sql"]);
    server.sql("", &format!("DROP DATABASE `{}`", name.replace('`', "``")));
    let connection = format!(
        "--defaults-file={} --protocol=tcp --host=127.0.0.1 --port={} --user=root",
        server.option_file().display(),
        server.port()
    );
    type_page(&desk.at("dumps"), &[], |line| line.replace("--user=root --password", &connection));
    assert_eq!(server.fingerprint(name), before);
    assert_eq!(server.sql(name, "SELECT @@collation_database"), "latin1_bin\n");
}

fn create(path: &Path, rows: u32) {
    let connection = Connection::open(path).expect("opened");
    let filled = format!(
        "CREATE TABLE a (x BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO a SELECT randomblob(900) FROM n"
    );
    connection.execute_batch(&filled).expect("filled");
}

fn rows(path: &Path) -> u32 {
    let connection = Connection::open(path).expect("opened");
    connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).expect("counted")
}

#[test]
fn a_file_of_sqlite_is_put_where_it_was_and_what_is_damaged_keeps_no_other_away() {
    let desk = Desk::with_repository();
    let (first, second) = (desk.at("my app$(touch hit).db"), desk.at("second.db"));
    create(&first, 40);
    create(&second, 400);
    fs::set_permissions(&first, fs::Permissions::from_mode(0o640)).expect("set");
    let [first_name, second_name] = [&first, &second].map(|path| path.to_str().expect("plain"));
    expect(&desk.run(&["backup", "--sqlite", first_name]), 0, &["1 stream"]);
    let packs = || crate::support::files_in(&desk.at("repository/packs"));
    let earlier = packs();
    expect(&desk.run(&["backup", "--sqlite", first_name, "--sqlite", second_name]), 0, &["2 streams"]);
    let whole = desk.run(&["--json", "restore", "latest", "--to-directory", "dumps"]);
    assert_eq!(files(&desk, "dumps", &whole).len(), 2);
    fs::remove_file(&first).expect("removed");
    fs::remove_file(&second).expect("removed");
    type_page(&desk.at("dumps"), &[], str::to_owned);
    assert_eq!((rows(&first), rows(&second)), (40, 400));
    assert_eq!(fs::metadata(&first).expect("there").permissions().mode() & 0o777, 0o640);

    // The pack that has the second one alone.
    let later = packs().into_iter().filter(|(name, _)| !earlier.contains_key(name));
    let (name, mut bytes) = later.max_by_key(|(_, bytes)| bytes.len()).expect("there is one");
    let (path, middle) = (desk.at("repository/packs").join(name), bytes.len() / 2);
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(&path, bytes).expect("written");
    let some = desk.run(&["restore", "latest", "--to-directory", "some"]);
    let said = ["hit%29.db written", "second.db NOT WRITTEN, see below", "there is no file of this name", "--salvage"];
    expect(&some, 4, &said);
    let kept = crate::support::files_in(&desk.at("some"));
    assert_eq!(kept.len(), 2, "one dump and the page: {:?}", kept.keys());
    assert!(page(&desk.at("some")).contains("NOT HERE") && !page(&desk.at("some")).contains(second_name));
    let none = desk.run(&["restore", "latest", "--to-directory", "none", "--database", second_name]);
    expect(&none, 4, &["there is no file of this name"]);
    assert!(!desk.at("none").exists());
}

#[test]
fn no_dump_goes_where_something_is_or_beside_another_target() {
    let desk = Desk::with_repository();
    create(&desk.at("app.db"), 1);
    expect(&desk.run(&["backup", "--sqlite", "app.db"]), 0, &[]);
    let restore = |more: &[&str]| desk.run(&[&["restore", "latest"], more].concat());
    for (directory, told) in [
        ("source", "source has something in it already"),
        ("source/a.txt", "source/a.txt is no directory that can be used"),
        ("no/such/place", "no/such is no directory to make no/such/place in"),
    ] {
        expect(&restore(&["--to-directory", directory]), 2, &[told]);
    }
    for others in [
        ["--into-postgres", "postgresql://postgres@localhost/"],
        ["--into-sqlite", "new.db"],
        ["--target", "new"],
        ["--table", "a"],
    ] {
        expect(&restore(&[&["--to-directory", "new"][..], &others].concat()), 2, &["cannot be used with"]);
    }
    expect(&restore(&["--to-directory", "new", "--database", "other"]), 1, &["has no database \"other\""]);
    expect(&restore(&["--to-directory", "new", "--globals"]), 1, &["has no roles or users"]);
    desk.backup();
    expect(&restore(&["--to-directory", "new"]), 1, &["has no dumps of databases", "--job NAME"]);
    assert!(!desk.at("new").exists(), "none of them made it");
    fs::create_dir(desk.at("new")).expect("made");
    for mode in [0o777, 0o720] {
        fs::set_permissions(desk.at("new"), fs::Permissions::from_mode(mode)).expect("set");
        expect(&restore(&["--to-directory", "new"]), 2, &["new may be written by others", "chmod go-w"]);
    }
    std::os::unix::fs::symlink("new", desk.at("link")).expect("made");
    expect(&restore(&["--to-directory", "link/"]), 2, &["link/ is a link"]);
}
