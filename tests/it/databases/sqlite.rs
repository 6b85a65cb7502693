//! SQLite files there and back, while others write to them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use crate::databases::expect;
use crate::support::desk::Desk;

fn create(path: &Path, journal: &str) -> Connection {
    let connection = Connection::open(path).expect("opened");
    connection.busy_timeout(std::time::Duration::from_secs(30)).expect("set");
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = {journal};
             CREATE TABLE a (id INTEGER PRIMARY KEY, amount INT, pad BLOB); CREATE TABLE b AS SELECT * FROM a;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
             INSERT INTO a SELECT i, 100, randomblob(500) FROM n;
             INSERT INTO b SELECT * FROM a;
             CREATE VIEW v AS SELECT a.id, b.amount FROM a JOIN b USING (id);
             CREATE TRIGGER t AFTER DELETE ON a BEGIN DELETE FROM b WHERE id = old.id; END;"
        ))
        .expect("filled");
    connection
}

fn sum(path: &Path) -> i64 {
    let connection = Connection::open(path).expect("opened");
    let sql = "SELECT (SELECT sum(amount) FROM a) + (SELECT sum(amount) FROM b)";
    connection.query_row(sql, [], |row| row.get(0)).expect("a sum")
}

#[test]
fn a_database_that_is_written_to_is_copied_as_it_was_at_one_moment() {
    for journal in ["wal", "delete"] {
        let desk = Desk::with_repository();
        let (file, back) = (desk.at("app.db"), desk.at("back.db"));
        let (file_text, back_text) = (file.to_str().expect("plain"), back.to_str().expect("plain"));
        let writer = create(&file, journal);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn = turn % 7900 + 100;
                    let move_some = format!(
                        "BEGIN IMMEDIATE; UPDATE a SET amount = amount - 1 WHERE id < {turn};
                         UPDATE b SET amount = amount + 1 WHERE id < {turn}; COMMIT;"
                    );
                    writer.execute_batch(&move_some).expect("written");
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            });
            let run = desk.run(&[
                "backup",
                "--sqlite",
                file_text,
                "--spool-dir",
                desk.directory.path().to_str().expect("plain"),
            ]);
            stop.store(true, Ordering::Relaxed);
            expect(&run, 0, &["1 stream"]);
        });
        let stream = desk.facts(&format!("sqlite{file_text}"));
        assert_eq!((&stream["facts"]["journal_mode"], &stream["facts"]["tables"]), (&journal.into(), &2.into()));
        expect(&desk.run(&["restore", "latest", "--into-sqlite", back_text]), 0, &["restored"]);
        assert_eq!(sum(&back), 1_600_000, "{journal}");
        let left: Vec<_> = std::fs::read_dir(desk.directory.path())
            .expect("readable")
            .map(|item| item.expect("readable").file_name().into_string().expect("plain"))
            .filter(|name| name.contains("spool"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_database_in_use_is_replaced_under_its_users() {
    let desk = Desk::with_repository();
    let file = desk.at("app.db");
    let file_text = file.to_str().expect("plain");
    let user = create(&file, "wal");
    expect(&desk.run(&["backup", "--sqlite", file_text]), 0, &[]);
    user.execute_batch("DELETE FROM a; DROP VIEW v; CREATE TABLE c (x);").expect("changed");
    let restore = ["restore", "latest", "--into-sqlite", file_text];
    expect(&desk.run(&restore), 1, &["exists"]);
    expect(&desk.run(&[&restore[..], &["--in-place", "--confirm", file_text]].concat()), 0, &["restored"]);
    let seen: i64 = user.query_row("SELECT count(*) FROM v", [], |row| row.get(0)).expect("the view is back");
    assert_eq!(seen, 8000);
    drop(user);
    assert_eq!(sum(&file), 1_600_000);
}

#[test]
fn a_damaged_database_is_not_backed_up() {
    let desk = Desk::with_repository();
    let file = desk.at("app.db");
    drop(create(&file, "delete"));
    let mut bytes = std::fs::read(&file).expect("read");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&file, bytes).expect("written");
    let run = desk.run(&["backup", "--sqlite", file.to_str().expect("plain")]);
    expect(&run, 5, &["app.db is damaged; it said:", "so no snapshot was made"]);
    let missing = desk.run(&["backup", "--sqlite", "nothing.db"]);
    expect(&missing, 5, &["nothing.db could not be read"]);
    std::fs::write(desk.at("text.db"), "not a database at all\n".repeat(100)).expect("written");
    expect(&desk.run(&["backup", "--sqlite", "text.db"]), 5, &["text.db could not be"]);
    assert_eq!(desk.snapshot_count(), 0);
}

#[test]
fn a_restored_file_is_whose_it_was_and_never_mixed_with_what_another_left() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let desk = Desk::with_repository();
    let file = desk.at("app.db");
    let text = file.to_str().expect("plain");
    drop(create(&file, "delete"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
    expect(&desk.run(&["backup", "--sqlite", text]), 0, &["1 stream"]);
    let before = std::fs::metadata(&file).expect("there");
    let restore = ["restore", "latest", "--into-sqlite", text];
    for ending in ["-wal", "-journal"] {
        let left = desk.at(&format!("app.db{ending}"));
        let _ = std::fs::remove_file(&file);
        std::fs::write(&left, "of a crashed program").expect("written");
        expect(&desk.run(&restore), 1, &[ending, "SQLite would take it for a part of the restored database"]);
        assert!(!file.exists());
        std::fs::remove_file(&left).expect("removed");
    }
    expect(&desk.run(&restore), 0, &["app.db restored"]);
    let after = std::fs::metadata(&file).expect("there");
    let properties = |it: &std::fs::Metadata| (it.mode(), it.uid(), it.gid());
    assert_eq!(properties(&after), properties(&before));

    std::fs::write(&file, "no database any more").expect("written");
    let in_place = [&restore[..], &["--in-place", "--confirm", text]].concat();
    expect(&desk.run(&in_place), 1, &["app.db is not a SQLite database; move it away"]);
}

#[test]
fn a_database_that_only_its_own_program_understands_is_stored_and_what_was_not_checked_is_told() {
    let desk = Desk::with_repository();
    let (file, back) = (desk.at("music.db"), desk.at("back.db"));
    let connection = create(&file, "wal");
    connection
        .execute_batch(
            "CREATE TABLE titles (title TEXT COLLATE nocase); CREATE INDEX by_title ON titles (title);
             INSERT INTO titles VALUES ('a'), ('B'), ('c'); PRAGMA writable_schema = 1;
             UPDATE sqlite_schema SET sql = replace(sql, 'nocase', 'unicase'); PRAGMA writable_schema = 0;",
        )
        .expect("made");
    drop(connection);
    let told = "titles (no such collation sequence: unicase)";
    let backup = desk.run(&["backup", "--sqlite", file.to_str().expect("plain")]);
    expect(&backup, 0, &["whole page by page", told]);
    assert_eq!(desk.facts(&format!("sqlite{}", file.display()))["facts"]["unchecked"], told);
    let restored = desk.run(&["restore", "latest", "--into-sqlite", back.to_str().expect("plain")]);
    expect(&restored, 0, &["back.db restored", told]);
    assert_eq!(sum(&file), sum(&back));
    let titles = |path: &Path| -> i64 {
        let connection = Connection::open(path).expect("opened");
        connection.query_row("SELECT sum(length(title)) FROM titles NOT INDEXED", [], |row| row.get(0)).expect("a sum")
    };
    assert_eq!((titles(&file), titles(&back)), (3, 3));
}
