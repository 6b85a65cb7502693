//! What is odd about roots and streams beside what they used to hold: functions from figures to what is noticed.
//!
//! A root or stream is compared with what earlier runs found in it that nobody has to look at any more: what a run noticed is no measure
//! for those behind it until somebody accepts it. So what goes on being odd goes on being told.

use crate::model::anomaly::AnomalyKind;
use crate::model::snapshot::{Anomaly, SnapshotId};
use crate::model::units::ByteSize;
use crate::ops::backup::options::AnomalyLimits;
use crate::ops::backup::remembered::median;

/// Files that must have changed or gone before a change counts: a few files change together every day.
const CHANGED_FILES_MIN: u64 = 50;
/// Files that must have come to look random.
const RANDOM_FILES_MIN: u64 = 10;
/// Bytes that must have come before growth counts, and runs that there must be to compare with: what is new grows by itself.
const GROWN_BYTES_MIN: u64 = 1 << 30;
const RUNS_BEFORE_GROWTH: usize = 3;

/// What a root holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TreeFigures {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What became of the files that the parent had in a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TreeChange {
    /// Files that the parent had.
    pub(super) before: u64,
    /// Files of these whose content is another.
    pub(super) changed: u64,
    /// Files of these that are gone, and did not come back with what they held under another name.
    pub(super) gone: u64,
    /// Files that look random in place of others that did not: under the same name, or new where others are gone.
    pub(super) random: u64,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct StreamFigures {
    pub(super) bytes: u64,
    /// Tables of the database, where its engine counts them.
    pub(super) tables: Option<u64>,
}

/// Something odd, before it is known whether it was noticed before.
pub(super) type Noticed = (AnomalyKind, String);

/// Says of what it was noticed.
pub(super) fn noticed_of(subject: &str, noticed: Vec<Noticed>) -> impl Iterator<Item = Anomaly> {
    noticed.into_iter().map(move |(kind, why)| Anomaly { kind, subject: subject.to_owned(), why, since: None })
}

/// Judges a root beside what it held in earlier runs, the newest last, and beside the parent where there is one. `is_unread` says that
/// something in it could not be read.
pub(super) fn judge_tree(
    now: TreeFigures,
    earlier: &[TreeFigures],
    change: Option<TreeChange>,
    is_unread: bool,
    limits: &AnomalyLimits,
) -> Vec<Noticed> {
    let shrunk = shrunk_tree(now, earlier, is_unread, limits.shrink).map(|why| (AnomalyKind::Shrank, why));
    let bytes: Vec<u64> = earlier.iter().map(|it| it.bytes).collect();
    let grown = || grown(now.bytes, &bytes, limits.growth).map(|why| (AnomalyKind::Grew, why));
    let random = change.and_then(|it| come_to_look_random(it, limits.random)).map(|why| (AnomalyKind::Random, why));
    // What shrank or was encrypted has changed as well.
    let is_told = shrunk.is_some() || random.is_some();
    let changed = change.filter(|_| !is_told).and_then(|it| changed(it, limits.change));
    let changed = changed.map(|why| (AnomalyKind::Changed, why));
    shrunk.or_else(grown).into_iter().chain(random).chain(changed).collect()
}

/// Judges a stream beside what it held in earlier runs, the newest last.
pub(super) fn judge_stream(now: StreamFigures, earlier: &[StreamFigures], limits: &AnomalyLimits) -> Vec<Noticed> {
    let bytes: Vec<u64> = earlier.iter().map(|it| it.bytes).collect();
    let shrunk = shrunk_stream(now.bytes, &bytes, limits.shrink).map(|why| (AnomalyKind::Shrank, why));
    let grown = || grown(now.bytes, &bytes, limits.growth).map(|why| (AnomalyKind::Grew, why));
    let tables: Vec<u64> = earlier.iter().filter_map(|it| it.tables).collect();
    let lost = now.tables.and_then(|now| lost_tables(now, &tables, limits.tables));
    let lost = lost.map(|why| (AnomalyKind::LostTables, why));
    shrunk.or_else(grown).into_iter().chain(lost).collect()
}

/// Returns what a snapshot is flagged for: what its run noticed, and what the snapshot before it was flagged for and no run sees again
/// by itself. `has_measure` says of a subject whether there was anything from before to compare it with.
pub(super) fn standing(
    noticed: Vec<Anomaly>,
    previous: Option<SnapshotId>,
    before: &[Anomaly],
    has_measure: impl Fn(&str) -> bool,
) -> Vec<Anomaly> {
    let first = |before: &Anomaly| before.since.or(previous);
    let is_same = |one: &Anomaly, other: &Anomaly| one.kind == other.kind && one.subject == other.subject;
    let mut all = noticed;
    for now in &mut all {
        // What changed once more is another change.
        let earlier = before.iter().filter(|_| now.kind.is_seen_again()).find(|before| is_same(before, now));
        now.since = earlier.and_then(first);
    }
    let goes_on = |it: &&Anomaly| !it.kind.is_seen_again() || !has_measure(&it.subject);
    for earlier in before.iter().filter(goes_on) {
        if !all.iter().any(|now| is_same(now, earlier)) {
            all.push(Anomaly { since: first(earlier), ..earlier.clone() });
        }
    }
    all
}

fn runs(earlier: usize) -> String {
    match earlier {
        1 => "in the last run".to_owned(),
        runs => format!("in the median of the last {runs} runs"),
    }
}

fn part(now: u64, before: u64) -> f64 {
    now as f64 / before.max(1) as f64
}

/// Tells whether there is less than `limit` of what was before; of nothing there cannot be less.
fn is_less(now: u64, before: u64, limit: f64) -> bool {
    before > 0 && part(now, before) < limit
}

/// Says how a root has shrunk below `limit` of what it was, by the number of its files or by their bytes.
fn shrunk_tree(now: TreeFigures, earlier: &[TreeFigures], is_unread: bool, limit: f64) -> Option<String> {
    let files = median(&earlier.iter().map(|held| held.files).collect::<Vec<_>>());
    let bytes = median(&earlier.iter().map(|held| held.bytes).collect::<Vec<_>>());
    let runs = runs(earlier.len());
    if now.files == 0 && is_less(now.files, files, limit) {
        let size = ByteSize(bytes);
        return Some(match is_unread {
            true => format!("holds no file that could be read, and held {files} ({size}) {runs}"),
            false => format!("holds no file, and held {files} ({size}) {runs}; is it mounted, and the right place?"),
        });
    }
    let text = |what: &str, now: u64, before: u64| {
        let percent = part(now, before) * 100.0;
        format!("holds only {percent:.0} % of the {what} that it used to hold: {now}, {before} {runs}")
    };
    if is_less(now.files, files, limit) {
        return Some(text("files", now.files, files));
    }
    is_less(now.bytes, bytes, limit).then(|| text("bytes", now.bytes, bytes))
}

fn shrunk_stream(now: u64, earlier: &[u64], limit: f64) -> Option<String> {
    let median = median(earlier);
    is_less(now, median, limit).then(|| {
        let (percent, runs) = (part(now, median) * 100.0, earlier.len());
        format!("only {percent:.0} % of what it used to be: {now} bytes, {median} in the median of {runs} earlier ones")
    })
}

fn grown(now: u64, earlier: &[u64], limit: f64) -> Option<String> {
    let median = median(earlier);
    let is_more = limit > 0.0 && earlier.len() >= RUNS_BEFORE_GROWTH && part(now, median) > limit;
    (is_more && now.saturating_sub(median) >= GROWN_BYTES_MIN).then(|| {
        let (times, runs) = (part(now, median), runs(earlier.len()));
        format!("holds {times:.1} times as much as it used to: {}, {} {runs}", ByteSize(now), ByteSize(median))
    })
}

fn come_to_look_random(change: TreeChange, limit: f64) -> Option<String> {
    let TreeChange { before, random, .. } = change;
    let is_many = limit > 0.0 && random >= RANDOM_FILES_MIN && part(random, before) > limit;
    is_many.then(|| {
        format!(
            "{random} of {before} files ({:.0} %) came to look like random bytes, as somebody's encryption makes them",
            part(random, before) * 100.0
        )
    })
}

fn changed(change: TreeChange, limit: f64) -> Option<String> {
    let TreeChange { before, changed, gone, .. } = change;
    let lost = changed + gone;
    let is_many = limit > 0.0 && lost >= CHANGED_FILES_MIN && part(lost, before) > limit;
    is_many.then(|| {
        format!(
            "{lost} of {before} files ({:.0} %) are not what they were in the backup before: {changed} changed, {gone} gone",
            part(lost, before) * 100.0
        )
    })
}

/// Says how many tables are missing beside the last run: they are not as many one night and fewer the next, as bytes are.
fn lost_tables(now: u64, earlier: &[u64], limit: f64) -> Option<String> {
    let last = *earlier.last()?;
    is_less(now, last, limit).then(|| format!("holds {now} tables, and held {last} in the last run"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    const LIMITS: AnomalyLimits = AnomalyLimits { shrink: 0.5, growth: 3.0, change: 0.5, random: 0.02, tables: 1.0 };
    const NONE: AnomalyLimits = AnomalyLimits { shrink: 0.0, growth: 0.0, change: 0.0, random: 0.0, tables: 0.0 };
    const GIB: u64 = 1 << 30;

    fn trees(figures: &[(u64, u64)]) -> Vec<TreeFigures> {
        figures.iter().map(|&(files, bytes)| TreeFigures { files, bytes }).collect()
    }

    fn told(noticed: &[Noticed]) -> String {
        noticed.iter().map(|(kind, why)| format!("{kind}: {why}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_tree_is_flagged_when_it_holds_much_less_or_more_than_it_used_to() {
        type Case = (&'static [(u64, u64)], (u64, u64), &'static str);
        let cases: [Case; 14] = [
            (&[], (0, 0), ""),
            (&[(0, 0)], (0, 0), ""),
            (&[(25, 2048)], (0, 0), "shrank: holds no file, and held 25 (2.00 KiB) in the last run; is it mounted"),
            (
                &[(25, 1000); 3],
                (12, 1000),
                "shrank: holds only 48 % of the files that it used to hold: 12, 25 in the median of",
            ),
            (&[(25, 1000); 3], (13, 500), ""),
            (
                &[(25, 1000); 3],
                (25, 499),
                "shrank: holds only 50 % of the bytes that it used to hold: 499, 1000 in the median of",
            ),
            (&[(25, 0); 3], (25, 0), ""),
            // One night without the volume does not make the next one right.
            (&[(25, 9), (25, 9), (0, 0), (25, 9)], (0, 0), "shrank: holds no file"),
            (&[(1, 10)], (50, 5000), ""),
            (&[(25, GIB); 3], (25, 4 * GIB), "grew: holds 4.0 times as much as it used to: 4.00 GiB, 1.00 GiB in the"),
            (&[(25, GIB); 3], (25, 3 * GIB), ""),
            // What is new grows, and what is small.
            (&[(25, GIB); 2], (25, 9 * GIB), ""),
            (&[(25, 1000); 3], (25, GIB), ""),
            (&[(0, 0); 3], (25, 2 * GIB), "grew: "),
        ];
        for (earlier, (files, bytes), expected) in cases {
            let now = TreeFigures { files, bytes };
            let told = told(&judge_tree(now, &trees(earlier), None, false, &LIMITS));
            assert_eq!(told.is_empty(), expected.is_empty(), "{earlier:?} {files} {bytes}: {told}");
            assert!(told.starts_with(expected), "{earlier:?} {files} {bytes}: {told}");
            assert_eq!(judge_tree(now, &trees(earlier), None, false, &NONE), [], "a limit of 0 flags none");
        }
        let unread = judge_tree(TreeFigures::default(), &trees(&[(25, 2048)]), None, true, &LIMITS);
        assert_eq!(told(&unread), "shrank: holds no file that could be read, and held 25 (2.00 KiB) in the last run");
    }

    #[test]
    fn a_tree_is_flagged_when_much_of_it_changed_went_or_came_to_look_random() {
        // Files before; changed, gone, random.
        let cases = [
            ((1000, 0, 0, 0), ""),
            ((1000, 300, 200, 0), ""),
            (
                (1000, 301, 200, 0),
                "changed: 501 of 1000 files (50 %) are not what they were in the backup before: 301 changed, 200 gone",
            ),
            // A small tree that was changed as a whole.
            ((49, 49, 0, 0), ""),
            ((50, 50, 0, 0), "changed: 50 of 50 files (100 %)"),
            ((1000, 20, 0, 20), ""),
            (
                (1000, 21, 0, 21),
                "random: 21 of 1000 files (2 %) came to look like random bytes, as somebody's encryption makes them",
            ),
            ((9, 9, 0, 9), ""),
            ((10, 10, 0, 10), "random: 10 of 10 files (100 %)"),
            // One thing is told once.
            ((1000, 900, 0, 900), "random: 900 of 1000 files (90 %)"),
            ((0, 0, 0, 0), ""),
        ];
        let now = TreeFigures { files: 1000, bytes: 1 };
        for ((before, changed, gone, random), expected) in cases {
            let change = Some(TreeChange { before, changed, gone, random });
            let noticed = judge_tree(now, &[now], change, false, &LIMITS);
            assert_eq!(noticed.len(), usize::from(!expected.is_empty()), "{change:?}: {noticed:?}");
            assert!(told(&noticed).starts_with(expected), "{change:?}: {noticed:?}");
            assert_eq!(judge_tree(now, &[now], change, false, &NONE), [], "a limit of 0 flags none");
        }
        // Encrypted, and the rest deleted.
        let change = Some(TreeChange { before: 1000, changed: 0, gone: 900, random: 100 });
        let noticed = judge_tree(TreeFigures { files: 100, bytes: 1 }, &[now], change, false, &LIMITS);
        let kinds: Vec<_> = noticed.iter().map(|(kind, _)| kind.name()).collect();
        assert_eq!(kinds, ["shrank", "random"]);
    }

    #[test]
    fn a_stream_is_flagged_when_it_is_much_smaller_or_larger_or_lost_tables() {
        type Case = (&'static [(u64, Option<u64>)], (u64, Option<u64>), &'static str);
        let cases: [Case; 14] = [
            (&[], (1, None), ""),
            (
                &[(1000, None); 3],
                (499, None),
                "shrank: only 50 % of what it used to be: 499 bytes, 1000 in the median of 3 earlier ones",
            ),
            (&[(1000, None); 3], (500, None), ""),
            // One small dump among many does not make the next small one right.
            (&[(1000, None), (1000, None), (10, None), (1000, None), (1000, None)], (20, None), "shrank: "),
            (&[(1000, None)], (5000, None), ""),
            (&[(GIB, None); 3], (4 * GIB, None), "grew: "),
            (&[(1000, Some(12))], (1000, Some(11)), "lost tables: holds 11 tables, and held 12 in the last run"),
            (&[(1000, Some(12))], (1000, Some(12)), ""),
            (&[(1000, Some(12))], (1000, Some(13)), ""),
            (&[(1000, Some(0))], (1000, Some(0)), ""),
            (&[(1000, Some(13)), (1000, Some(12))], (1000, Some(12)), ""),
            // Counted by one of two programs.
            (&[(1000, Some(12))], (1000, None), ""),
            (&[(1000, None)], (1000, Some(1)), ""),
            (&[(1000, Some(12)), (1000, None)], (1000, Some(2)), "lost tables: "),
        ];
        let of = |(bytes, tables)| StreamFigures { bytes, tables };
        for (earlier, now, expected) in cases {
            let earlier: Vec<_> = earlier.iter().copied().map(of).collect();
            let told = told(&judge_stream(of(now), &earlier, &LIMITS));
            assert_eq!(told.is_empty(), expected.is_empty(), "{earlier:?} {now:?}: {told}");
            assert!(told.starts_with(expected), "{earlier:?} {now:?}: {told}");
            assert_eq!(judge_stream(of(now), &earlier, &NONE), []);
        }
    }

    #[test]
    fn what_was_noticed_stands_until_it_is_over_or_accepted() {
        let id = |byte: u8| SnapshotId::new(Timestamp::from_seconds(1_795_000_000), [byte; 8]);
        let anomaly = |kind: &AnomalyKind, since: Option<u8>| Anomaly {
            kind: kind.clone(),
            subject: "/srv".into(),
            why: "odd".into(),
            since: since.map(id),
        };
        let (shrank, changed) = (AnomalyKind::Shrank, AnomalyKind::Changed);
        // Noticed now, before, whether there is a measure; what stands.
        type Kinds<'a> = &'a [(&'a AnomalyKind, Option<u8>)];
        let cases: [(&[&AnomalyKind], Kinds<'_>, bool, Kinds<'_>); 9] = [
            (&[], &[], true, &[]),
            (&[&shrank], &[], true, &[(&shrank, None)]),
            (&[&shrank], &[(&shrank, None)], true, &[(&shrank, Some(7))]),
            (&[&shrank], &[(&shrank, Some(3))], true, &[(&shrank, Some(3))]),
            // The volume is mounted again.
            (&[], &[(&shrank, None)], true, &[]),
            // What is remembered was lost, so nobody knows.
            (&[], &[(&shrank, None)], false, &[(&shrank, Some(7))]),
            // What changed once is compared with itself now.
            (&[], &[(&changed, None)], true, &[(&changed, Some(7))]),
            (&[], &[(&changed, Some(3))], true, &[(&changed, Some(3))]),
            (&[&changed], &[(&changed, Some(3))], true, &[(&changed, None)]),
        ];
        for (now, before, has_measure, expected) in cases {
            let noticed = now.iter().map(|kind| anomaly(kind, None)).collect();
            let before: Vec<_> = before.iter().map(|(kind, since)| anomaly(kind, *since)).collect();
            let expected: Vec<_> = expected.iter().map(|(kind, since)| anomaly(kind, *since)).collect();
            assert_eq!(standing(noticed, Some(id(7)), &before, |_| has_measure), expected, "{now:?} {before:?}");
        }
    }
}
