//! The recovery kit: a page to print, with all that a restore on a bare machine needs.
//!
//! Every command on it is made from what the repository holds, and can be typed as it stands. The page is plain text of 80
//! columns, so that any printer takes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::cli::kit_restore::{SHOWN, WIDTH, steps};
use crate::cli::output::one_line;
use crate::cli::page::wrap;
use crate::crypto::fingerprint::Fingerprint;
use crate::crypto::secret::Passphrase;
use crate::format::FORMAT_VERSION;
use crate::model::id::RepositoryId;
use crate::model::path::display_bytes;
use crate::model::time::Timestamp;
use crate::model::units::ByteSize;
use crate::ops::holdings::Holding;
use crate::process::shell::shell;
use crate::source::files::Mark;
use crate::store::location::Location;

/// Where the sources of this build can be had, if whoever built it said so; see `docs/install.md`.
const SOURCES: Option<&str> = match option_env!("COFFRE_SOURCES") {
    Some(place) => Some(place),
    None => option_env!("CARGO_PKG_REPOSITORY"),
};

/// Says where the sources are, or that nothing but a copy of them helps.
fn sources(place: Option<&str>) -> String {
    match place.filter(|place| !place.is_empty()) {
        Some(place) => format!("Its sources: {place} (`cargo install --path .` there makes it)."),
        None => "`cargo install --path .` makes it from its sources. Whoever built it left no address of them here: keep a copy of \
                 them as well, and note with --note where."
            .into(),
    }
}

/// What a page is made from.
#[derive(Debug)]
pub struct Kit<'a> {
    /// The repository.
    pub repository: RepositoryId,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Where it is.
    pub location: &'a Location,
    /// The recovery identity, where it is known.
    pub identity: Option<&'a Passphrase>,
    /// When the page is made.
    pub made: Timestamp,
    /// What could be restored; nothing at `init`.
    pub holdings: &'a [Holding],
    /// Certificates that are trusted in place of the system's: the file and its SHA-256.
    pub ca_file: Option<(String, String)>,
    /// The region that requests are signed for, where the environment tells it.
    pub region: Option<String>,
    /// SHA-256 of the program that makes the page.
    pub program: Option<String>,
    /// Lines that whoever prints it wants on it.
    pub notes: &'a [String],
}

/// What messages call the page in its file.
pub const KIT: &str = "the recovery kit";
/// The first line of a page.
const TITLE: &str = "COFFRE RECOVERY KIT";

/// Returns what a page of this repository is known by, so that no backup takes along what opens it.
pub fn mark(repository: RepositoryId) -> Mark {
    Mark { start: format!("{TITLE}\n").into_bytes(), within: repository_line(repository).into_bytes() }
}

fn repository_line(repository: RepositoryId) -> String {
    format!("  Repository   {repository}\n")
}

impl Kit<'_> {
    /// Returns the page.
    pub fn page(&self) -> String {
        [self.head(), self.contents(), self.program_and_place(), steps(self.holdings), self.end()].concat()
    }

    fn head(&self) -> String {
        let identity = self.identity.map_or_else(
            || format!("COFFRE-RECOVERY{}\n     (copy it from the kit that `coffre init` wrote)", "-____".repeat(9)),
            |identity| identity.expose().to_owned(),
        );
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "\
{TITLE}
===================

Print this page, keep it where a fire or a thief does not find it together with
the servers, and delete the file. Whoever has it and can reach the store can
read every backup. Nobody can make the identity again.

{repository}  Fingerprint  {fingerprint}
  Location     {place}
  Made         {made}, by coffre {version}
  Format       version {FORMAT_VERSION}; coffre {version} or newer reads it

  RECOVERY IDENTITY

     {identity}

  (0 and O, 1 and I and L count as the same; capitals do not matter.)

{notes}",
            repository = repository_line(self.repository),
            fingerprint = self.fingerprint,
            place = self.place(),
            made = Timestamp::from_seconds(self.made.seconds),
            notes = self.noted(),
        )
    }

    fn noted(&self) -> String {
        let notes: String = self.notes.iter().map(|note| wrap(note, 2, WIDTH)).collect();
        if notes.is_empty() { notes } else { format!("{notes}\n") }
    }

    /// Returns the location so that it means the same in every directory.
    pub fn place(&self) -> String {
        match self.location {
            Location::Directory(path) => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            other => other.to_string(),
        }
    }

    fn contents(&self) -> String {
        if self.holdings.is_empty() {
            return "\
WHAT IS IN IT
-------------

Nothing yet. After the first backups `coffre kit` prints a page like this one
with the commands for them; keep that one.

"
            .into();
        }
        let mut text = String::from("WHAT IS IN IT\n-------------\n\n");
        for holding in self.holdings.iter().take(SHOWN) {
            let snapshot = &holding.snapshot;
            let job = if snapshot.job.is_empty() { String::new() } else { format!(", job {}", snapshot.job) };
            let made = Timestamp::from_seconds(snapshot.started.seconds);
            let size = ByteSize(snapshot.counts.bytes);
            let named = format!("{}{job}", snapshot.host);
            text.push_str(&wrap(&format!("{}: {made}, {size}", one_line(&named)), 2, WIDTH));
            let listed: BTreeSet<String> = snapshot.sources.iter().map(|it| display_bytes(it).to_string()).collect();
            text.push_str(&wrap(&listed.into_iter().collect::<Vec<_>>().join(", "), 4, WIDTH));
        }
        if self.holdings.len() > SHOWN {
            let rest = self.holdings.len() - SHOWN;
            let _ = writeln!(text, "  and {rest} more: `coffre snapshots --latest` lists them");
        }
        let bytes = self.holdings.iter().map(|holding| holding.snapshot.counts.bytes).fold(0, u64::saturating_add);
        let room = format!(
            "Room that all of it takes when restored: {}. A database can take several times its dump.",
            ByteSize(bytes)
        );
        let _ = writeln!(text, "\n{}", wrap(&room, 2, WIDTH));
        text
    }

    fn program_and_place(&self) -> String {
        let mut text = format!(
            "\
TO RESTORE on a machine that has nothing
----------------------------------------

1. Get coffre {} or newer: a single file, or the package coffre. Keep a copy
   of it beside the backups, or with this page.
",
            env!("CARGO_PKG_VERSION")
        );
        text.push_str(&wrap(&sources(SOURCES), 3, WIDTH));
        if let Some(program) = &self.program {
            let _ = write!(text, "   The one that made this page has the SHA-256\n\n     {program}\n");
        }
        let _ = write!(
            text,
            "\n2. Say where the backups are, and which they are, so that nothing else is\n   believed:\n\n     export COFFRE_REPO={}\n     \
             export COFFRE_FINGERPRINT={}\n",
            shell(&self.place()),
            self.fingerprint
        );
        if let Location::S3(s3) = self.location {
            if let Some(region) = &self.region {
                let _ = writeln!(text, "     export AWS_REGION={}", shell(region));
            }
            if let Some((file, digest)) = &self.ca_file {
                let _ = writeln!(text, "     export COFFRE_CA_FILE={}", shell(file));
                text.push('\n');
                text.push_str(&wrap(
                    "That file holds the certificate that the store is known by. Its SHA-256 is",
                    3,
                    WIDTH,
                ));
                let _ = writeln!(text, "\n     {digest}");
            }
            text.push_str(
                "\n   The bucket's access keys, from its provider's console (they are not on this\n   page):\n\n     \
                 export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...\n",
            );
            let (at, bucket) = (s3.endpoint_url(), &s3.bucket);
            let known = s3.provider.endpoint.map(|_| {
                let country = s3.provider.country.unwrap_or_default();
                let (label, region) = (&s3.provider.label, &s3.provider.region);
                format!("{label}, {country}, region {region}: {at}, bucket {bucket}")
            });
            let known = known.unwrap_or_else(|| format!("{at}, bucket {bucket}"));
            let _ = write!(text, "\n{}", wrap(&format!("The store: {known}."), 3, WIDTH));
        } else {
            text.push_str("\n   A copy of that directory at any other place will do.\n");
        }
        text
    }

    fn end(&self) -> String {
        "\
TO TRY THIS PAGE, today and once a year
---------------------------------------

Do steps 1 to 4 on another machine, and one of the restores. Whether the
identity on this page opens the repository is also told by

     coffre kit --check

which asks for it and changes nothing. `coffre kit` prints a page like this one
whenever jobs, hosts or databases have changed.

If there is no coffre any more: every byte is specified in docs/format.md of its
sources, and examples/reader.py there, written from that page alone, restores
from a copy of the repository in a directory.
"
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::{Fact, StreamFacts, fact};
    use crate::model::id::{DomainEpoch, DomainId, SessionId};
    use crate::model::path::EntryPath;
    use crate::model::snapshot::{Snapshot, SnapshotId};
    use crate::ops::holdings::{HeldStream, HeldTree};

    fn page(location: &str, holdings: &[Holding]) -> String {
        let location: Location = location.parse().expect("a location");
        let identity = crate::crypto::slot::new_recovery_identity();
        let kit = Kit {
            repository: RepositoryId([7; 16]),
            fingerprint: "0123-4567-89AB-CDEF".parse().expect("one"),
            location: &location,
            identity: Some(&identity),
            made: Timestamp { seconds: 1_795_485_300, nanos: 174_960_150 },
            holdings,
            ca_file: Some(("/etc/coffre/ca.pem".into(), "ab".repeat(32))),
            region: Some("eu-1".into()),
            program: Some("cd".repeat(32)),
            notes: &["The package: https://intranet.example/coffre.deb".to_owned()],
        };
        kit.page()
    }

    #[test]
    fn a_page_is_plain_text_of_80_columns_that_fits_two_sheets() {
        for location in ["/srv/backup", "s3://hetzner-fsn1/shop-archive/main", "s3://s3.intra.example:9000/b/p"] {
            let page = page(location, &[]);
            assert!(page.is_ascii(), "{page}");
            assert!(page.lines().all(|line| line.len() <= 80), "{page}");
            assert!(page.lines().count() <= 2 * 66, "{}", page.lines().count());
            assert!(page.contains("Made         2026-11-24T01:55:00Z, by coffre"), "{page}");
            assert!(page.contains("The package: https://intranet.example"), "{page}");
            assert!(!page.contains("latest:/etc") && !page.contains("NAME.sql"), "{page}");
        }
    }

    /// A holding with everything that a page has words for, and with names as long as they come.
    fn everything() -> Holding {
        let stream = |path: &str, facts: &[(Fact<String>, &str)]| {
            let mut kept = StreamFacts::default();
            facts.iter().for_each(|(fact, value)| kept.set(*fact, (*value).to_owned()));
            HeldStream { path: EntryPath::new(path).expect("safe"), facts: kept }
        };
        let version = "10.11.14-MariaDB-0+deb12u2-log from a distribution with very long names of its versions";
        let of = |engine: &'static str, format: &'static str, database: &'static str| {
            [
                (fact::ENGINE, engine),
                (fact::FORMAT, format),
                (fact::DATABASE, database),
                (fact::SERVER_VERSION, version),
                (fact::CLIENT_VERSION, version),
            ]
        };
        let (started, digits) = (Timestamp::from_seconds(1_795_485_300), [0; 8]);
        let (at, author) = (DomainEpoch { domain: DomainId([0; 16]), epoch: 1 }, crate::model::author::Author::Reader);
        let snapshot = Snapshot {
            started,
            finished: started,
            host: "host ".repeat(20),
            job: "a job with words ".repeat(9),
            sources: vec![b"/srv/long path".repeat(9)],
            ..Snapshot::blank(SnapshotId::new(started, digits), SessionId([0; 16]), at, author)
        };
        Holding {
            snapshot,
            trees: vec![HeldTree { path: b"/srv/long path".repeat(9), is_directory: true }],
            streams: vec![
                stream("postgres/shop.dump", &of("postgres", "postgres custom", "shop")),
                stream("postgres/globals.sql", &of("postgres", "postgres globals", "-")),
                stream("mysql/a shop.sql", &of("mysql", "mysql sql", "a shop")),
                stream("sqlite/app.db", &of("sqlite", "sqlite file", "/srv/app.db")),
                stream("shop.sql", &[]),
            ],
        }
    }

    #[test]
    fn only_a_word_that_cannot_be_broken_makes_a_line_longer_than_80_columns() {
        let page = page("s3://s3.intra.example:9000/b/p", &[everything()]);
        for part in ["PostgreSQL's own programs", "MySQL's own programs", "--globals` brings roles", "--note where"] {
            assert!(page.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part}: {page}");
        }
        let long = page.lines().filter(|line| line.chars().count() > 80);
        for line in long {
            // The shell reads a quoted word as one.
            assert!(
                line.trim_start().trim_end_matches('\\').matches(" --").count() == 0 && line.contains('\''),
                "{line}"
            );
        }
    }

    #[test]
    fn a_page_is_known_by_its_mark_and_those_of_other_repositories_are_not() {
        let page = page("/srv/backup", &[]);
        assert!(mark(RepositoryId([7; 16])).is_on(page.as_bytes()));
        assert!(!mark(RepositoryId([8; 16])).is_on(page.as_bytes()));
        assert!(!mark(RepositoryId([7; 16])).is_on(format!(" {page}").as_bytes()));
    }

    #[test]
    fn where_the_sources_are_is_told_if_whoever_built_it_said_so() {
        assert!(sources(Some("https://example.org/coffre")).starts_with("Its sources: https://example.org/coffre ("));
        for nowhere in [None, Some("")] {
            assert!(sources(nowhere).contains("left no address"), "{nowhere:?}");
        }
    }

    #[test]
    fn the_way_to_a_gateway_of_ones_own_is_told() {
        let gateway = page("s3://s3.intra.example:9000/b/p", &[]);
        for part in ["AWS_REGION=eu-1", "COFFRE_CA_FILE=/etc/coffre/ca.pem", "https://s3.intra.example:9000, bucket b"]
        {
            assert!(gateway.contains(part), "{part}: {gateway}");
        }
        assert!(page("s3://hetzner-fsn1/b", &[]).contains("Hetzner Falkenstein, DE"));
        assert!(!page("/srv/backup", &[]).contains("AWS_"));
    }
}
