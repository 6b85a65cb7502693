//! The configuration of the README's chapter "Nightly", against real servers: a bucket of Ceph's, PostgreSQL and MariaDB.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::configuration::{alone, write};
use crate::support::ceph::{self, ceph};
use crate::support::daemon::skip;
use crate::support::desk::{Desk, Run};
use crate::support::{mariadb, postgres};

/// Returns the blocks of a language below a heading of the README.
fn blocks(heading: &str, language: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("there");
    let chapter = page.split(&format!("\n## {heading}\n")).nth(1).expect("a chapter").to_owned();
    let (chapter, fence) = (chapter.split("\n## ").next().expect("its text"), format!("```{language}\n"));
    let blocks = chapter.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().expect("an end").to_owned()).collect()
}

/// Writes a directory of credentials as systemd hands them to a service, with a key to the bucket.
fn credentials(desk: &Desk, name: &str, key: (&str, &str)) {
    fs::create_dir_all(desk.at(name)).expect("made");
    let lines = format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", key.0, key.1);
    fs::write(desk.at(name).join("coffre-s3"), lines).expect("written");
}

#[test]
fn the_chapter_of_the_readme_backs_up_files_and_databases() {
    let (Some(shop), Some(blog), Some(gateway)) = (postgres::shared(), mariadb::shared(), ceph()) else {
        return skip("a database server, or Ceph");
    };
    shop.sql("postgres", "CREATE DATABASE nightly_shop");
    shop.sql("nightly_shop", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    blog.sql(
        "",
        "CREATE DATABASE nightly_blog; USE nightly_blog; CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)",
    );
    let desk = Desk::new();
    let name = desk.directory.path().file_name().expect("named").display().to_string();
    let location = gateway.https(ceph::BUCKET, &format!("nightly/{}", name.trim_start_matches('.')));
    let with = |credentials: &str, arguments: &[&str]| -> Run {
        let mut command = alone(&desk, arguments);
        command.env("CREDENTIALS_DIRECTORY", desk.at(credentials)).env("COFFRE_CA_FILE", gateway.ca_file());
        command.output().expect("runs").into()
    };
    credentials(&desk, "keeper", ceph::OWNER);
    credentials(&desk, "credentials", ceph::LIMITED);
    write(&desk.at("coffre.toml"), "");
    let at = |name: &str| desk.at(name).display().to_string();
    let made = with(
        "keeper",
        &["init", "--repo", &location, "--recovery-kit", &at("kit"), "--password-file", &at("password")],
    );
    assert_eq!(made.code, 0, "{made:?}");
    let kit = fs::read_to_string(desk.at("kit")).expect("there");
    let identity = kit.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("there");
    // It opens the repository as well, and faster.
    fs::write(desk.at("password"), identity).expect("written");
    fs::create_dir_all(desk.at("source/sub")).expect("made");
    fs::write(desk.at("source/sub/b.txt"), "second file\n".repeat(10_000)).expect("written");
    fs::write(desk.at("credentials/coffre-postgres-password"), shop.password()).expect("written");
    fs::write(desk.at("credentials/coffre-mysql-password"), blog.password()).expect("written");
    fs::write(desk.at("hook"), format!("#!/bin/sh\ntouch {}\n", desk.at("flushed").display())).expect("written");
    fs::set_permissions(desk.at("hook"), fs::Permissions::from_mode(0o755)).expect("set");
    // Nobody listens there, which is told and no matter.
    fs::write(desk.at("url"), "http://127.0.0.1:9/s3cret\n").expect("written");
    fs::set_permissions(desk.at("url"), fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(desk.at("source/left-out.tmp"), "nothing").expect("written");
    let mut blocks = blocks("Nightly", "toml").into_iter();
    let (mut text, keeper) = (blocks.next().expect("of hosts"), blocks.next().expect("of the keeper"));
    for (written, here) in [
        ("/var/lib/prometheus/node-exporter/coffre.prom", at("coffre.prom")),
        ("s3://hetzner-fsn1/shop-backup/main", location.clone()),
        ("/etc/coffre/archive.passphrase", at("password")),
        ("\"/etc\", \"/srv/shop\"", format!("\"{}\"", at("source"))),
        ("/usr/local/bin/flush-shop", at("hook")),
        ("postgresql://backup@db1.internal/shop", shop.url("nightly_shop")),
        ("mysql://backup@db2.internal/blog", blog.url("nightly_blog")),
        ("/etc/coffre/databases.ping", at("url")),
        ("/etc/coffre/webhook", at("url")),
    ] {
        assert!(text.contains(written), "the README has no {written} any more");
        text = text.replace(written, &here);
    }
    write(&desk.at("coffre.toml"), &text);
    let run = |arguments: &[&str]| with("credentials", arguments);
    let checked = run(&["config", "check"]);
    let told = checked.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(checked.code == 0 && told.contains("works job databases: 2 streams; "), "{checked:?}");
    assert!(told.contains("0 snapshots; it stores, and may not delete"), "{checked:?}");
    for program in ["PostgreSQL ", " answers, pg_dump ", "-MariaDB"] {
        assert!(told.contains(program), "what was asked, and by what: {program}: {checked:?}");
    }
    // A database that is not there, and one that this user may not read.
    let password = shop.password().replace('\'', "''");
    shop.sql("nightly_shop", &format!("CREATE ROLE nightly_reader LOGIN PASSWORD '{password}'"));
    let reader = shop.url("nightly_shop").replace("postgres@", "nightly_reader@");
    for (there, gone, why) in [
        (shop.url("nightly_shop"), shop.url("nightly_gone"), "nightly_gone"),
        (blog.url("nightly_blog"), blog.url("nightly_gone"), "nightly_gone"),
        (shop.url("nightly_shop"), reader, "permission denied"),
    ] {
        write(&desk.at("coffre.toml"), &text.replace(&there, &gone));
        let wrong = run(&["config", "check"]);
        let told = wrong.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(wrong.code != 0 && told.contains("FAILED job databases: ") && told.contains(why), "{gone}: {wrong:?}");
    }
    write(&desk.at("coffre.toml"), &text);
    // What leaves a lease behind, as this host would, is waited for by who cleans up below.
    credentials(&desk, "credentials", ceph::OWNER);
    for _ in 0..2 {
        let done = run(&["run"]);
        assert_eq!(done.code, 0, "{done:?}");
        let jobs: Vec<&str> = done.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(jobs, ["databases", "files"], "{done:?}");
        assert!(done.err.contains("watch: http://127.0.0.1:9/…") && !done.err.contains("s3cret"), "{done:?}");
    }
    assert!(desk.at("flushed").exists() && desk.at("coffre.prom").exists());
    let paths = |job: &str| run(&["ls", "-R", "latest", "--job", job]).out;
    let (databases, files) = (paths("databases"), paths("files"));
    assert!(databases.contains("postgres/nightly_shop.dump") && databases.contains("nightly_blog"), "{databases}");
    assert!(files.contains("sub/b.txt") && !files.contains("left-out.tmp"), "{files}");
    assert_eq!(run(&["verify", "--read-data"]).code, 0);
    for schedule in ["schedule", "schedule --cron"] {
        let made = run(&schedule.split(' ').collect::<Vec<_>>());
        assert!(made.code == 0 && made.out.contains(" run"), "{made:?}");
    }

    // The machine that looks after the repository, and backs nothing up.
    let repository =
        format!("[repositories.archive]\nlocation = \"{location}\"\npassword-file = \"{}\"\n\n", at("password"));
    write(&desk.at("coffre.toml"), &(repository + &keeper));
    credentials(&desk, "credentials", ceph::LIMITED);
    let checked = run(&["config", "check"]);
    assert!(checked.code == 1 && checked.out.contains("and nothing can be deleted: delete sessions/"), "{checked:?}");
    let run = |arguments: &[&str]| with("keeper", arguments);
    let checked = run(&["config", "check"]);
    assert!(checked.code == 0 && checked.out.contains("4 snapshots; it stores and deletes"), "{checked:?}");
    let done = run(&["run"]);
    let work: Vec<&str> = done.out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!((done.code, work), (0, vec!["forget:", "prune:"]), "verifying was just done by hand: {done:?}");
    assert_eq!(run(&["run"]).out, "", "nothing is due any more");
    let status = run(&["status"]);
    assert!(status.code == 0 && status.out.contains("status    well"), "{status:?}");
}
