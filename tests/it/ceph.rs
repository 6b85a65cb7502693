//! The real program at a real Ceph gateway: killed at random moments, and two hosts at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::ceph::{self, ceph};
use crate::support::random_bytes;
use crate::support::tree::describe;

/// A repository at the gateway, and a directory for sources and targets.
struct Site {
    directory: tempfile::TempDir,
    location: String,
    ca_file: Option<PathBuf>,
}

impl Site {
    /// Makes a repository; over TLS when asked.
    fn new(tls: bool) -> Option<Self> {
        let gateway = ceph()?;
        let directory = tempfile::tempdir().expect("made");
        let prefix = format!("program/{}", directory.path().file_name()?.to_str()?.trim_start_matches('.'));
        let (location, ca_file) = match tls {
            true => (gateway.https(ceph::BUCKET, &prefix), Some(gateway.ca_file())),
            false => (gateway.http(ceph::BUCKET, &prefix), None),
        };
        let site = Self { directory, location, ca_file };
        fs::write(site.at("password"), "a passphrase that people remember").expect("written");
        let made = site.json("owner", ceph::OWNER, &["init", "--show-identity"]).pop().expect("a summary");
        // The recovery identity is as good a key, and opens faster.
        fs::write(site.at("password"), made["recovery_identity"].as_str().expect("shown once")).expect("written");
        Some(site)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program on a host with a cache of its own.
    fn command(&self, host: &str, key: (&str, &str), arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffre"));
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("COFFRE_REPO", &self.location)
            .env("COFFRE_HOST", host)
            .env("COFFRE_CACHE_DIR", self.at(&format!("cache-{host}")))
            .env("COFFRE_PASSWORD_FILE", self.at("password"))
            .env("AWS_ACCESS_KEY_ID", key.0)
            .env("AWS_SECRET_ACCESS_KEY", key.1);
        if let Some(file) = &self.ca_file {
            command.env("COFFRE_CA_FILE", file);
        }
        command
    }

    fn json(&self, host: &str, key: (&str, &str), arguments: &[&str]) -> Vec<Value> {
        let output = self.command(host, key, &[&["--json"], arguments].concat()).output().expect("runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
    }

    fn snapshots(&self, host: &str) -> Vec<String> {
        let listed = self.json("owner", ceph::OWNER, &["snapshots", "--host", host]);
        listed.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Restores the source of a snapshot on a machine that has seen nothing yet, and compares.
    fn assert_restores(&self, snapshot: &str, source: &Path) {
        let target = self.at("target");
        let _ = fs::remove_dir_all(&target);
        let path = format!("{snapshot}:{}", source.display());
        self.json("bare", ceph::OWNER, &["restore", &path, "--target", target.to_str().expect("plain")]);
        assert!(describe(&target) == describe(source), "{snapshot} restores what was backed up");
    }

    fn assert_verifies(&self) {
        let report = self.json("auditor", ceph::OWNER, &["verify", "--read-data"]);
        assert_eq!(report.last().expect("a summary")["clean"], true);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

/// Twenty runs are killed at random moments; whatever they left, everything visible is whole, and the next run succeeds.
#[test]
fn a_program_killed_twenty_times_loses_nothing() {
    let Some(site) = Site::new(false) else { return };
    let source = site.at("source");
    fs::create_dir(&source).expect("made");
    for i in 0..60 {
        fs::write(source.join(format!("f{i:02}")), random_bytes(i, 1_000_000)).expect("written");
    }
    let begun = Instant::now();
    site.json("host", ceph::LIMITED, &["backup", text(&source)]);
    let mut longest = begun.elapsed();
    let first = site.snapshots("host");
    let kept = site.at("kept");
    assert!(Command::new("cp").arg("-a").arg(&source).arg(&kept).status().expect("runs").success());

    // Sooner or later all files have changed since the last run that was not killed, and that is meant.
    let backup = ["backup", "--change-limit", "0", text(&source)];
    let mut killed = 0;
    for round in 0..20u64 {
        for i in 0..20 {
            let file = source.join(format!("f{:02}", (round * 7 + i) % 60));
            fs::write(file, random_bytes(1000 + round * 100 + i, 1_000_000)).expect("written");
        }
        let before = site.snapshots("host").len();
        let mut child = site.command("host", ceph::LIMITED, &backup).spawn().expect("runs");
        // Random, and the same in every run of the test.
        let share = u64::from(random_bytes(5000 + round, 1)[0]);
        std::thread::sleep(longest.mul_f64(share as f64 / 255.0));
        let ended_before = child.try_wait().expect("asked").is_some();
        child.kill().expect("SIGKILL is sent");
        let status = child.wait().expect("reaped");
        killed += u64::from(!ended_before);
        if ended_before {
            // The machine is faster by now, or was busy with something else at first.
            longest = longest.mul_f64(0.7);
        }
        let after = site.snapshots("host").len();
        let allowed = if ended_before { before + 1..=before + 1 } else { before..=before + 1 };
        assert!(allowed.contains(&after), "round {round}: {status}, {before} snapshots before, {after} after");
        if round % 5 == 4 {
            site.assert_verifies();
        }
    }
    assert!(killed >= 5, "the runs ended before they could be killed: {killed}");
    site.json("host", ceph::LIMITED, &backup);
    site.assert_verifies();
    site.assert_restores("latest", &source);
    // The first snapshot is of the same paths with the content of then.
    let target = site.at("first");
    let path = format!("{}:{}", first[0], source.display());
    site.json("bare", ceph::OWNER, &["restore", &path, "--target", text(&target)]);
    for i in 0..60 {
        let name = format!("f{i:02}");
        assert!(fs::read(target.join(&name)).expect("there") == fs::read(kept.join(&name)).expect("there"), "{name}");
    }
}

/// Two hosts with much in common back up over TLS at the same moment, again and again.
#[test]
fn two_hosts_back_up_at_once() {
    let Some(site) = Site::new(true) else { return };
    let source = |host: &str| site.at(&format!("source-{host}"));
    for round in 0..3u64 {
        for (number, host) in ["one", "two"].into_iter().enumerate() {
            fs::create_dir_all(source(host)).expect("made");
            for i in 0..12 {
                let content = random_bytes(round * 1000 + i, 1_500_000);
                fs::write(source(host).join(format!("common{i}")), content).expect("written");
            }
            let own = random_bytes(round * 1000 + 500 + number as u64, 2_000_000);
            fs::write(source(host).join("own"), own).expect("written");
        }
        let start = |host: &str| site.command(host, ceph::LIMITED, &["backup", text(&source(host))]).spawn();
        let children = [start("one").expect("runs"), start("two").expect("runs")];
        for child in children {
            let output = child.wait_with_output().expect("ends");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    for host in ["one", "two"] {
        let snapshots = site.snapshots(host);
        assert_eq!(snapshots.len(), 3);
        site.assert_restores(&snapshots[2], &source(host));
    }
    site.assert_verifies();
}
