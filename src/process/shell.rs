//! Words of a command that a person types into a shell.

/// Quotes a word for a shell, where it needs that. What cannot be seen is made by `printf`, so that it can be typed, and so that no word
/// makes a line of its own. Newlines at its end are lost: see [`is_typable`].
pub fn shell(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./:=@%+,-".contains(letter);
    let is_seen = |letter: char| matches!(letter, ' '..='~') || !letter.is_ascii() && letter.is_alphanumeric();
    if !word.chars().all(is_seen) {
        let octal = word.bytes().map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"_./:=@+,".contains(&byte) => char::from(byte).to_string(),
            byte => format!("\\{byte:03o}"),
        });
        return format!("\"$(printf '{}')\"", octal.collect::<String>());
    }
    // zsh looks for a program after a `=`; the others begin no word that is common.
    let is_common = !word.is_empty() && !word.starts_with(['=', '@', '%', '+', ',', ':']);
    match is_common && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Tells whether a word can be typed on one line: every shell drops newlines at the end of what a program wrote, and not all have another
/// way to write them.
pub fn is_typable(word: &str) -> bool {
    !word.ends_with('\n')
}

/// Quotes a word that stands by itself, where a program would take one that begins with a hyphen for an option.
pub fn shell_operand(word: &str) -> String {
    let ending = if word.starts_with('-') { "-- " } else { "" };
    format!("{ending}{}", shell(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are() {
        for (word, quoted) in [
            ("latest:/srv/shop", "latest:/srv/shop"),
            ("/srv/my files", "'/srv/my files'"),
            ("grüße", "'grüße'"),
            ("it's", r"'it'\''s'"),
            ("$HOME;x", "'$HOME;x'"),
            ("", "''"),
            ("=ls", "'=ls'"),
            ("a=b", "a=b"),
            ("~/x", "'~/x'"),
            ("%1", "'%1'"),
            ("-x", "-x"),
            ("a\u{1b}[b'", r#""$(printf 'a\033\133b\047')""#),
            ("a\nrm", r#""$(printf 'a\012rm')""#),
            ("\n=", r#""$(printf '\012=')""#),
        ] {
            assert_eq!(shell(word), quoted);
            assert!(is_typable(word), "{word:?}");
        }
        assert!(!is_typable("a\n") && !is_typable("\n\n"));
        assert_eq!((shell_operand("-x"), shell_operand("x y")), ("-- -x".to_owned(), "'x y'".to_owned()));
    }
}
