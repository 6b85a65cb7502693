//! What helps against what the client programs of databases say.

/// Returns what helps against what database clients say most. They are programs of others: their words are all there is to go by.
pub fn client_hint(said: &[String]) -> Option<String> {
    const RIGHTS: &str = "the user lacks a right. PostgreSQL: pg_read_all_data, CONNECT, and what README says about large objects \
        and row security; MariaDB and MySQL: SELECT, SHOW VIEW, TRIGGER, EVENT. To restore: the right to create databases";
    const KNOWN: [(&[&str], &str); 15] = [
        (
            &[
                "Lost connection to server during query when dumping",
                "Lost connection to MySQL server during query when dumping",
            ],
            "the server ended the connection: it was stopped, or it waited longer than net_write_timeout (60 s unless set) for a \
             store that is slow; as an administrator: SET GLOBAL net_write_timeout = 86400",
        ),
        // Before the one about passwords: `Access denied for user 'joe'@'%' to database 'shop'`.
        (&["' to database '", "Access denied; you need", "insufficient privileges"], RIGHTS),
        (
            &["password authentication failed", "no password supplied", "Access denied for user"],
            "check user and password: PGPASSFILE, ?option-file=FILE, a systemd credential, or the URL in env:NAME",
        ),
        (
            &["Connection refused", "could not translate host name", "timeout expired", "Can't connect to"],
            "is the server running, and reachable at this host and port?",
        ),
        (
            &["permission denied for tablespace"],
            "as an administrator: GRANT CREATE ON TABLESPACE … TO the user, or put everything into the usual one, by --no-tablespaces",
        ),
        (
            &["Authentication requires secure connection"],
            "the password goes by TLS, by a socket, or sealed with the server's public key alone: ?ssl-mode=REQUIRED where the server has \
             TLS, ?socket=FILE, or ?server-public-key-path=FILE",
        ),
        (
            &["SSL is required, but the server does not support it"],
            "the server has no TLS: ?ssl=0 connects without, which is for a socket and this machine; passwords and rows are in clear",
        ),
        (
            &["log_bin_trust_function_creators"],
            "as an administrator, for as long as the restore takes: SET GLOBAL log_bin_trust_function_creators = 1",
        ),
        (&["permission denied", "command denied to user", "must be owner", "row-level security"], RIGHTS),
        (&["server version mismatch"], "install the client programs of the server's version"),
        (&["No space left on device"], "make room on the server; --plan compares what is needed and what is free"),
        (
            &["canceling statement due to lock timeout", "lock-wait-timeout", "Lock wait timeout exceeded"],
            "somebody holds a lock; try again, or at another time",
        ),
        (&["already exists"], "the target is not empty: give a name that is not there yet, by --database OLD=NEW"),
        (
            &["parameter \"default_tablespace\""],
            "make the tablespace first, or put everything into the usual one, by --no-tablespaces",
        ),
        (&["role \""], "restore roles first, by --globals, or leave owners away, by --no-owner or --owner ROLE"),
    ];
    let fits = |texts: &[&str]| texts.iter().any(|text| said.iter().any(|line| line.contains(text)));
    KNOWN.iter().find(|(texts, _)| fits(texts)).map(|(_, hint)| (*hint).to_owned())
}
