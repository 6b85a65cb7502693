//! Secrets: none stands in a configuration, and none is shown.

use crate::cli::config::file::WrittenAt;
use crate::cli::failure::Fallible;
use crate::engine::Engines;

/// What is shown in place of a password.
const MASK: &str = "***";
/// What separates parameters, in URLs and in connection strings.
const SEPARATORS: [char; 4] = ['?', '&', ';', ' '];

/// Makes sure that no value of a key is a URL with a password.
///
/// # Errors
/// One for the user, which does not show it.
pub(super) fn refuse_passwords(key: &str, written: &WrittenAt, texts: &[String]) -> Fallible<()> {
    let engines = Engines::default();
    let server = engines.named(key).and_then(|engine| engine.words().server.as_ref());
    let has_password = |text: &String| match server {
        Some(_) => hidden(text) != *text,
        None => is_url_with_password(text),
    };
    if !texts.iter().any(has_password) {
        return Ok(());
    }
    let failure = written.wrong(format!("{key}: a URL with a password; secrets do not belong into a configuration"));
    Err(match server {
        None => failure,
        Some(words) => failure.hinting(format!(
            "leave it out of the URL and use {} or the systemd credential coffre-{key}-password, or put the URL into a variable and write \
             {key} = \"env:NAME\"",
            words.password
        )),
    })
}

/// Tells whether a text is a URL that has a password.
pub(super) fn is_url_with_password(text: &str) -> bool {
    let scheme = text.trim_start().split_once("://").map_or("", |(scheme, _)| scheme);
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    !scheme.is_empty() && scheme.bytes().all(is_scheme) && hidden(text) != text
}

/// Returns a text without the passwords of URLs and connection strings in it. It may hide too much.
pub(super) fn hidden(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return without_parameters(text) };
    let scheme = without_parameters(scheme);
    match login_end(rest) {
        Some(end) => {
            let user = rest.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{MASK}{}", hidden(&rest[end..]))
        }
        None => format!("{scheme}://{}", hidden(rest)),
    }
}

/// Returns where a login with a password ends, in a URL without its scheme. A password may hold what nobody encoded, a slash or a
/// question mark.
fn login_end(rest: &str) -> Option<usize> {
    let place = rest.split('?').next().unwrap_or_default();
    let is_cut = || {
        let (_, port) = place.split_once(':')?;
        let is_login = !place.contains('/') && port.parse::<u16>().is_err();
        rest.rfind('@').filter(|_| is_login)
    };
    let end = place.rfind('@').or_else(is_cut)?;
    let (user, password) = rest[..end].split_once(':')?;
    (!user.contains('/') && !password.is_empty()).then_some(end)
}

fn without_parameters(text: &str) -> String {
    let hide = |part: &str| {
        let body = part.trim_end_matches(SEPARATORS);
        match body.split_once('=') {
            Some((name, value)) if is_password(name) && !value.is_empty() => {
                format!("{name}={MASK}{}", &part[body.len()..])
            }
            _ => part.to_owned(),
        }
    };
    text.split_inclusive(SEPARATORS).map(hide).collect()
}

fn is_password(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("password") || name.ends_with("passwd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("postgresql://u:hunter2@db/x", "postgresql://u:***@db/x"),
            ("postgresql://u:hun/ter2@db/x", "postgresql://u:***@db/x"),
            ("postgresql://u:hun?ter2@db/x", "postgresql://u:***@db/x"),
            ("postgresql://u:hun@ter2@db/x?a=b", "postgresql://u:***@db/x?a=b"),
            ("mysql://u@db/x?password=hunter2&a=b", "mysql://u@db/x?password=***&a=b"),
            ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
            ("curl https://h/?a https://u:hunter2@h/", "curl https://h/?a https://u:***@h/"),
        ] {
            assert_eq!(hidden(text), shown);
        }
        for harmless in [
            "postgresql://u@db:5432/x?passfile=/etc/a@b",
            "postgresql://u:@db/x",
            "mysql://u@[::1]:3307/x?option-file=/etc/my.cnf",
            "s3://hetzner-fsn1/a:b@c/d",
            "/srv/a:b@c",
            "*.tmp",
        ] {
            assert_eq!(hidden(harmless), harmless);
        }
    }

    #[test]
    fn a_url_with_a_password_is_told_by_its_scheme() {
        assert!(is_url_with_password("https://u:hunter2@h/") && is_url_with_password("s3://key:hun/ter2@host/b"));
        assert!(!is_url_with_password("pass show password=x") && !is_url_with_password("https://u@h/"));
    }
}
