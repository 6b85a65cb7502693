//! Sessions: what each of ours sets, so that no setting of the server, and nothing that it runs for users without rights
//! (`init_connect`), changes what is answered, dumped or restored.
//!
//! A dump program is a client of its own. One that takes `--init-command` is given the same settings. For one that does not
//! (MariaDB's), a session is begun as it will begin its own, and what that session has is looked at.

/// What sessions set: no limit on rows or time that is meant for those who use the databases, room for a store that is slow,
/// hidden keys shown. (`0` is no limit of time; what stands in a comment of a version is for servers that know it.) All of it is what
/// anybody may set.
const SETTINGS: &str = "sql_select_limit=18446744073709551615, sql_safe_updates=0, autocommit=1, \
    net_read_timeout=86400, net_write_timeout=86400, wait_timeout=86400/*M!100101 , max_statement_time=0*/\
    /*!50708 , max_execution_time=0*//*!80030 , show_gipk_in_create_table_and_information_schema=ON*/";

/// The setting by which a session keeps warnings. With MySQL it takes a right (`SESSION_VARIABLES_ADMIN`).
pub(super) const WARNINGS: &str = "max_error_count=64";

/// What sessions set that restore, where the user may: that the server takes what it let be made once, and keeps the warnings by which
/// it says what it changed. Each with what stands for it where a server does not know it.
pub(super) const LENIENT: [&str; 4] = [
    WARNINGS,
    "innodb_strict_mode=0",
    "sql_safe_updates=0/*!80013 , sql_require_primary_key=0*/",
    "sql_safe_updates=0/*!80400 , restrict_fk_on_non_standard_key=0*/",
];

/// What a session has that nothing was set in: the limit of rows, the limit of milliseconds, whether hidden keys are shown.
pub(super) const QUESTION: &str = "SELECT @@sql_select_limit, 0/*!50708 + @@max_execution_time*/, \
    1/*!80030 * @@show_gipk_in_create_table_and_information_schema*/;\n";

/// Limits of this many rows are none.
const NO_LIMIT: u64 = u32::MAX as u64;

/// Returns the option that lets a client set what is relied on, and `more` besides.
pub(super) fn init_command(more: &str) -> String {
    format!("--init-command=SET SESSION {SETTINGS}{more}")
}

/// Finds what is wrong with a session that answered so. What is not understood is no answer, and wrong as well.
pub(super) fn amiss(line: &str) -> Option<(String, &'static str)> {
    let values: Option<Vec<u64>> = line.split('\t').map(|value| value.parse().ok()).collect();
    match values.as_deref() {
        Some([rows, 0, 1]) if *rows >= NO_LIMIT => None,
        Some([rows, _, _]) if *rows < NO_LIMIT => {
            Some((format!("sql_select_limit = {rows}"), "rows and tables would be missing from the dump"))
        }
        Some([_, 0, _]) => Some((
            "show_gipk_in_create_table_and_information_schema = OFF".into(),
            "hidden primary keys would be missing from the dump",
        )),
        Some([_, limit, _]) => Some((format!("max_execution_time = {limit}"), "large tables could not be dumped")),
        _ => Some((format!("settings that are not understood ({line})"), "something might be missing from the dump")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_with_limits_is_amiss() {
        assert_eq!(amiss("18446744073709551615\t0\t1"), None);
        let setting = |line: &str| amiss(line).map(|(setting, _)| setting).unwrap_or_default();
        assert_eq!(setting("2\t0\t1"), "sql_select_limit = 2");
        assert_eq!(setting("18446744073709551615\t20\t1"), "max_execution_time = 20");
        assert!(setting("18446744073709551615\t0\t0").starts_with("show_gipk"));
        assert!(setting("what").contains("not understood"));
    }

    #[test]
    fn settings_are_one_statement_that_takes_no_right() {
        assert!(!SETTINGS.contains(';') && !SETTINGS.contains('\n'));
        assert!(!SETTINGS.contains("max_error_count"));
        assert!(init_command(", a=1").ends_with(", a=1"));
    }
}
