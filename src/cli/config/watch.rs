//! The tables `watch`: who is told how runs and jobs end.

use std::path::Path;

use crate::cli::config::file::{TomlItem, WrittenAt};
use crate::cli::config::keys::unknown;
use crate::cli::failure::Fallible;
use crate::cli::run::watchers::{Hears, SecretAt, WatchUrl, Watchers};
use crate::web::SecretUrl;

/// The key of those who are told by mail.
pub(super) const MAIL_TO: &str = "mail-to";
/// Keys of URLs; with [`FILE`] behind them, of files whose first line is one.
pub(super) const URLS: [(&str, Hears); 2] = [("ping-url", Hears::Pings), ("webhook-url", Hears::Failures)];
const FILE: &str = "-file";

/// Returns the keys with what they mean.
pub(super) fn explained() -> Vec<(String, &'static str)> {
    let mut keys = Vec::new();
    for (key, hears) in URLS {
        keys.push((key.to_owned(), hears.meaning()));
        keys.push((format!("{key}{FILE}"), "A file whose first line is that URL"));
    }
    keys.push((MAIL_TO.to_owned(), "Addresses that get mail, by sendmail, when it did not go well"));
    keys
}

/// Reads such a table.
pub(super) fn watchers(written: &WrittenAt, item: TomlItem) -> Fallible<Watchers> {
    let TomlItem::Table(table) = item else {
        return Err(written.wrong("watch takes a table: ping-url-file, webhook-url-file, mail-to"));
    };
    let mut watchers = Watchers::default();
    for (key, (written, item)) in table {
        let of_file = key.strip_suffix(FILE).and_then(|key| URLS.iter().find(|(known, _)| *known == key));
        let of_url = URLS.iter().find(|(known, _)| *known == key);
        match (of_url, of_file, item) {
            (Some((_, hears)), _, TomlItem::Text(text)) => {
                let url =
                    SecretUrl::parse(&text).map_err(|why| written.wrong(format!("{key} cannot be used: {why}")))?;
                if written.can_be_read_by_others() {
                    let failure =
                        written.wrong(format!("{key} is a secret, and others than its owner can read this file"));
                    return Err(failure.hinting(format!("chmod go-r FILE, or write it into a file for {key}{FILE}")));
                }
                watchers.urls.push(WatchUrl { hears: *hears, at: SecretAt::Here(url), key, written });
            }
            (_, Some((_, hears)), TomlItem::Text(text)) => {
                if !Path::new(&text).is_absolute() {
                    // It may be the URL itself.
                    return Err(written.wrong(format!("{key}: the path does not begin with a slash")));
                }
                watchers.urls.push(WatchUrl { hears: *hears, at: SecretAt::File(text.into()), key, written });
            }
            (None, None, TomlItem::Text(text)) if key == MAIL_TO => {
                watchers.mail_to = vec![address(&written, text)?];
                watchers.mail_written = Some(written);
            }
            (None, None, TomlItem::Texts(texts)) if key == MAIL_TO => {
                watchers.mail_to = texts.into_iter().map(|text| address(&written, text)).collect::<Fallible<_>>()?;
                watchers.mail_written = Some(written);
            }
            (None, None, _) if key != MAIL_TO => {
                let known = explained();
                return Err(unknown(&key, &written, known.iter().map(|(key, _)| key.as_str())));
            }
            (_, _, other) => return Err(written.wrong(format!("{key} takes one value, and this is {}", other.kind()))),
        }
    }
    Ok(watchers)
}

/// Takes an address that can stand in a line of a mail's head without being taken for anything else.
fn address(written: &WrittenAt, text: String) -> Fallible<String> {
    let is_harmless = |c: char| c.is_ascii_graphic() && !"<>(),;:\\\"[]".contains(c);
    if text.is_empty() || !text.chars().all(is_harmless) {
        return Err(written.wrong(format!("{MAIL_TO}: {text:?} is no plain address such as ops@example.org")));
    }
    Ok(text)
}
