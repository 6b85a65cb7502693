//! Rows that are lost: which bytes of which nights lack them is told, what there is of these nights comes back, and the next night
//! stores them again.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use coffre::format::recipe::Recipe;
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::dump::DumpError;
use coffre::ops::reach::{SessionTimes, SnapshotReach, reach};
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::salvage::{GapFill, SalvageReport, salvage};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::writer::{RecipeStored, Writer, WriterOptions};
use serde_json::Value;

use crate::recipes::{damage, nights, reader};
use crate::support::desk::Desk;
use crate::support::dumped::{Output, dumped};
use crate::support::kitchen::{STREAM, Window, night, rows};
use crate::support::{Bench, begin, files_in, open, random_bytes};

/// What the second and the third night lack without the rows that were new in the second: of the third, one run by a recipe of that
/// night, one in a window as it was, and one by a recipe that names a window and base rows.
const LOST: [&[(u64, u64)]; 3] = [
    &[],
    &[(100_000, 4_000), (413_000, 1_000)],
    &[(50_000, 4_000), (203_502, 1_000), (314_505, 1_000), (634_527, 4_000)],
];

fn with_zeros(dump: &[u8], lost: &[(u64, u64)]) -> Vec<u8> {
    let mut dump = dump.to_vec();
    lost.iter().for_each(|(offset, length)| dump[*offset as usize..][..*length as usize].fill(0));
    dump
}

async fn salvaged(bench: &Bench, snapshot: &Snapshot, fill: GapFill) -> Result<(Vec<u8>, SalvageReport), DumpError> {
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(bench, cache.path()).await;
    let (output, monitor) = (Output::default(), Arc::new(Collected::default()));
    let report = salvage(reader, snapshot, None, fill, Box::new(output.clone()), monitor, Cancel::default()).await?;
    Ok((output.take(), report))
}

fn gaps(report: &SalvageReport) -> Vec<(u64, u64)> {
    report.gaps.iter().map(|gap| (gap.offset, gap.length)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_of_every_night_is_salvaged_and_every_gap_named() {
    let nights = nights().await;
    let bench = &nights.bench;
    let (whole, report) = salvaged(bench, &nights.snapshots[2], GapFill::Zeros).await.expect("salvaged");
    assert!(whole == nights.dumps[2]);
    assert_eq!((report.outcome(), report.gap_count, report.bytes), (Outcome::Clean, 0, whole.len() as u64));

    let pack = damage(bench, &nights.new[0]).await;
    for (nth, lost) in LOST.iter().enumerate() {
        let (snapshot, dump) = (&nights.snapshots[nth], &nights.dumps[nth]);
        let (bytes, report) = salvaged(bench, snapshot, GapFill::Zeros).await.expect("salvaged");
        assert_eq!(gaps(&report), **lost, "night {nth}");
        assert!(bytes == with_zeros(dump, lost), "night {nth}");
        assert_eq!(report.lost_bytes, lost.iter().map(|(_, length)| length).sum::<u64>());
        assert!(report.gaps.iter().all(|gap| gap.why.contains(&pack.to_string())), "{report:?}");
        let outcome = if lost.is_empty() { Outcome::Clean } else { Outcome::Damaged };
        assert_eq!(report.outcome(), outcome);
    }
    // A restore of all writes the same beside what is whole.
    let (target, repository) =
        (tempfile::tempdir().expect("made"), open(bench.store(), bench.cache.path()).await.expect("opened"));
    let options = RestoreOptions::new(nights.snapshots[2].clone(), target.path());
    restore(repository, options, Arc::new(Collected::default()), Cancel::default()).await.expect("restored");
    let restored = fs::read(target.path().join(format!("{STREAM}.damaged"))).expect("there");
    assert!(restored == with_zeros(&nights.dumps[2], LOST[2]));
}

/// Half a row joined to half of another would be a row that never was.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_hit_are_left_out_whole_and_no_others() {
    let nights = nights().await;
    let bench = &nights.bench;
    damage(bench, &nights.new[0]).await;
    let dump = &nights.dumps[1];
    let (bytes, report) = salvaged(bench, &nights.snapshots[1], GapFill::ByContent).await.expect("salvaged");
    assert_eq!((report.fill, gaps(&report)), (GapFill::Rows, LOST[1].to_vec()));
    // Too few parts say whether they end lines: the line behind each gap goes as well.
    let line = |at: usize| at + dump[at..].iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    let (first, second) = (line(104_000), line(414_000));
    assert!(bytes == [&dump[..100_000], &dump[first..413_000], &dump[second..]].concat());
    assert_eq!(report.left_out_bytes, (first - 104_000 + second - 414_000) as u64);
    let text = |range: Range<usize>| String::from_utf8(dump[range].to_vec()).expect("text");
    let gap = &report.gaps[0];
    assert_eq!((gap.lines, gap.written_at), (Some(25_000), 100_000));
    assert_eq!((gap.after.clone(), gap.before.clone()), (Some(text(99_996..99_999)), Some(text(first..first + 3))));

    // Where enough parts say so, nothing but lost rows is missing.
    let (base, new) = (rows(50, 40_000), [rows(51, 400), rows(52, 400)]);
    let cut = |chunk: &Arc<Vec<u8>>, at| (chunk.clone(), at, 400);
    let cuts = [cut(&base, 0), cut(&base, 4_000), cut(&new[0], 0), cut(&base, 8_000), cut(&new[1], 0), cut(&base, 0)];
    let window = Window::cut(1, &cuts, &[]);
    let dump = window.bytes.to_vec();
    let stored = [base, new[0].clone(), new[1].clone()];
    let snapshot = night(bench.store(), bench.cache.path(), &stored, vec![("lines", vec![window])]).await;
    damage(bench, &new[0]).await;
    damage(bench, &new[1]).await;
    let (bytes, report) = salvaged(bench, &snapshot, GapFill::ByContent).await.expect("salvaged");
    assert!(bytes == [&dump[..800], &dump[1200..1600], &dump[2000..]].concat());
    assert_eq!((gaps(&report), report.left_out_bytes), (vec![(800, 400), (1600, 400)], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_which_bytes_of_which_nights_are_lost() {
    let nights = nights().await;
    let bench = &nights.bench;
    damage(bench, &nights.new[0]).await;
    let report = bench.verify(ReadData::All).await;
    let [finding] = &report.findings[..] else { panic!("{:#?}", report.findings) };
    for (snapshot, lost) in nights.snapshots.iter().zip(LOST) {
        let of_night = finding.lost.iter().filter(|run| run.snapshot == snapshot.id);
        let runs: Vec<_> = of_night.map(|run| (run.path.as_str(), run.offset, run.length)).collect();
        let path = format!("/{STREAM}");
        let expected: Vec<_> = lost.iter().map(|(offset, length)| (path.as_str(), *offset, *length)).collect();
        assert_eq!(runs, expected);
    }
    assert_eq!(finding.lost_bytes, 15_000);
}

/// A chunk that is gone is missed unread; of one that is stored plain all of it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_plain_chunks_are_told_where_they_stand() {
    let bench = Bench::new().await;
    let windows: Vec<Arc<Vec<u8>>> = (0..3).map(|seed| rows(60 + seed, 10_000)).collect();
    let plain = windows.iter().map(|bytes| Window::plain(bytes.to_vec())).collect();
    let snapshot = night(bench.store(), bench.cache.path(), &[], vec![("plain", plain)]).await;
    damage(&bench, &windows[1]).await;
    let report = bench.verify(ReadData::All).await;
    let [finding] = &report.findings[..] else { panic!("{:#?}", report.findings) };
    let [run] = &finding.lost[..] else { panic!("{finding:#?}") };
    assert_eq!((run.snapshot, run.path.as_str(), run.offset, run.length), (snapshot.id, "/plain", 10_000, 10_000));
    let (bytes, report) = salvaged(&bench, &snapshot, GapFill::Rows).await.expect("salvaged");
    assert_eq!(gaps(&report), [(10_000, 10_000)]);
    assert!(bytes == [&windows[0][..], &windows[2][4..]].concat(), "the line behind it may be half of one");
}

/// Streams below a name that is no entry, as those of a server are: all of them are what is there, and no single one.
#[tokio::test(flavor = "multi_thread")]
async fn what_holds_several_streams_is_dumped_as_an_archive_and_not_salvaged() {
    let bench = Bench::new().await;
    let (one, other) = (rows(70, 5_000), rows(71, 6_000));
    let plain = |bytes: &Arc<Vec<u8>>| vec![Window::plain(bytes.to_vec())];
    let streams = vec![("pg/a.sql", plain(&one)), ("pg/b.sql", plain(&other)), ("z", plain(&one))];
    let snapshot = night(bench.store(), bench.cache.path(), &[], streams).await;
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(&bench, cache.path()).await;
    let path = || Some(EntryPath::new("pg").expect("safe"));
    let tar = dumped(reader.clone(), &snapshot, path()).await.expect("dumped");
    assert!(tar.starts_with(b"a.sql") && tar.len() > one.len() + other.len() + 1024, "{}", tar.len());
    let (output, monitor) = (Box::new(Output::default()), Arc::new(Collected::default()));
    let refused = salvage(reader, &snapshot, path(), GapFill::Zeros, output, monitor, Cancel::default()).await;
    assert!(matches!(refused, Err(DumpError::NoContent { .. })), "{refused:?}");
}

/// What was found damaged counts as not stored, so a recipe that names it is refused and its rows are claimed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_lost_are_stored_again_by_the_next_night() {
    let nights = nights().await;
    let bench = &nights.bench;
    damage(bench, &nights.new[0]).await;
    let report = bench.verify(ReadData::All).await;
    assert_eq!((report.outcome(), report.healing.told), (Outcome::Damaged, 1));

    let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
    let index = begin(&repository).await;
    let settings =
        WriterOptions { pack_target_bytes: 1 << 20, packs_in_flight: 1, level: 3, dry_run: false, extra_check: true };
    let writer = Writer::start(index, settings, Arc::new(Collected::default()));
    let (base, lost) = (nights.base[0].clone(), nights.new[0].clone());
    let second = nights.dumps[1][..303_000].to_vec();
    tokio::task::spawn_blocking(move || {
        let key = |plain: &[u8]| writer.id(plain).key();
        let stores = |depth: u8, named: &[u8], through: &[&[u8]]| {
            let recipe = Recipe::new(depth, &[(key(&base), 0, 10), (key(named), 0, 10)]).expect("a recipe");
            let through: Vec<_> = through.iter().map(|plain| key(plain)).collect();
            let id = writer.id(&[depth, through.len() as u8]);
            writer.store_recipe(&id, &recipe, &through).expect("goes on") == RecipeStored::AsGiven
        };
        assert!(!stores(1, &lost, &[]), "it is lost");
        assert!(!stores(2, &second, &[&base, &lost]), "what a window needs is lost");
        assert!(stores(2, &second, &[&base]), "as far as this writer says");
        assert!(writer.claim(&writer.id(&lost)), "its rows are to be stored again");
    })
    .await
    .expect("no panic");

    // A night that stores them heals all nights.
    night(bench.store(), bench.cache.path(), &[nights.new[0].clone()], vec![("again", vec![])]).await;
    let report = bench.verify(ReadData::All).await;
    assert_eq!((report.outcome(), report.healing.healed), (Outcome::Clean, 1), "{:#?}", report.findings);
    for (snapshot, dump) in nights.snapshots.iter().zip(&nights.dumps) {
        let (bytes, report) = salvaged(bench, snapshot, GapFill::Zeros).await.expect("salvaged");
        assert!(bytes == *dump && report.gap_count == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_back_a_night_reaches_is_told_without_reading_it() {
    let nights = nights().await;
    let bench = &nights.bench;
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(bench, cache.path()).await;
    let times = SessionTimes::of(reader.repository()).await.expect("listed");
    let mut told = Vec::new();
    for snapshot in &nights.snapshots {
        let SnapshotReach { reach, older_sessions, older_bytes, oldest, unreadable } =
            reach(&reader, snapshot, &times, &Collected::default()).await.expect("told");
        assert_eq!((reach.chunks, reach.lost_bytes, unreadable), (3, 0, 0));
        assert_eq!(reach.sessions.values().sum::<u64>(), reach.fetched_bytes);
        assert_eq!((oldest.is_some(), older_bytes > 0), (older_sessions > 0, older_sessions > 0));
        told.push((reach.frames, reach.recipes, reach.depth, older_sessions));
    }
    // Three plain chunks; then new rows and a frame of recipes; then both of the third night besides.
    assert_eq!(told, [(3, 0, 0, 0), (5, 2, 1, 1), (7, 3, 2, 2)]);

    damage(bench, &nights.new[0]).await;
    let gone = bench.data_packs().await;
    bench.store().delete(&gone[0]).await.expect("deleted");
    let unhit = reach_of(bench, &nights.snapshots[0]).await;
    assert_eq!(unhit.reach.frames, 3, "nothing is fetched to tell");
}

async fn reach_of(bench: &Bench, snapshot: &Snapshot) -> SnapshotReach {
    let cache = tempfile::tempdir().expect("made");
    let reader = reader(bench, cache.path()).await;
    let times = SessionTimes::of(reader.repository()).await.expect("listed");
    reach(&reader, snapshot, &times, &Collected::default()).await.expect("told")
}

/// Changes a byte in the middle of the longest object below a directory.
fn damage_longest(packs: &Path) {
    let size = |name: &String| fs::metadata(packs.join(name)).expect("there").len();
    let longest = files_in(packs).into_keys().max_by_key(size).expect("there are some");
    let path = packs.join(longest);
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(&path, bytes).expect("written");
}

#[test]
fn the_program_salvages_a_dump_and_ends_with_4() {
    let desk = Desk::with_repository();
    let noise = random_bytes(7, 3 << 20);
    let mut dump = b"COPY public.orders (id, note) FROM stdin;\n".to_vec();
    for (id, note) in noise.chunks(24).enumerate() {
        let note: String = note.iter().map(|byte| format!("{byte:02x}")).collect();
        dump.extend_from_slice(format!("{id}\t{note}\n").as_bytes());
    }
    fs::write(desk.at("dump.sql"), &dump).expect("written");
    let made = desk.run(&["backup", "-q", "--no-recipes", "--command", "shop.sql", "--", "cat", "dump.sql"]);
    assert_eq!(made.code, 0, "{made:?}");
    let whole = desk.run(&["dump", "--salvage", "latest", "--target", "whole.sql"]);
    assert_eq!((whole.code, whole.err.contains("nothing of it is lost")), (0, true), "{whole:?}");
    assert!(fs::read(desk.at("whole.sql")).expect("there") == dump);
    damage_longest(&desk.at("repository/packs"));

    let refused = desk.run(&["dump", "latest", "--target", "not.sql"]);
    assert_eq!((refused.code, desk.at("not.sql").exists()), (4, false), "{refused:?}");
    assert!(refused.err.contains("`dump --salvage` writes what there is"), "{refused:?}");

    let salvaged = desk.run(&["dump", "--salvage", "latest:shop.sql"]);
    assert_eq!(salvaged.code, 4);
    assert!(salvaged.err.contains("DAMAGED  /shop.sql: "), "{}", salvaged.err);
    assert!(salvaged.err.contains(", in public.orders, between row \""), "{}", salvaged.err);
    let lines: std::collections::HashSet<&str> = std::str::from_utf8(&dump).expect("text").lines().collect();
    assert!(salvaged.out.lines().count() > 1000);
    assert!(salvaged.out.lines().all(|line| lines.contains(line)), "every row that was written was one");

    let json = desk.run(&["dump", "--salvage=zeros", "latest", "--target", "zeros.sql", "--json"]);
    assert_eq!(json.code, 4, "{json:?}");
    let objects: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let (summary, gaps) = objects.split_last().expect("a summary");
    let number = |object: &Value, name: &str| object[name].as_u64().expect("a number");
    assert_eq!((number(summary, "gaps"), number(summary, "bytes")), (gaps.len() as u64, dump.len() as u64));
    let mut expected = dump.clone();
    for gap in gaps {
        assert_eq!(gap["event"], "gap");
        expected[number(gap, "offset") as usize..][..number(gap, "length") as usize].fill(0);
    }
    assert!(fs::read(desk.at("zeros.sql")).expect("there") == expected);
    let fields = crate::json::documented();
    assert!(crate::json::compare(&fields, "coffre dump", &json.out).contains("gap"));
    let reach = desk.run(&["stats", "--reach", "latest", "--json"]);
    assert_eq!(reach.code, 0, "what is lost in frames nobody sees who does not read them: {reach:?}");
    assert!(crate::json::compare(&fields, "coffre stats SNAPSHOT", &reach.out).contains("reach"));
    let table = desk.run(&["stats", "--reach", "latest"]);
    assert!(table.out.starts_with("ID ") && table.out.contains("FETCHED"), "{table:?}");
}
