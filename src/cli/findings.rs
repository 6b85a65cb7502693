//! What `verify` found, for people: what is wrong once, with the objects that have it, and what that hits once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::cli::causes::{self, NAMED};
use crate::cli::output;
use crate::model::id::ChunkId;
use crate::ops::verify::{Damage, Finding, FindingSubject, LostRun};

/// Frames named for one object; beyond them their number.
const FRAMES_NAMED: usize = 8;

/// Objects with the same things wrong with them.
#[derive(Debug)]
struct Group<'a> {
    findings: Vec<&'a Finding>,
    objects: Vec<&'a FindingSubject>,
}

/// Prints them to standard output; with `each` every object and every path that is known.
pub fn print(findings: &[Finding], each: bool) {
    lines(findings, each, output::wanted_width()).iter().for_each(|line| output::line(line));
}

fn lines(findings: &[Finding], each: bool, width: Option<usize>) -> Vec<String> {
    groups(findings, each).iter().flat_map(|group| group.lines(each, width)).collect()
}

/// Puts objects together that have the same things wrong with them, unless each is to be told by itself.
fn groups(findings: &[Finding], each: bool) -> Vec<Group<'_>> {
    let (mut groups, mut places) = (Vec::<Group>::new(), BTreeMap::new());
    for of_object in findings.chunk_by(|one, next| one.object == next.object) {
        let object = &of_object[0].object;
        let causes: BTreeSet<String> = of_object.iter().map(|finding| frame_and_cause(finding).1).collect();
        let at = *places.entry((causes, each.then_some(object))).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Group { findings: Vec::new(), objects: Vec::new() });
        }
        groups[at].findings.extend(of_object);
        groups[at].objects.push(object);
    }
    groups
}

/// Returns the frame that is at fault, where it is one, and what is wrong.
fn frame_and_cause(finding: &Finding) -> (Option<String>, String) {
    match &finding.damage {
        Damage::Frame { frame, why } => (Some(frame.to_string()), why.clone()),
        other => (None, other.to_string()),
    }
}

impl Group<'_> {
    fn lines(&self, each: bool, width: Option<usize>) -> Vec<String> {
        let named = if each { usize::MAX } else { NAMED };
        let count = self.objects.len();
        let what = match self.objects.as_slice() {
            [object] => object.to_string(),
            objects => output::count(objects.len() as u64, "object"),
        };
        let start = format!("DAMAGED  {what}: ");
        let mut lines: Vec<String> =
            self.causes().iter().flat_map(|cause| causes::fold(&start, cause, width)).collect();
        if count > 1 {
            lines.extend(self.objects.iter().take(named).map(|object| format!("  {object}")));
            lines.extend(causes::and_more(count.saturating_sub(named) as u64));
        }
        let snapshots: BTreeSet<_> = self.findings.iter().flat_map(|finding| &finding.snapshots).collect();
        if !snapshots.is_empty() {
            let ids: Vec<String> = snapshots.iter().map(|id| id.short()).collect();
            lines.extend(causes::fold("  snapshots: ", &ids.join(" "), width));
        }
        let windows: BTreeSet<String> =
            self.findings.iter().flat_map(|finding| &finding.windows).map(ChunkId::short).collect();
        if !windows.is_empty() {
            let mut ids: Vec<&str> = windows.iter().map(String::as_str).take(named).collect();
            ids.extend((windows.len() > ids.len()).then_some("and more"));
            lines.extend(causes::fold("  chunks put together from it: ", &ids.join(" "), width));
        }
        let mut runs = self.findings.iter().flat_map(|finding| &finding.lost);
        let lost = |run: &LostRun| {
            let (length, offset) = (output::grouped(run.length), output::grouped(run.offset));
            format!("  lost: {length} bytes at {offset} of {} in {}", run.path, run.snapshot.short())
        };
        lines.extend(runs.by_ref().take(named).map(lost));
        if runs.next().is_some() {
            let all = self.findings.iter().map(|finding| finding.lost_bytes).sum();
            lines.push(format!("  in all {}, over all snapshots", output::count(all, "byte")));
        }
        let mut told = HashSet::new();
        let paths = self.findings.iter().flat_map(|finding| &finding.paths).filter(|path| told.insert(path.as_str()));
        let paths: Vec<String> = paths.take(named).map(|path| format!("  {path}")).collect();
        let hits: u64 = self.findings.iter().map(|finding| finding.path_count).sum();
        let more = hits.saturating_sub(paths.len() as u64);
        lines.extend(paths);
        if more > 0 {
            lines.push(format!("  and {}", output::count(more, "more time")));
        }
        lines
    }

    /// What is wrong, with the frames where it is one object.
    fn causes(&self) -> Vec<String> {
        let mut frames: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for finding in &self.findings {
            let (frame, cause) = frame_and_cause(finding);
            frames.entry(cause).or_default().extend(frame);
        }
        let is_one = self.objects.len() == 1;
        let told = frames.iter().map(|(cause, frames)| match frames.as_slice() {
            [frame] if is_one => format!("frame {frame}: {cause}"),
            [] => cause.clone(),
            several if is_one && several.len() <= FRAMES_NAMED => format!("frames {}: {cause}", several.join(", ")),
            several if is_one => format!("{}: {cause}", output::count(several.len() as u64, "frame")),
            _ => cause.clone(),
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::ObjectKey;

    fn finding(object: &str, problem: &str, paths: &[&str]) -> Finding {
        Finding {
            object: FindingSubject::Object(ObjectKey::from_listed(object)),
            damage: match problem.strip_prefix("frame ").and_then(|rest| rest.split_once(": ")) {
                Some((frame, why)) => Damage::Frame { frame: frame.parse().expect("a number"), why: why.to_owned() },
                None => Damage::Unusable(problem.to_owned()),
            },
            snapshots: Vec::new(),
            windows: Vec::new(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            path_count: paths.len() as u64,
            lost: Vec::new(),
            lost_bytes: 0,
        }
    }

    #[test]
    fn frames_of_one_pack_are_one_line_and_a_path_is_told_once() {
        let cause = "authentication failed: the stored bytes were changed";
        let findings = [
            finding("packs/1", &format!("frame 0: {cause}"), &["/a"]),
            finding("packs/1", &format!("frame 7: {cause}"), &["/a", "/b"]),
        ];
        assert_eq!(
            lines(&findings, false, Some(60)),
            [
                "DAMAGED  packs/1: frames 0, 7: authentication failed: the",
                "  stored bytes were changed",
                "  /a",
                "  /b",
                "  and 1 more time",
            ]
        );
    }

    #[test]
    fn packs_that_are_gone_are_one_line_unless_each_is_asked_for() {
        let findings: Vec<Finding> =
            (0..300).map(|at| finding(&format!("packs/{at:03}"), "is missing", &[&format!("/f{at}")])).collect();
        let told = lines(&findings, false, None);
        assert_eq!(told[..2], ["DAMAGED  300 objects: is missing", "  packs/000"]);
        assert_eq!(told[6..8], ["  and 295 more; -v names each", "  /f0"]);
        assert_eq!(told[11..], ["  /f4", "  and 295 more times"]);
        let each = lines(&findings, true, None);
        assert_eq!(each.len(), 600);
        assert_eq!(each[598..], ["DAMAGED  packs/299: is missing", "  /f299"]);
    }

    #[test]
    fn what_is_wrong_in_different_ways_stays_apart() {
        let findings = [
            finding("packs/1", "is missing", &[]),
            finding("packs/2", "has 3 bytes instead of 4", &[]),
            finding("packs/3", "is missing", &[]),
        ];
        let told = lines(&findings, false, None);
        assert_eq!(
            told,
            ["DAMAGED  2 objects: is missing", "  packs/1", "  packs/3", "DAMAGED  packs/2: has 3 bytes instead of 4",]
        );
    }
}
