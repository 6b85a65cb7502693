//! What opens a repository, and where it comes from: options, variables, files as editors save them, the paper.

use std::fs;

use crate::support::desk::{Desk, PASSWORD, Run};

/// Runs `snapshots` with these variables, `=` between name and value, and nothing else that tells the passphrase.
fn open(desk: &Desk, variables: &[&str], options: &[&str]) -> Run {
    let mut command = desk.command(&[options, &["snapshots"]].concat());
    command.env_remove("COFFRE_PASSWORD_FILE");
    for variable in variables {
        let (name, value) = variable.split_once('=').expect("a name and a value");
        command.env(name, value);
    }
    command.output().expect("runs").into()
}

#[test]
fn an_option_beats_a_variable_and_contradictions_are_refused() {
    let desk = Desk::with_passphrase();
    fs::write(desk.at("wrong"), "guess").expect("written");
    let (file, wrong) = ("COFFRE_PASSWORD_FILE=password", "COFFRE_PASSWORD_FILE=wrong");
    let cases: [(&[&str], &[&str], i32, &str); 9] = [
        (&[file], &["--password-command", "echo guess"], 12, "none of the 2 key slots opens"),
        (&[wrong], &["--password-command", "cat password"], 0, ""),
        (&[wrong], &["--password-file", "password"], 0, ""),
        (&["COFFRE_PASSWORD=guess", "COFFRE_PASSWORD_COMMAND=false"], &["--password-file", "password"], 0, ""),
        (&[file, "COFFRE_PASSWORD=guess"], &[], 2, "COFFRE_PASSWORD_FILE and COFFRE_PASSWORD are both given"),
        (&[file, "COFFRE_PASSWORD_COMMAND=false"], &[], 2, "COFFRE_PASSWORD_FILE and COFFRE_PASSWORD_COMMAND are both"),
        (
            &[],
            &["--password-file", "password", "--password-command", "false"],
            2,
            "--password-file and --password-command",
        ),
        (&["COFFRE_PASSWORD_FILE=absent"], &[], 2, "the passphrase could not be read from absent: No such file"),
        (&["COFFRE_PASSWORD_COMMAND=exit 3"], &[], 2, "the password command failed with exit status: 3"),
    ];
    for (variables, options, code, said) in cases {
        let run = open(&desk, variables, options);
        assert_eq!(run.code, code, "{variables:?} {options:?}: {run:?}");
        assert!(run.err.contains(said), "{variables:?} {options:?}: {run:?}");
    }
}

#[test]
fn a_passphrase_is_what_was_typed_whatever_the_editor_put_around_it() {
    let desk = Desk::with_passphrase();
    for content in [format!("\u{feff}{PASSWORD}\r\n"), format!("{PASSWORD}\n\n"), format!("{PASSWORD}\nmore")] {
        fs::write(desk.at("edited"), &content).expect("written");
        let run = open(&desk, &["COFFRE_PASSWORD_FILE=edited"], &[]);
        assert_eq!(run.code, 0, "{content:?}: {run:?}");
    }
    assert_eq!(open(&desk, &[&format!("COFFRE_PASSWORD={PASSWORD}\n")], &[]).code, 0);
    let utf16: Vec<u8> = "\u{feff}x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(desk.at("edited"), utf16).expect("written");
    let run = open(&desk, &["COFFRE_PASSWORD_FILE=edited"], &[]);
    assert!(run.code == 2 && run.err.contains("is not UTF-8; save the file as UTF-8"), "{run:?}");
}

#[test]
fn the_recovery_identity_opens_without_the_words_in_front() {
    let desk = Desk::with_passphrase();
    let kit = fs::read_to_string(desk.at("kit")).expect("written");
    let identity = kit.lines().map(str::trim).find_map(|line| line.strip_prefix("COFFRE-RECOVERY-")).expect("there");
    for typed in [identity.to_owned(), identity.to_lowercase().replace('-', " "), identity.replace('-', "")] {
        assert_eq!(open(&desk, &[&format!("COFFRE_PASSWORD={typed}")], &[]).code, 0, "{typed}");
    }
    let other = if identity.starts_with('Z') { 'Y' } else { 'Z' };
    let run = open(&desk, &[&format!("COFFRE_PASSWORD={other}{}", &identity[1..])], &[]);
    assert!(run.code == 12 && run.err.contains("is mistyped") && run.err.contains("group by group"), "{run:?}");
    // What looks like an identity and opens a slot is the passphrase that somebody chose.
    let lookalike = "0123456789abcdefghjkmnpqrstvwxyz0123";
    let desk = Desk::new();
    fs::write(desk.at("password"), lookalike).expect("written");
    assert_eq!(desk.run(&["init", "--recovery-kit", "kit"]).code, 0);
    assert_eq!(desk.run(&["snapshots"]).code, 0);
    for words in [format!("COFFRE-RECOVERY-{identity}"), identity.to_owned(), "coffre recovery of ours".to_owned()] {
        let desk = Desk::new();
        fs::write(desk.at("password"), words).expect("written");
        let run = desk.run(&["init", "--recovery-kit", "kit"]);
        assert!(run.code == 2 && run.err.contains("looks like a recovery identity"), "{run:?}");
    }
}

#[test]
fn a_new_repository_never_puts_its_identity_into_a_log_unasked() {
    let desk = Desk::new();
    for arguments in [&["init"][..], &["-q", "init"], &["--json", "init"]] {
        let run = desk.run(arguments);
        assert_eq!(run.code, 2, "{run:?}");
        let said = format!("{}{}", run.out, run.err);
        assert!(said.contains("--recovery-kit FILE") && !said.contains("COFFRE-RECOVERY"), "{run:?}");
        assert!(!desk.at("repository").exists(), "nothing is made");
    }
    let run = desk.run(&["init", "--recovery-kit", "no/such/directory/kit"]);
    assert!(run.code == 2 && run.err.contains("cannot be written to no/such/directory/kit"), "{run:?}");
    assert!(!desk.at("repository/config").exists(), "a kit that cannot be written costs no repository");
    assert_eq!(desk.run(&["-q", "init", "--recovery-kit", "kit"]).code, 0);
    let again = desk.run(&["init", "--recovery-kit", "second"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(!desk.at("second").exists(), "no empty page stays behind");
    let shown = Desk::new().run(&["init", "--show-identity"]);
    assert!(shown.code == 0 && shown.out.contains("recovery identity: COFFRE-RECOVERY-"), "{shown:?}");
}

#[test]
fn a_weak_passphrase_and_a_crowded_directory_are_told() {
    let desk = Desk::new();
    let calm = desk.run(&["init", "--recovery-kit", "kit"]);
    assert_eq!((calm.code, calm.err.as_str()), (0, ""));
    let desk = Desk::new();
    fs::write(desk.at("password"), "p").expect("written");
    fs::create_dir_all(desk.at("repository/photos")).expect("made");
    let told = desk.run(&["init", "--recovery-kit", "kit"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("a passphrase of one character is weak"), "{told:?}");
    assert!(told.err.contains("has other things in it, such as photos"), "{told:?}");
}
