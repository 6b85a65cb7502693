//! Flags of the verbs that look: what they show, what they leave out, and in which order.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::desk::Desk;

/// 2026-11-01 00:00 UTC and so many days.
fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200 + days * 86_400)
}

/// A snapshot of four files whose orders by name, size, time and extension all differ.
fn desk_with_an_order() -> (Desk, String) {
    let desk = Desk::with_repository();
    fs::create_dir(desk.at("tree")).expect("made");
    for (name, size, days) in [("a.txt", 300, 2), ("B.PDF", 100, 3), ("c.pdf", 400, 0), ("d", 200, 1)] {
        let file = fs::File::create(desk.at("tree").join(name)).expect("made");
        std::io::Write::write_all(&mut &file, &vec![7; size]).expect("written");
        file.set_modified(day(days)).expect("set");
    }
    assert_eq!(desk.run(&["backup", "tree"]).code, 0);
    let root = desk.at("tree").display().to_string();
    (desk, root)
}

/// The names below the tree that a run printed, in the order in which it did.
fn names(desk: &Desk, root: &str, arguments: &[&str]) -> Vec<String> {
    let run = desk.run(arguments);
    assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
    let below = format!("{root}/");
    run.out.lines().filter_map(|line| Some(line.split_once(&below)?.1.to_owned())).collect()
}

#[test]
fn ls_sorts_by_name_size_time_and_extension_and_the_other_way_round() {
    let (desk, root) = desk_with_an_order();
    let spot = format!("latest:{root}");
    let orders: [(&str, [&str; 4]); 5] = [
        ("name", ["B.PDF", "a.txt", "c.pdf", "d"]),
        ("size", ["B.PDF", "d", "a.txt", "c.pdf"]),
        ("time", ["c.pdf", "d", "a.txt", "B.PDF"]),
        ("mtime", ["c.pdf", "d", "a.txt", "B.PDF"]),
        ("extension", ["d", "B.PDF", "c.pdf", "a.txt"]),
    ];
    for (by, mut order) in orders {
        assert_eq!(names(&desk, &root, &["ls", "--sort", by, &spot]), order, "{by}");
        order.reverse();
        assert_eq!(names(&desk, &root, &["ls", "-l", "--sort", by, "--reverse", &spot]), order, "{by}, reversed");
    }
    assert_eq!(names(&desk, &root, &["ls", &spot]), orders[0].1, "by name unless told");
    assert_eq!(names(&desk, &root, &["ls", "--reverse", &spot]), ["d", "c.pdf", "a.txt", "B.PDF"]);
}

#[test]
fn find_takes_capitals_as_told_and_times_with_their_ends() {
    let (desk, root) = desk_with_an_order();
    let found = |flags: &[&str]| names(&desk, &root, &[&["find"], flags].concat());
    assert_eq!(found(&["*.pdf"]), ["c.pdf"]);
    assert_eq!(found(&["-i", "*.pdf"]), ["B.PDF", "c.pdf"]);
    assert_eq!(found(&["--ignore-case", "A.TXT"]), ["a.txt"]);
    assert_eq!(found(&["[a-zA-Z]*", "--oldest", "2026-11-03", "--newest", "2026-11-04"]), ["B.PDF", "a.txt"]);
    assert_eq!(found(&["*.*", "d", "--newest", "2026-11-02"]), ["c.pdf", "d"]);
    assert_eq!(found(&["*.*", "d", "--newest", "2026-11-01 23:59"]), ["c.pdf"]);
    assert_eq!(found(&["B.PDF", "--oldest", "2026-11-04 00:00"]), ["B.PDF"]);
    let none = desk.run(&["find", "B.PDF", "--oldest", "2026-11-04 00:01"]);
    assert!(none.code == 1 && none.out.is_empty(), "{none:?}");
}

#[test]
fn snapshots_shows_those_named_and_the_newest_of_each_group() {
    let desk = Desk::with_repository();
    let backup = |host: &str, job: &str| {
        let events = desk.json(&["backup", "source", "--host", host, "--job", job]);
        events.last().expect("a summary")["snapshot"].as_str().expect("an id").to_owned()
    };
    let made = [("web", "a"), ("web", "b"), ("web", "a"), ("db", "a"), ("web", "a"), ("web", "b")];
    let ids: Vec<String> = made.iter().map(|(host, job)| backup(host, job)).collect();
    // Which of those made are shown, by their place.
    let shown = |flags: &[&str]| -> Vec<usize> {
        let listed = desk.json(&[&["snapshots"], flags].concat());
        let place = |id: &str| ids.iter().position(|made| made == id).expect("made here");
        listed.iter().map(|snapshot| place(snapshot["id"].as_str().expect("an id"))).collect()
    };
    assert_eq!(shown(&[]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(shown(&[&ids[3], &ids[1][..12]]), [3, 1]);
    assert_eq!(shown(&["latest", &ids[5], &ids[0]]), [5, 0], "each once");
    assert_eq!(shown(&["latest", "--host", "db"]), [3]);
    assert_eq!(shown(&["--latest"]), [3, 4, 5], "one of each host, job and sources");
    assert_eq!(shown(&["--latest", "2"]), [1, 2, 3, 4, 5]);
    assert_eq!(shown(&["--latest", "9"]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(shown(&["--latest", "2", "--group-by", "host"]), [3, 4, 5]);
    assert_eq!(shown(&["--latest", "1", "--group-by", "job"]), [4, 5]);
    assert_eq!(shown(&["--latest", "2", "--host", "web", "--job", "a"]), [2, 4]);
    let unknown = desk.run(&["snapshots", "ffffffffffff"]);
    assert!(unknown.code == 1 && unknown.err.contains("there is no snapshot"), "{unknown:?}");
}

#[test]
fn latest_says_which_it_is_where_other_hosts_or_jobs_have_snapshots() {
    let desk = Desk::with_repository();
    let latest = format!("latest:{}/a.txt", desk.at("source").display());
    let verbs: [&[&str]; 5] = [
        &["ls", "latest"],
        &["dump", &latest],
        &["restore", "latest", "--target", "out", "--dry-run"],
        &["diff", "latest", "latest"],
        &["find", "a.txt", "--snapshot", "latest"],
    ];
    let done = |arguments: &[&str]| assert_eq!(desk.run(arguments).code, 0, "{arguments:?}");
    done(&["backup", "source", "--host", "web6"]);
    for arguments in verbs {
        assert!(!desk.run(arguments).err.contains("others fit"), "{arguments:?}: there is one series");
    }
    done(&["backup", "source", "--host", "db1", "--job", "nightly"]);
    for arguments in verbs {
        let run = desk.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        assert!(run.err.contains(" of host db1, job nightly, 20"), "{arguments:?}: {run:?}");
        assert!(run.err.contains("others fit as well: host web6 without a job, 20"), "{arguments:?}: {run:?}");
        assert!(run.err.contains("--host and --job choose"), "{arguments:?}: {run:?}");
        assert!(!run.out.contains("others fit"), "{arguments:?}: {run:?}");
        assert!(!desk.run(&[&["-q"], arguments].concat()).err.contains("others fit"), "{arguments:?}: -q");
        for narrowed in [&["--host", "db1"][..], &["--job", "nightly"], &["--host", "web6"]] {
            let run = desk.run(&[arguments, narrowed].concat());
            assert!(run.code == 0 && !run.err.contains("others fit"), "{arguments:?} {narrowed:?}: {run:?}");
        }
    }
    for job in ["one", "two", "three"] {
        done(&["backup", "source", "--host", "db1", "--job", job]);
    }
    let run = desk.run(&["ls", "latest"]);
    assert!(run.err.contains(" of host db1, job three, ") && run.err.contains("; and 1 more (--host"), "{run:?}");
    let run = desk.run(&["ls", "latest", "--host", "db1"]);
    assert!(run.err.contains("others fit as well: host db1, job ") && !run.err.contains("web6"), "{run:?}");
    // By its id no other is meant.
    let id = desk.json(&["snapshots", "--latest"])[0]["id"].as_str().expect("an id").to_owned();
    assert!(!desk.run(&["ls", &id]).err.contains("others fit"));
}

#[test]
fn stats_of_snapshots_are_the_sums_of_what_they_hold() {
    let desk = Desk::with_repository();
    let backup = |host: &str, name: &str| {
        fs::write(desk.at("source").join(name), name.repeat(1000)).expect("written");
        let events = desk.json(&["backup", "source", "--host", host, "--command", "x.txt", "--", "echo", name]);
        events.last().expect("a summary")["snapshot"].as_str().expect("an id").to_owned()
    };
    let ids = [("web", "one"), ("db", "two"), ("web", "three")].map(|(host, name)| backup(host, name));
    let listed = desk.json(&["snapshots"]);
    let of = |flags: &[&str]| desk.json(&[&["stats"], flags].concat()).remove(0);
    let check = |flags: &[&str], chosen: &[usize]| {
        let stats = of(flags);
        assert_eq!(stats["snapshots"], chosen.len(), "{flags:?}");
        for (sum, field) in [
            ("files", "files"),
            ("directories", "directories"),
            ("streams", "streams"),
            ("others", "others"),
            ("restored_bytes", "bytes"),
            ("added_bytes", "stored_bytes"),
        ] {
            let wanted: u64 = chosen.iter().map(|&at| listed[at][field].as_u64().expect("a number")).sum();
            assert_eq!(stats[sum], wanted, "{sum} of {flags:?}");
        }
    };
    check(&["latest"], &[2]);
    check(&[&ids[1][..10], &ids[0], &ids[1]], &[0, 1]);
    check(&["--host", "web"], &[0, 2]);
    check(&["--latest"], &[1, 2]);
    check(&["--latest", "1", "--host", "db"], &[1]);
    check(&["--host", "nobody"], &[]);
    let whole = of(&[]);
    let all: u64 = listed.iter().map(|snapshot| snapshot["bytes"].as_u64().expect("a number")).sum();
    assert_eq!((&whole["snapshots"], &whole["restored_bytes"]), (&3.into(), &all.into()));
    assert!(whole["unique_bytes"].is_number() && of(&["latest"])["unique_bytes"].is_null());

    let shown = desk.run(&["stats", &ids[0]]);
    let lines: Vec<&str> = shown.out.lines().collect();
    assert_eq!(lines[0], "chosen    1 snapshot", "{shown:?}");
    assert!(
        lines[1].starts_with("contents  3 files, ") && lines[1].ends_with(", 1 stream, 1 other entry"),
        "{shown:?}"
    );
    assert_eq!(desk.run(&["stats", "ffffffffffff"]).code, 1);
}

#[test]
fn ncdu_reads_what_ls_writes_for_it() {
    let desk = Desk::with_repository();
    fs::remove_file(desk.at("source/link")).expect("there");
    crate::support::tree::plant_awkward(&desk.at("source"));
    // Deeper than programs like to recurse, and from before the epoch.
    fs::create_dir_all(desk.at("source").join("d/".repeat(200))).expect("made");
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(7);
    fs::File::open(desk.at("source/a.txt")).expect("there").set_modified(early).expect("set");
    assert_eq!(desk.run(&["backup", "source", "--command", "db/x.sql", "--", "echo", "select 1;"]).code, 0);
    for spot in ["latest".to_owned(), format!("latest:{}", desk.at("source/deep").display())] {
        let export = desk.command(&["ls", "--ncdu", &spot]).output().expect("runs");
        assert!(export.status.success(), "{export:?}");
        fs::write(desk.at("export"), &export.stdout).expect("written");
        let mut ncdu = std::process::Command::new("ncdu");
        ncdu.args(["-0", "-e", "-f", "export", "-o", "again"]).current_dir(desk.directory.path());
        let Ok(read) = ncdu.output() else { return crate::support::daemon::skip("ncdu") };
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        // What it understood is what it writes: as many names, and as many bytes of every file.
        let again = fs::read(desk.at("again")).expect("written");
        for field in ["\"name\":", "\"mtime\":", "\"notreg\":true", "\"hlnkc\":true"] {
            let count = |text: &[u8]| memchr::memmem::find_iter(text, field).count();
            assert_eq!(count(&again), count(&export.stdout), "{field} of {spot}");
        }
        // It leaves away what is zero.
        let sizes = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            let sizes = text.split("\"asize\":").skip(1).filter_map(|rest| rest.split([',', '}']).next()?.parse().ok());
            sizes.filter(|size| *size > 0).collect::<Vec<u64>>()
        };
        assert_eq!(sizes(&again), sizes(&export.stdout), "{spot}");
        for part in [&b"\"name\":\"not utf-8 \xff\xfe\""[..], b"\"asize\":20000000,\"dsize\":8192"] {
            let is_in = |text: &[u8]| memchr::memmem::find(text, part).is_some();
            assert!(spot != "latest" || is_in(&again), "{}", String::from_utf8_lossy(&again));
        }
    }
    assert_eq!(desk.run(&["ls", "--ncdu", "-l", "latest"]).code, 2);
    assert_eq!(desk.run(&["ls", "--ncdu", "--json", "latest"]).code, 2);
}
