//! The program as people and cron start it, with a repository to work on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A directory with a repository, and the program with nothing in its environment but what is given here.
pub struct Desk {
    pub directory: tempfile::TempDir,
}

/// The passphrase of its repository.
pub const PASSWORD: &str = "correct horse battery staple";

impl Desk {
    pub fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().expect("made") };
        fs::write(desk.at("password"), format!("{PASSWORD}\n")).expect("written");
        // A configuration may name it.
        fs::set_permissions(desk.at("password"), fs::Permissions::from_mode(0o600)).expect("set");
        desk
    }

    /// With a repository that is opened by its passphrase, which takes a moment at every run, and a source of a few files.
    pub fn with_passphrase() -> Self {
        let desk = Self::new();
        let made = desk.run(&["init", "--recovery-kit", desk.at("kit").to_str().expect("plain")]);
        assert_eq!(made.code, 0, "{made:?}");
        fs::create_dir_all(desk.at("source/sub")).expect("made");
        fs::write(desk.at("source/a.txt"), "first file\n").expect("written");
        fs::write(desk.at("source/sub/b.txt"), "second file\n".repeat(10_000)).expect("written");
        std::os::unix::fs::symlink("a.txt", desk.at("source/link")).expect("linked");
        desk
    }

    /// The same, opened by its recovery identity, which costs nothing.
    pub fn with_repository() -> Self {
        let desk = Self::with_passphrase();
        let kit = fs::read_to_string(desk.at("kit")).expect("there");
        let identity = kit.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("there");
        fs::write(desk.at("password"), identity).expect("written");
        desk
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffre"));
        command.args(arguments).env_clear().stdin(Stdio::null()).current_dir(self.directory.path());
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .env("HOME", self.directory.path())
            .env("COFFRE_REPO", self.at("repository"))
            .env("COFFRE_HOST", "host1")
            .env("COFFRE_CONFIG", "/dev/null")
            .env("COFFRE_PASSWORD_FILE", self.at("password"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("runs").into()
    }

    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let run = self.run(&[&["--json"], arguments].concat());
        assert_eq!(run.code, 0, "{run:?}");
        run.out.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
    }

    pub fn backup(&self) -> Value {
        let source = self.at("source");
        let events = self.json(&["backup", source.to_str().expect("plain")]);
        events.into_iter().find(|event| event["event"] == "summary").expect("a summary")
    }
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}
