//! The recovery kit: whoever has the paper, the program and nothing else gets everything back by typing what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::desk::{Desk, Run};
use crate::support::postgres::PostgresServer;
use crate::support::tree::describe;

/// Returns the commands of a page, each on one line, in the order in which they are typed.
fn commands(page: &str) -> Vec<String> {
    typed(page, &["coffre ", "export ", "("])
}

/// Returns the commands that begin so.
fn typed(page: &str, starts: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in page.lines() {
        let Some(typed) = line.strip_prefix("     ") else { continue };
        let begins = starts.iter().any(|start| typed.starts_with(start));
        let is_prose = typed.starts_with("(copy");
        match commands.last_mut().filter(|_| goes_on) {
            Some(last) => *last = format!("{} {}", last.trim_end_matches('\\').trim_end(), typed.trim()),
            None if begins && !is_prose => commands.push(typed.to_owned()),
            None => continue,
        }
        goes_on = typed.ends_with('\\');
    }
    commands
}

/// A machine that has nothing: an empty home, and the program on its path.
struct Bare {
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Bare {
    fn new(desk: &Desk) -> Self {
        let home = desk.at("bare");
        fs::create_dir(&home).expect("made");
        Self { home, variables: Vec::new() }
    }

    /// Types one line into a shell that has the exports of the lines before it.
    fn type_in(&self, exports: &str, line: &str, typed: &str) -> Run {
        let program = Path::new(env!("CARGO_BIN_EXE_coffre")).parent().expect("in a directory");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{exports}{line}")]).env_clear().current_dir(&self.home).env("HOME", &self.home);
        shell.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", program.display()));
        shell.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        fs::write(self.home.join("keyboard"), typed).expect("written");
        shell.stdin(Stdio::from(fs::File::open(self.home.join("keyboard")).expect("there")));
        shell.output().expect("runs").into()
    }
}

/// Returns the page of a repository, opened with the identity of its first kit, and that identity.
fn page_and_identity(desk: &Desk) -> (String, String) {
    let first = fs::read_to_string(desk.at("kit")).expect("written");
    let identity =
        first.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("there").to_owned();
    fs::write(desk.at("identity"), &identity).expect("written");
    let run = desk.run(&["--password-file", "identity", "kit", "--output", "page"]);
    assert_eq!(run.code, 0, "{run:?}");
    let page = fs::read_to_string(desk.at("page")).expect("written");
    assert!(page.contains(&identity), "{page}");
    (page, identity)
}

#[test]
fn the_kit_alone_brings_trees_streams_and_sqlite_back_on_a_bare_machine() {
    let desk = Desk::with_passphrase();
    // A file alone, and a link alone, among them; and what is not there when the night comes.
    fs::create_dir_all(desk.at("single")).expect("made");
    fs::write(desk.at("single/hosts"), "a file alone").expect("written");
    std::os::unix::fs::symlink("hosts", desk.at("single/link")).expect("linked");
    let code = desk.run(&["backup", "single/hosts", "single/link", "single/absent", "--job", "singles"]).code;
    assert_eq!(code, 3, "one is not there");
    fs::create_dir(desk.at("source/my files")).expect("made");
    fs::write(desk.at("source/my files/it's"), "quoted").expect("written");
    fs::create_dir(desk.at("other data")).expect("made");
    fs::write(desk.at("other data/x"), "x").expect("written");
    let python = "import sqlite3; c = sqlite3.connect('app.db'); c.execute('create table t(a)'); c.commit()";
    let has_sqlite = Command::new("python3").args(["-c", python]).current_dir(desk.directory.path()).status();
    let has_sqlite = has_sqlite.is_ok_and(|status| status.success());
    assert_eq!(
        desk.run(&["backup", "source", "--job", "nightly", "--command", "db/shop.sql", "--", "echo", "hello"]).code,
        0
    );
    assert_eq!(desk.run(&["backup", "other data", "--host", "web 2"]).code, 0);
    if has_sqlite {
        assert_eq!(desk.run(&["backup", "--sqlite", "app.db", "--job", "app"]).code, 0);
    }
    let (page, identity) = page_and_identity(&desk);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    let bare = Bare::new(&desk);
    let mut exports = String::new();
    let commands = commands(&page);
    for command in &commands {
        let command = command.replace("/srv/restored", bare.home.join("restored").to_str().expect("plain"));
        // Typed from paper, without the words in front.
        let typed = identity.trim_start_matches("COFFRE-RECOVERY-").to_lowercase().replace('-', " ") + "\n";
        let run = bare.type_in(&exports, &command, &typed);
        assert_eq!(run.code, 0, "{command}: {run:?}");
        if command.starts_with("export ") {
            exports.push_str(&format!("{command}\n"));
        }
    }
    for verb in ["coffre snapshots", "coffre ls latest", "coffre dump ", "coffre kit --check", "coffre restore "] {
        assert!(commands.iter().any(|command| command.starts_with(verb)), "{verb}: {commands:?}");
    }
    assert!(!page.contains("absent --target"), "nothing can be restored of it: {page}");
    // The directory that they are in was not asked for, so its own time is not restored.
    for (name, is_link) in [("hosts", false), ("link", true)] {
        let at = bare.home.join(format!("restored{}", desk.at("single").join(name).display()));
        assert_eq!(at.symlink_metadata().expect("restored in its place").is_symlink(), is_link);
        assert_eq!(fs::read_to_string(&at).expect("there"), "a file alone");
    }
    for source in ["source", "other data"] {
        let at = bare.home.join(format!("restored{}", desk.at(source).display()));
        assert_eq!(describe(&at), describe(&desk.at(source)), "{source}");
    }
    assert_eq!(fs::read_to_string(bare.home.join("shop.sql")).expect("restored"), "hello\n");
    assert_eq!(bare.home.join("restored-app.db").exists(), has_sqlite);
}

#[test]
fn the_kit_alone_brings_a_server_of_databases_back() {
    let (Some(old), Some(new)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    let desk = Desk::with_passphrase();
    old.sql("postgres", "CREATE ROLE shopapp LOGIN PASSWORD 'x'");
    old.sql("postgres", "CREATE DATABASE shop OWNER shopapp");
    old.sql("shop", "CREATE TABLE item (id int); ALTER TABLE item OWNER TO shopapp; INSERT INTO item VALUES (1), (2)");
    let backup = |arguments: &[&str]| {
        let mut command = desk.command(&[&["backup"], arguments].concat());
        let run: Run = command.env("PGPASSFILE", old.passfile()).output().expect("runs").into();
        assert!(run.code == 0 || run.code == 3, "{run:?}");
    };
    backup(&["--postgres", &old.url("shop"), "--job", "one"]);
    let (page, _) = page_and_identity(&desk);
    assert!(page.contains("roles of the server are not in this backup") && !page.contains("--globals\n"), "{page}");
    assert!(page.contains("--database shop --plan\n") && page.contains("package postgresql-client"), "{page}");
    by_hand(&desk, &old, &page, &["pg_restore"]);
    let version = old.sql("shop", "SHOW server_version");
    assert!(page.contains(version.split_whitespace().next().expect("a number")), "{page}");
    fs::remove_file(desk.at("page")).expect("there");

    backup(&["--postgres", &old.url(""), "--all-databases", "--job", "all"]);
    let (page, identity) = page_and_identity(&desk);
    let mut bare = Bare::new(&desk);
    bare.variables.push(("PGPASSFILE", new.passfile().to_str().expect("plain").to_owned()));
    let mut exports = String::new();
    let mut seen = Vec::new();
    for command in commands(&page).iter().filter(|command| !command.contains("--job one")) {
        let local = command.replace("postgresql://postgres@localhost/", &new.url(""));
        let run = bare.type_in(&exports, &local, &format!("{identity}\n"));
        if command.starts_with("export ") {
            exports.push_str(&format!("{command}\n"));
        }
        // Roles that every server has cannot be made; a single database is there after all were restored.
        let is_single = command.contains("--database ");
        let fine = run.code == 0 || command.contains("--globals") && run.code == 3 || is_single;
        assert!(fine, "{command}: {run:?}");
        if command.contains("--globals") {
            // As the page says: the user who connects has the password of the backup now.
            let line = fs::read_to_string(old.passfile()).expect("there");
            let line = line.replacen(&old.port().to_string(), &new.port().to_string(), 1);
            fs::write(desk.at("bare/pgpass"), line).expect("written");
            fs::set_permissions(desk.at("bare/pgpass"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("set");
            bare.variables = vec![("PGPASSFILE", desk.at("bare/pgpass").to_str().expect("plain").to_owned())];
        }
        seen.push(command.clone());
    }
    for flag in ["--globals", "--all-databases --plan", "--all-databases"] {
        assert!(seen.iter().any(|command| command.ends_with(flag)), "{flag}: {seen:?}");
    }
    let asked = "SELECT tableowner, (SELECT count(*) FROM item) FROM pg_tables WHERE tablename = 'item'";
    let answer = Command::new("psql")
        .args(["-XAtq", &new.url("shop"), "-c", asked])
        .env("PGPASSFILE", desk.at("bare/pgpass"))
        .output()
        .expect("psql runs");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "shopapp|2", "{answer:?}");
}

/// Types what the page says about the programs of PostgreSQL itself, into the server without the database.
fn by_hand(desk: &Desk, server: &PostgresServer, page: &str, programs: &[&str]) {
    let before = server.sql("shop", "SELECT count(*) FROM item");
    server.sql("postgres", "DROP DATABASE shop");
    let at = page.find("A dump that stands there as a file").expect("told");
    let starts: Vec<String> = programs.iter().chain(&["coffre dump"]).map(|program| format!("{program} ")).collect();
    let typed = typed(&page[at..], &starts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(typed.len(), programs.len() + 1, "{typed:?}");
    for line in typed {
        let line = line.replace("--host=localhost", &format!("--host=127.0.0.1 --port={}", server.port()));
        let path = Path::new(env!("CARGO_BIN_EXE_coffre")).parent().expect("in a directory").display().to_string();
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(desk.directory.path()).env_clear();
        shell.envs(desk.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", format!("{path}:/usr/bin:/bin")).env("PGPASSFILE", server.passfile());
        let run: Run = shell.stdin(Stdio::null()).output().expect("runs").into();
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }
    assert_eq!(server.sql("shop", "SELECT count(*) FROM item"), before);
}

#[test]
fn the_programs_of_the_database_alone_restore_a_plain_dump_as_the_kit_says() {
    let Some(server) = PostgresServer::start() else { return };
    let desk = Desk::with_passphrase();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE item (id int); INSERT INTO item VALUES (1), (2)");
    let mut command = desk.command(&["backup", "--postgres", &server.url("shop"), "--postgres-plain"]);
    let run: Run = command.env("PGPASSFILE", server.passfile()).output().expect("runs").into();
    assert!(run.code == 0, "{run:?}");
    let (page, _) = page_and_identity(&desk);
    by_hand(&desk, &server, &page, &["createdb", "psql"]);
}

#[test]
fn no_backup_takes_a_kit_along_whatever_became_of_the_cache() {
    let desk = Desk::with_passphrase();
    fs::create_dir(desk.at("papers")).expect("made");
    fs::rename(desk.at("kit"), desk.at("papers/to print")).expect("moved");
    fs::write(desk.at("papers/other"), "COFFRE RECOVERY KIT\nof another repository\n").expect("written");
    let without = desk.run(&["kit", "--output", "papers/second"]);
    assert_eq!(without.code, 0, "{without:?}");
    fs::remove_dir_all(desk.at(".cache")).expect("there");
    for _ in 0..2 {
        let run = desk.run(&["backup", "papers"]);
        assert_eq!(run.code, 0, "{run:?}");
        for own in ["second", "to print"] {
            let told = format!("left out   {}/{own}, which is coffre's own", desk.at("papers").display());
            assert!(run.out.contains(&told), "{run:?}");
        }
        let listed = desk.run(&["ls", "-R", "latest"]).out;
        let names: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_once("papers/"))
            .map(|it| it.1)
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(names, ["other"], "{listed}");
    }
    // Whoever names it means it.
    assert_eq!(desk.run(&["backup", "papers/to print"]).code, 0);
    let kept = desk.run(&["dump", &format!("latest:{}", desk.at("papers/to print").display())]).out;
    assert_eq!(kept, fs::read_to_string(desk.at("papers/to print")).expect("there"));
}

#[test]
fn a_page_without_an_identity_says_so_and_a_wrong_one_is_found_out() {
    let desk = Desk::with_passphrase();
    desk.backup();
    let run = desk.run(&["kit", "--note", "Keys of the bucket: blue folder"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out.contains("COFFRE-RECOVERY-____-") && run.out.contains("Keys of the bucket: blue folder"),
        "{run:?}"
    );
    assert!(run.err.contains("has no recovery identity"), "{run:?}");
    let again = desk.run(&["kit", "--output", "kit"]);
    assert!(again.code == 2 && again.err.contains("cannot be written to kit: File exists"), "{again:?}");
    let (_, identity) = page_and_identity(&desk);
    let mode =
        fs::metadata(desk.at("page")).map(|it| std::os::unix::fs::PermissionsExt::mode(&it.permissions()) & 0o777);
    assert_eq!(mode.ok(), Some(0o600));
    let check = |text: &str| {
        fs::write(desk.at("typed"), text).expect("written");
        desk.run(&["--password-file", "typed", "kit", "--check"])
    };
    let right = check(&identity);
    assert!(right.code == 0 && right.out.contains("the recovery identity opens repository"), "{right:?}");
    let stranger = Desk::with_passphrase();
    let (_, other) = page_and_identity(&stranger);
    assert_eq!(check(&other).code, 12);
    let mistyped = format!("{}{}", &identity[..identity.len() - 1], if identity.ends_with('A') { 'B' } else { 'A' });
    let run = check(&mistyped);
    assert!(run.code == 12 && run.err.contains("mistyped"), "{run:?}");
    // The passphrase opens the repository, too, and proves nothing about the paper.
    let run = desk.run(&["kit", "--check"]);
    assert!(run.code == 2 && run.err.contains("no recovery identity"), "{run:?}");
    assert!(!desk.run(&["--password-file", "wrong", "kit", "--output", "late"]).out.contains("written"));
    assert!(!desk.at("late").exists(), "no empty page stays behind");
}
