//! Taking secrets out of a command line before it is kept.
//!
//! The rules are about the ways in which dump programs are given passwords. They may hide too much; the command is kept
//! for people who ask where a stream came from, not to be run again.

/// What stands in place of a secret.
const MASK: &[u8] = b"***";

/// Parts of the names of options and variables whose values are secret (`pg_dump --restrict-key` guards against whoever
/// can write into the database).
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "access-key",
    "access_key",
    "restrict-key",
];

/// Endings of names that only tell where a secret is kept.
const HARMLESS_ENDINGS: [&str; 6] = ["file", "path", "command", "dir", "cmd", "fd"];

/// Programs for which `-pSECRET` is a password, by the start of their name, and whether `-p SECRET` is one too.
const SHORT_P: [(&str, bool); 10] = [
    ("mysql", false),
    ("mariadb", false),
    ("mariabackup", false),
    ("xtrabackup", false),
    ("innobackupex", false),
    ("mydumper", true),
    ("myloader", true),
    ("mongo", true),
    ("sshpass", true),
    ("influx", true),
];

/// Returns the command line with the values of passwords replaced by `***`.
pub(super) fn mask(arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut state = Masker::default();
    arguments.iter().map(|argument| state.argument(argument)).collect()
}

/// What was learnt from the words before.
#[derive(Default)]
struct Masker {
    /// The next word is a secret.
    value_follows: bool,
    /// `-pVALUE` is a password; and whether `-p VALUE` is.
    short_p: Option<bool>,
    /// `-a VALUE` is a password (redis), `-u name:VALUE` holds one (curl).
    redis: bool,
    curl: bool,
    user_follows: bool,
}

impl Masker {
    /// Masks one argument; one that holds a whole script is taken word by word.
    fn argument(&mut self, argument: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(argument.len());
        let mut rest = argument;
        while !rest.is_empty() {
            let (gap, after) = rest.split_at(rest.iter().take_while(|&&byte| is_gap(byte)).count());
            let (word, after) = after.split_at(word_length(after));
            out.extend_from_slice(gap);
            if !word.is_empty() {
                out.extend_from_slice(&self.word(word));
            }
            rest = after;
        }
        out
    }

    fn word(&mut self, word: &[u8]) -> Vec<u8> {
        if std::mem::take(&mut self.value_follows) && !word.starts_with(b"-") {
            return MASK.to_vec();
        }
        if std::mem::take(&mut self.user_follows) {
            return mask_after(word, b':');
        }
        self.note_program(word);
        if let Some(equals) = word.iter().position(|&byte| byte == b'=') {
            let name = word[..equals].trim_ascii_start();
            if is_secret_name(name) {
                return [&word[..=equals], MASK].concat();
            }
        } else if word.starts_with(b"--") && is_secret_name(word) {
            self.value_follows = true;
        }
        if let (Some(separate), Some(value)) = (self.short_p, word.strip_prefix(b"-p")) {
            self.value_follows = separate && value.is_empty();
            return if value.is_empty() { word.to_vec() } else { [b"-p", MASK].concat() };
        }
        self.value_follows |= self.redis && word == b"-a";
        self.user_follows = self.curl && matches!(word, b"-u" | b"--user" | b"-U" | b"--proxy-user");
        mask_urls(word)
    }

    fn note_program(&mut self, word: &[u8]) {
        let name = word.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let known = SHORT_P.iter().find(|(start, _)| name.starts_with(start.as_bytes()));
        self.short_p = known.map(|&(_, separate)| separate).or(self.short_p);
        self.redis |= name.starts_with(b"redis-") || name.starts_with(b"valkey-");
        self.curl |= name == b"curl";
    }
}

fn is_gap(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b';' | b'|' | b'&' | b'(' | b')')
}

/// Returns the length of the word at the start: up to a gap outside quotes.
fn word_length(text: &[u8]) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        match quote {
            _ if escaped => escaped = false,
            Some(b'\'') if byte == b'\'' => quote = None,
            Some(b'\'') => {}
            _ if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'\'' | b'"') => quote = Some(byte),
            None if is_gap(byte) && !in_url(&text[..at]) => return at,
            None => {}
        }
    }
    text.len()
}

/// `&` separates the parameters of a URL, not commands.
fn in_url(text: &[u8]) -> bool {
    text.windows(3).any(|window| window == b"://") && text.contains(&b'?')
}

fn is_secret_name(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let bare = name.trim_start_matches('-');
    let harmless = HARMLESS_ENDINGS.iter().any(|end| bare.ends_with(end)) || bare.starts_with("no-") || bare == "pwd";
    let plain = bare
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'?' | b':' | b'/'));
    plain && !harmless && (SECRET_NAMES.iter().any(|part| bare.contains(part)) || bare.ends_with("pass"))
}

/// Keeps what stands before the first `separator`.
fn mask_after(word: &[u8], separator: u8) -> Vec<u8> {
    match word.iter().position(|&byte| byte == separator) {
        Some(at) => [&word[..=at], MASK].concat(),
        None => word.to_vec(),
    }
}

/// Masks the password in `scheme://user:password@host` and in the parameters behind it.
fn mask_urls(word: &[u8]) -> Vec<u8> {
    let Some(scheme) = word.windows(3).position(|window| window == b"://") else {
        return mask_parameters(word);
    };
    let start = scheme + 3;
    let end = word[start..].iter().position(|byte| b"/?#'\"".contains(byte)).map_or(word.len(), |at| start + at);
    // A password may hold a slash that nobody escaped: the last @ of the word counts when there is one at all.
    let at = word[start..end].iter().rposition(|&byte| byte == b'@').map(|at| start + at);
    let at = at.or_else(|| {
        let authority = word[start..].split(|&byte| byte == b'?').next().unwrap_or_default();
        authority.iter().rposition(|&byte| byte == b'@').map(|at| start + at)
    });
    let Some(at) = at else {
        return mask_parameters(word);
    };
    let user = mask_after(&word[start..at], b':');
    [&word[..start], &user, &mask_parameters(&word[at..])].concat()
}

/// Masks `name=value` pairs with secret names in a query string or a quoted connection string.
fn mask_parameters(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for part in text.split_inclusive(|byte| matches!(byte, b'?' | b'&' | b' ' | b';' | b'"' | b'\'')) {
        let (body, ending) = match part.split_last() {
            Some((b'?' | b'&' | b' ' | b';' | b'"' | b'\'', body)) => (body, &part[body.len()..]),
            _ => (part, b"".as_slice()),
        };
        match body.iter().rposition(|&byte| byte == b'=') {
            Some(equals) if is_secret_name(&body[..equals]) => {
                out.extend_from_slice(&body[..=equals]);
                out.extend_from_slice(MASK);
            }
            _ => out.extend_from_slice(body),
        }
        out.extend_from_slice(ending);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &[&str]) -> Vec<String> {
        let arguments: Vec<Vec<u8>> = line.iter().map(|word| word.as_bytes().to_vec()).collect();
        mask(&arguments).into_iter().map(|word| String::from_utf8(word).expect("still text")).collect()
    }

    #[test]
    fn secrets_are_masked_wherever_dump_programs_take_them() {
        let cases: [(&[&str], &[&str]); 22] = [
            (&["x", "--password=geheim"], &["x", "--password=***"]),
            (&["x", "--password", "geheim", "db"], &["x", "--password", "***", "db"]),
            (&["x", "--password", "--all"], &["x", "--password", "--all"]),
            (&["x", "--root-pass=geheim"], &["x", "--root-pass=***"]),
            (&["x", "--api-key=geheim", "--token", "geheim"], &["x", "--api-key=***", "--token", "***"]),
            (&["mysqldump", "-uroot", "-pgeheim", "db"], &["mysqldump", "-uroot", "-p***", "db"]),
            (&["/usr/bin/mariadb-dump", "-pgeheim"], &["/usr/bin/mariadb-dump", "-p***"]),
            (&["mysqldump", "-p", "db"], &["mysqldump", "-p", "db"]),
            (&["mongodump", "-p", "geheim"], &["mongodump", "-p", "***"]),
            (&["sshpass", "-pgeheim", "ssh", "-p22"], &["sshpass", "-p***", "ssh", "-p***"]),
            (&["redis-cli", "-a", "geheim", "--rdb", "-"], &["redis-cli", "-a", "***", "--rdb", "-"]),
            (&["curl", "-u", "joe:geheim", "http://h/"], &["curl", "-u", "joe:***", "http://h/"]),
            (&["env", "PGPASSWORD=geheim", "pg_dump"], &["env", "PGPASSWORD=***", "pg_dump"]),
            (&["env", "AWS_SECRET_ACCESS_KEY=geheim"], &["env", "AWS_SECRET_ACCESS_KEY=***"]),
            (&["pg_dump", "postgres://joe:geheim@h:5/db"], &["pg_dump", "postgres://joe:***@h:5/db"]),
            (&["pg_dump", "--dbname=postgres://j:ge/he@im@h/db"], &["pg_dump", "--dbname=postgres://j:***@h/db"]),
            (
                &["pg_dump", "postgres://h/db?user=j&password=geheim"],
                &["pg_dump", "postgres://h/db?user=j&password=***"],
            ),
            (&["pg_dump", "host=h password=geheim dbname=d"], &["pg_dump", "host=h password=*** dbname=d"]),
            (
                &["sh", "-c", "PGPASSWORD='ge heim' pg_dump db | gzip; mysqldump -pgeheim x"],
                &["sh", "-c", "PGPASSWORD=*** pg_dump db | gzip; mysqldump -p*** x"],
            ),
            (&["ssh", "h", "mysqldump --password=\"geheim\" db"], &["ssh", "h", "mysqldump --password=*** db"]),
            (&["pg_dump", "-d", "\"password=geheim host=h\""], &["pg_dump", "-d", "\"password=*** host=h\""]),
            (&["dump", "--conn", "'postgres://j:geheim@h/db'"], &["dump", "--conn", "'postgres://j:***@h/db'"]),
        ];
        for (line, expected) in cases {
            assert_eq!(masked(line), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let lines: [&[&str]; 6] = [
            &["pg_dump", "-Fc", "-p", "5432", "--no-password", "app"],
            &["pg_dump", "-p5432", "--passfile=/root/.pgpass"],
            &["x", "--password-file=/etc/secret", "--password-command", "pass show x"],
            &["tar", "-cpf", "-", "/srv/compass", "--exclude=*.o"],
            &["curl", "https://host/path?a=b&c=d"],
            &["sh", "-c", "cd \"$PWD\" && make -j2 all | tee log"],
        ];
        for line in lines {
            assert_eq!(masked(line), line);
        }
    }
}
