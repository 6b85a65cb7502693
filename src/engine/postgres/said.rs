//! What the clients say of a restore, and what a dump by newer clients says that an older server does not understand.

use std::io::Write;

use crate::engine::feed::Said;
use crate::engine::lines::EditedLines;

/// Settings that a `pg_dump` or `pg_restore` of this version and later begins with, which older servers do not know: they are for
/// limits that those servers do not have.
const NEWER_SETTINGS: [(u32, &str); 1] = [(17, "SET transaction_timeout = 0;")];

/// Returns what a client of one version begins with that a server of another does not know.
pub fn newer_setting(client: u32, server: u32) -> Option<&'static str> {
    NEWER_SETTINGS.iter().find(|(since, _)| server < *since && *since <= client).map(|(_, setting)| *setting)
}

/// Leaves out of the head of a dump of SQL the settings that a server of this version does not know.
pub fn without_newer_settings(input: Box<dyn Write + Send>, version: u32) -> Box<dyn Write + Send> {
    let unknown = move |line: &[u8]| {
        NEWER_SETTINGS.iter().any(|(since, setting)| version < *since && line.trim_ascii_end() == setting.as_bytes())
    };
    let mut is_head = true;
    Box::new(EditedLines::new(input, move |line: &[u8], out: &mut dyn Write| {
        // Of each object a comment says the name first.
        is_head &= !line.is_empty() && !line.starts_with(b"-- Name: ");
        if is_head && unknown(line) { Ok(()) } else { out.write_all(line) }
    }))
}

/// Judges a line of a client: `pg_restore` and `psql` say what failed, and the first counts it at its end as well. When rows were
/// among that or the disk is full, the database is not what was dumped.
pub fn judge_all(line: &[u8]) -> Said {
    const SIGNS: [&str; 5] = [
        "COPY failed",
        "CONTEXT:  COPY",
        // There is no table for the rows.
        "Command was: COPY ",
        "No space left on device",
        "could not extend file",
    ];
    let line = String::from_utf8_lossy(line);
    if SIGNS.iter().any(|sign| line.contains(sign)) {
        return Said::Over;
    }
    if let Some((_, count)) = line.split_once("errors ignored on restore: ") {
        return Said::Total(count.trim().parse().unwrap_or(1));
    }
    const FAILURES: [&str; 2] =
        ["pg_restore: error: could not execute query: ", "pg_restore: error: could not set default_tablespace "];
    if FAILURES.iter().any(|start| line.starts_with(start)) {
        return Said::Failed(1);
    }
    if let Some(statement) = line.strip_prefix("Command was: ") {
        let is_setting = NEWER_SETTINGS.iter().any(|(_, setting)| statement.trim_end() == *setting);
        return if is_setting { Said::Harmless } else { Said::Detail };
    }
    // `psql:<stdin>:3: ERROR:  …`, in the language of the server.
    let said = line.strip_prefix("psql:").and_then(|rest| rest.splitn(3, ':').nth(2)).map_or("", str::trim_start);
    let is_harmless = said.is_empty() || ["NOTICE:", "WARNING:", "INFO:"].iter().any(|word| said.starts_with(word));
    if is_harmless { Said::Other } else { Said::Failed(1) }
}

/// The same, and the first failure is the end, unless it may be one of a setting: the next line tells.
pub fn judge_first(line: &[u8]) -> Said {
    const NAMES: [&str; NEWER_SETTINGS.len()] = ["transaction_timeout"];
    match judge_all(line) {
        Said::Failed(_) if !NAMES.iter().any(|name| String::from_utf8_lossy(line).contains(name)) => Said::Over,
        said => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;

    #[test]
    fn what_clients_say_is_judged() {
        let unknown = "pg_restore: error: could not execute query: ERROR:  unrecognized … \"transaction_timeout\"";
        let cases: [(&str, Said, Said); 15] = [
            ("pg_restore: warning: errors ignored on restore: 3", Said::Total(3), Said::Total(3)),
            ("pg_restore: error: could not execute query: ERROR:  no", Said::Failed(1), Said::Over),
            ("pg_restore: error: could not set default_tablespace to a: ERROR:  no", Said::Failed(1), Said::Over),
            ("Command was: COMMENT ON EXTENSION a IS 'b';", Said::Detail, Said::Detail),
            (unknown, Said::Failed(1), Said::Failed(1)),
            ("Command was: SET transaction_timeout = 0;", Said::Harmless, Said::Harmless),
            ("psql:<stdin>:3: ERROR:  role \"a\" already exists", Said::Failed(1), Said::Over),
            ("psql: note", Said::Other, Said::Other),
            ("psql:<stdin>:3: FEHLER:  Rolle \"a\" existiert bereits", Said::Failed(1), Said::Over),
            ("psql:<stdin>:3: NOTICE:  not there, skipping", Said::Other, Said::Other),
            ("pg_restore: error: could not read", Said::Other, Said::Other),
            ("pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input", Said::Over, Said::Over),
            ("Command was: COPY public.t (x) FROM stdin;", Said::Over, Said::Over),
            ("ERROR:  could not write: No space left on device", Said::Over, Said::Over),
            ("ERROR:  role \"a\" does not exist", Said::Other, Said::Other),
        ];
        for (line, all, first) in cases {
            assert_eq!(judge_all(line.as_bytes()), all, "{line}");
            assert_eq!(judge_first(line.as_bytes()), first, "{line}");
        }
    }

    #[test]
    fn a_setting_is_newer_than_a_server_and_no_newer_than_the_client() {
        assert_eq!(newer_setting(17, 16), Some("SET transaction_timeout = 0;"));
        assert_eq!((newer_setting(16, 15), newer_setting(18, 17), newer_setting(17, 18)), (None, None, None));
    }

    #[test]
    fn settings_of_newer_servers_are_left_out_of_the_head_alone() {
        let dump = "SET lock_timeout = 0;\nSET transaction_timeout = 0;\n--\n-- Name: t; Type: TABLE\n--\nCOPY t FROM stdin;\n\
            SET transaction_timeout = 0;\n";
        let expected = dump.replacen("SET transaction_timeout = 0;\n", "", 1);
        assert_eq!(passed(dump, |kept| without_newer_settings(Box::new(kept), 15)), expected);
        assert_eq!(passed(dump, |kept| without_newer_settings(Box::new(kept), 17)), dump);
    }
}
