//! Help, manual pages and completions: made from the program itself, complete, and readable.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::daemon::skip;
use crate::support::desk::{Desk, Run};

/// Every verb that people use.
fn verbs(desk: &Desk) -> Vec<String> {
    let help = desk.run(&["--help"]).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs = listed.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned));
    let verbs: Vec<String> = verbs.filter(|verb| verb.chars().all(|c| c.is_ascii_lowercase())).collect();
    assert!(verbs.len() >= 13, "{help}");
    verbs
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn help_completions_and_manual_are_there_for_every_command() {
    let desk = Desk::new();
    let help = desk.run(&["--help"]);
    assert_eq!(help.code, 0);
    let verbs = verbs(&desk);
    for verb in ["init", "backup", "restore", "verify", "prune", "snapshots", "ls", "dump", "find", "diff", "stats"] {
        assert!(verbs.contains(&verb.to_owned()), "{}", help.out);
    }
    for verb in &verbs {
        assert!(help.out.contains(&format!("  {verb} ")), "{}", help.out);
        let page = desk.run(&["man", verb]);
        assert!(page.code == 0 && page.out.contains(&format!("coffre\\-{verb}")), "{page:?}");
        assert_eq!(desk.run(&[verb, "--help"]).code, 0);
        let shown = desk.run(&["help", verb]);
        assert!(shown.code == 0 && shown.out.contains(&format!("Usage: coffre {verb}")), "{shown:?}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.run(&["completions", shell]);
        assert!(script.code == 0 && script.out.contains("coffre"), "{shell}");
    }
    assert_eq!(desk.run(&["man", "nothing"]).code, 2);
    assert_eq!(desk.run(&["help", "nothing"]).code, 2);
    assert_eq!(desk.run(&["--version"]).out, format!("coffre {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn manual_pages_are_complete_and_fit_80_columns() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["man", "--all", "pages/man1"]).code, 0);
    let pages: BTreeSet<String> = fs::read_dir(desk.at("pages/man1"))
        .expect("made")
        .map(|page| page.expect("there").file_name().into_string().expect("plain"))
        .collect();
    let mut wanted: BTreeSet<String> = verbs(&desk).iter().map(|verb| format!("coffre-{verb}.1")).collect();
    wanted.insert("coffre.1".into());
    assert_eq!(pages, wanted, "one for each command, and none that is named nowhere");
    if !is_installed("man") {
        return skip("man");
    }
    for page in &pages {
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"])
            .arg(desk.at("pages/man1").join(page))
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8");
        let shown: Run = man.output().expect("runs").into();
        assert_eq!((shown.code, shown.err.as_str()), (0, ""), "{page}");
        let mut sections = vec!["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"];
        if page == "coffre.1" {
            sections.extend(["COMMANDS", "LOCATIONS", "CREDENTIALS", "FILES", "WORDS", "EXAMPLES"]);
            // Referred to pages are there.
            let named = shown.out.split_whitespace().filter_map(|word| word.trim_matches(',').strip_suffix("(1)"));
            let named: BTreeSet<String> =
                named.filter(|name| name.starts_with("coffre")).map(|name| format!("{name}.1")).collect();
            assert_eq!(named.len() + 1, wanted.len());
            assert!(named.is_subset(&wanted), "{named:?}");
        }
        for section in sections {
            assert!(shown.out.lines().any(|line| line == section), "{page} lacks {section}: {}", shown.out);
        }
        for line in shown.out.lines() {
            let length = line.chars().count();
            assert!(length <= 80 || !line.contains(' ') || !line.trim().contains(' '), "{page}: {line}");
        }
        assert!(
            !shown.out.contains("[default: ]") && !shown.out.contains("v0.") && !shown.out.contains("EXTRA"),
            "{page}"
        );
    }
}

/// Names of variables in the sources: what stands in quotes as the whole argument of a look into the environment.
fn variables_in(directory: &Path, found: &mut BTreeSet<String>) {
    for item in fs::read_dir(directory).expect("src is readable") {
        let path = item.expect("src is readable").path();
        if path.is_dir() {
            variables_in(&path, found);
            continue;
        }
        // Names that are taken away from programs that are run; nothing is read there.
        if path.ends_with("process/environment.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for looks in [
            "var_os(\"",
            "var(\"",
            "env(\"",
            "path(\"",
            "named(\"",
            "env = \"",
            "\"COFFRE_",
            "\"AWS_",
            "\"HTTP",
            "\"NO_PROXY",
            "\"ALL_PROXY",
        ] {
            for (at, _) in code.match_indices(looks) {
                let quoted = code[at..].split('"').nth(1).unwrap_or_default();
                let is_name = !quoted.is_empty()
                    && quoted.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
                // One that counts when coffre is built is none that it reads.
                let is_of_the_build = code[..at].ends_with("option_env!(");
                if is_name && !is_of_the_build && path.file_name().is_some_and(|name| name != "vectors.rs") {
                    found.insert(quoted.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_variable_that_is_read_is_in_the_help() {
    let desk = Desk::new();
    let help = desk.run(&["help", "environment"]);
    assert_eq!(help.code, 0, "{help:?}");
    let mut variables = BTreeSet::new();
    variables_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut variables);
    assert!(
        variables.len() > 20 && variables.contains("AWS_REGION") && variables.contains("COFFRE_PASSWORD"),
        "{variables:?}"
    );
    for variable in variables {
        assert!(help.out.contains(&variable), "`coffre help environment` does not tell of {variable}");
    }
    for credential in ["coffre-password", "coffre-s3", "coffre-postgres-password", "coffre-mysql-password"] {
        assert!(help.out.contains(credential), "{credential}");
    }
    let locations = desk.run(&["help", "locations"]).out;
    assert!(locations.contains("hetzner-fsn1") && locations.contains("scaleway-pl-waw"), "{locations}");
    let words = desk.run(&["help", "words"]).out;
    assert!(words.contains("\n  job\n") && words.contains("\n  tag\n"), "{words}");
    assert!(desk.run(&["help", "exit-codes"]).out.contains("\n  12\n"));
    for page in [help.out, locations, words] {
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
}

/// Asks bash what it would offer at the end of `line`.
fn offered_by_bash(desk: &Desk, line: &str, extra: &[(&str, &str)]) -> Vec<String> {
    // Bash breaks the word being typed at colons and equals signs.
    let word = line.rsplit([' ', ':', '=']).next().unwrap_or_default();
    let script = format!(
        "source completions.bash; COMP_LINE='{line}' COMP_POINT={}; _coffre \"$COFFRE\" '{word}' before 2>/dev/null; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).env_clear().current_dir(desk.directory.path()).stdin(Stdio::null());
    bash.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", desk.directory.path());
    bash.env("COFFRE", env!("CARGO_BIN_EXE_coffre"))
        .env("COFFRE_REPO", desk.at("repository"))
        .envs(extra.iter().copied());
    // Slow machines have all the time they want.
    bash.env("COFFRE_COMPLETION_SECONDS", "600");
    let run: Run = bash.output().expect("bash runs").into();
    run.out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_offers_verbs_options_snapshots_and_jobs_and_never_asks() {
    let desk = Desk::with_passphrase();
    assert_eq!(desk.run(&["backup", "source", "--job", "nightly", "--tag", "big"]).code, 0);
    let id = desk.json(&["snapshots"])[0]["id"].as_str().expect("an id")[..8].to_owned();
    fs::write(desk.at("completions.bash"), desk.run(&["completions", "bash"]).out).expect("written");
    let offered = |line: &str| offered_by_bash(&desk, line, &[]);
    let verbs_offered = offered("coffre ");
    assert_eq!(verbs_offered, verbs(&desk), "verbs, and nothing before them");
    assert_eq!(offered("coffre sn"), ["snapshots"]);
    // Without a passphrase: ids come from the names of objects.
    assert_eq!(offered("coffre restore "), ["latest", id.as_str()]);
    assert_eq!(offered(&format!("coffre ls {}", &id[..3])), [id.as_str()]);
    assert_eq!(offered("coffre restore latest --targ"), ["--target"]);
    assert_eq!(offered("coffre snapshots --job "), Vec::<String>::new());
    let with_passphrase = |line| offered_by_bash(&desk, line, &[("COFFRE_PASSWORD_FILE", "password")]);
    assert_eq!(with_passphrase("coffre snapshots --job "), ["nightly"]);
    assert_eq!(with_passphrase("coffre snapshots --tag=b"), ["big"]);
    assert_eq!(offered("coffre help env"), ["environment"]);
    // Files are the shell's business, and a repository that is not there is no reason to fail.
    assert_eq!(offered("coffre backup /et"), Vec::<String>::new());
    assert_eq!(offered("coffre --repo /nowhere restore "), Vec::<String>::new());
}

#[test]
fn zsh_and_fish_understand_their_scripts() {
    let desk = Desk::new();
    for shell in ["zsh", "fish"] {
        if !is_installed(shell) {
            skip(shell);
            continue;
        }
        fs::write(desk.at("script"), desk.run(&["completions", shell]).out).expect("written");
        let parsed: Run = Command::new(shell).arg("-n").arg(desk.at("script")).output().expect("runs").into();
        assert_eq!((parsed.code, parsed.err.as_str()), (0, ""), "{shell}");
    }
    if is_installed("fish") {
        let directory = Path::new(env!("CARGO_BIN_EXE_coffre")).parent().expect("in a directory");
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", "source script; complete -C 'coffre st'"]).current_dir(desk.directory.path());
        fish.env("HOME", desk.directory.path()).env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
        let run: Run = fish.output().expect("runs").into();
        assert!(run.out.starts_with("stats\tShow how much"), "{run:?}");
    }
}

/// `docs/security.md` names a test for each thing that it says an attacker cannot do.
#[test]
fn every_test_that_the_security_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).expect("there");
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let quoted = page.split('`').skip(1).step_by(2).filter_map(|text| text.split_once("::"));
    let named: BTreeSet<(&str, &str)> =
        quoted.filter(|(file, test)| *file != "file" && is_name(file) && is_name(test)).collect();
    assert!(named.len() >= 15, "{named:?}");
    for (file, test) in named {
        let tests = root.join("tests/it");
        let source = fs::read_to_string(tests.join(format!("{file}.rs")))
            .or_else(|_| fs::read_to_string(tests.join(file).join("mod.rs")))
            .unwrap_or_else(|error| panic!("{file}::{test}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{file}::{test}");
    }
}
