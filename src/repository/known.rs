//! Which repository is at which place: what this client saw there, so that another one put in its place is noticed.
//!
//! The file is text, a line for each place, and no part of the cache: who clears that must not believe whatever comes first
//! again. It holds no secret. What cannot be read or written ends nothing; it is for the caller to tell.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::crypto::fingerprint::Fingerprint;
use crate::crypto::sign::VerifyingKey;
use crate::model::id::{RepositoryId, hex, parse_hex};
use crate::repository::cache::temporary::Temporary;

/// Name of the file in the directory for what this client remembers.
const NAME: &str = "known_repositories";
/// What the file begins with.
const HEAD: &str = "# Repositories that this machine has opened: fingerprint, id, the key that checks signatures, place.\n\
                    # A line that is taken out is believed anew when its place is opened next.\n";

/// Which repository it is: its id, and the key that everything in it is checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The repository.
    pub repository: RepositoryId,
    /// Checks its signatures.
    pub verifying_key: VerifyingKey,
}

impl Pin {
    /// Returns what people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.repository, &self.verifying_key)
    }
}

/// Which repository is meant, as far as that is known before one is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// The one that was at this place before.
    pub known: Option<Pin>,
    /// The fingerprint that whoever opens it gives. It counts more than what was there before.
    pub fingerprint: Option<Fingerprint>,
}

impl Expected {
    /// Returns the fingerprint that must be found; `None` when any repository may be.
    pub fn expected(&self) -> Option<Fingerprint> {
        self.fingerprint.or(self.known.map(|pin| pin.fingerprint()))
    }

    /// Tells whether this may be the repository.
    pub fn admits(&self, pin: &Pin) -> bool {
        match (self.fingerprint, self.known) {
            (Some(fingerprint), _) => pin.fingerprint() == fingerprint,
            (None, Some(known)) => *pin == known,
            (None, None) => true,
        }
    }
}

/// The file of repositories that were opened.
#[derive(Debug, Clone)]
pub struct KnownRepositories {
    path: PathBuf,
}

impl KnownRepositories {
    /// Names the file in a directory, which may not be there yet.
    pub fn below(directory: &Path) -> Self {
        Self { path: directory.join(NAME) }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the repository that was at a place.
    ///
    /// # Errors
    /// When the file cannot be read, or the line of this place is not as it was written.
    pub fn find(&self, place: &str) -> io::Result<Option<Pin>> {
        match self.read()?.lines().find(|line| place_of(line) == Some(place)) {
            None => Ok(None),
            Some(line) => match read_pin(line) {
                Some(pin) => Ok(Some(pin)),
                None => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "the line of this place is not as it was written"))
                }
            },
        }
    }

    /// Remembers the repository at a place, in place of what was remembered of it; durable on return.
    ///
    /// # Errors
    /// When the file cannot be written; it is as it was then.
    pub fn remember(&self, place: &str, pin: &Pin) -> io::Result<()> {
        let directory = self.path.parent().expect("it is below a directory");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Two runs that remember at the same time do so one after the other; where the file system knows no locks, the later
        // one wins, and the other place is told again.
        let lock = File::open(directory)?;
        let _ = lock.lock();
        let before = self.read()?;
        let mut text = if before.is_empty() { HEAD.to_owned() } else { String::new() };
        for line in before.lines().filter(|line| place_of(line) != Some(place)) {
            text += line;
            text.push('\n');
        }
        let (id, key) = (pin.repository, hex(&pin.verifying_key.0));
        text += &format!("{} {id} {key} {place}\n", pin.fingerprint());
        let temporary = Temporary::create(&self.path)?;
        temporary.file().write_all(text.as_bytes())?;
        temporary.file().sync_all()?;
        temporary.persist(&self.path)?;
        lock.sync_all()
    }

    fn read(&self) -> io::Result<String> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        }
    }
}

/// Returns the place that a line is about: all behind the third blank.
fn place_of(line: &str) -> Option<&str> {
    if line.starts_with('#') { None } else { line.splitn(4, ' ').nth(3) }
}

fn read_pin(line: &str) -> Option<Pin> {
    let mut words = line.split(' ');
    let fingerprint: Fingerprint = words.next()?.parse().ok()?;
    let (id, key) = (parse_hex(words.next()?)?, parse_hex(words.next()?)?);
    let pin = Pin { repository: RepositoryId(id), verifying_key: VerifyingKey(key) };
    (pin.fingerprint() == fingerprint).then_some(pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(number: u8) -> Pin {
        Pin { repository: RepositoryId([number; 16]), verifying_key: VerifyingKey([number; 32]) }
    }

    #[test]
    fn what_is_remembered_of_a_place_is_found_and_replaced() {
        let directory = tempfile::tempdir().expect("made");
        let known = KnownRepositories::below(&directory.path().join("state/coffre"));
        assert_eq!(known.find("/srv/backup").expect("nothing yet"), None);
        known.remember("/srv/backup", &pin(1)).expect("written");
        known.remember("s3://host/bucket/a b", &pin(2)).expect("written");
        known.remember("/srv/backup", &pin(3)).expect("written");
        assert_eq!(known.find("/srv/backup").expect("read"), Some(pin(3)));
        assert_eq!(known.find("s3://host/bucket/a b").expect("read"), Some(pin(2)));
        assert_eq!(known.find("/srv").expect("read"), None);
        let text = fs::read_to_string(known.path()).expect("text");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2, "{text}");
        assert!(text.starts_with(HEAD) && text.contains(&pin(3).fingerprint().to_string()), "{text}");
        assert_eq!(
            fs::read_dir(known.path().parent().expect("below")).expect("there").count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn a_line_that_was_changed_is_told_and_others_are_kept() {
        let directory = tempfile::tempdir().expect("made");
        let known = KnownRepositories::below(directory.path());
        known.remember("/a", &pin(1)).expect("written");
        known.remember("/b", &pin(2)).expect("written");
        let text = fs::read_to_string(known.path()).expect("text").replace("0101 /a", "0102 /a") + "no line of ours\n";
        fs::write(known.path(), text).expect("written");
        assert_eq!(known.find("/a").expect_err("its key is another").kind(), io::ErrorKind::InvalidData);
        assert_eq!(known.find("/b").expect("read"), Some(pin(2)));
        known.remember("/a", &pin(1)).expect("written");
        assert_eq!(known.find("/a").expect("read"), Some(pin(1)));
        assert!(fs::read_to_string(known.path()).expect("text").contains("no line of ours\n"));
    }

    #[test]
    fn many_who_remember_at_once_lose_nothing() {
        let directory = tempfile::tempdir().expect("made");
        let known = KnownRepositories::below(directory.path());
        std::thread::scope(|scope| {
            for number in 0..16u8 {
                let known = &known;
                scope.spawn(move || known.remember(&format!("/{number}"), &pin(number)).expect("written"));
            }
        });
        for number in 0..16 {
            assert_eq!(known.find(&format!("/{number}")).expect("read"), Some(pin(number)));
        }
    }

    #[test]
    fn a_given_fingerprint_counts_more_than_what_was_there() {
        let (old, new) = (pin(1), pin(2));
        let given = Expected { known: Some(old), fingerprint: Some(new.fingerprint()) };
        assert!(given.admits(&new) && !given.admits(&old));
        let known = Expected { known: Some(old), fingerprint: None };
        assert!(known.admits(&old) && !known.admits(&new));
        assert!(Expected::default().admits(&old) && Expected::default().expected().is_none());
    }
}
