//! What `coffre dump --salvage` wrote and what is missing of it, for people and for programs.

use crate::cli::causes::{self, NAMED};
use crate::cli::events;
use crate::cli::output;
use crate::model::units::ByteSize;
use crate::ops::salvage::{GapFill, SalvageGap, SalvageReport};

/// What becomes of gaps, as it is said on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Gaps {
    /// `rows` for text and archives of PostgreSQL, else `zeros`
    Auto,
    /// As many zeros as bytes are lost: everything else stands where it stood
    Zeros,
    /// Nothing, and lines that are hit are left out whole: what is left can be read as a dump
    Rows,
}

impl From<Gaps> for GapFill {
    fn from(gaps: Gaps) -> Self {
        match gaps {
            Gaps::Auto => GapFill::ByContent,
            Gaps::Zeros => GapFill::Zeros,
            Gaps::Rows => GapFill::Rows,
        }
    }
}

/// Tells people what is missing, all of it where `each` gap is asked for, on standard error: what was written may go to standard output.
pub fn say(report: &SalvageReport, each: bool) {
    lines(report, each).iter().for_each(|line| output::say(line));
}

/// Tells programs what is missing.
pub fn tell(report: &SalvageReport) {
    let path = format!("/{}", report.path);
    for gap in &report.gaps {
        output::json(&events::Gap {
            after: gap.after.as_deref(),
            before: gap.before.as_deref(),
            length: gap.length,
            lines: gap.lines,
            offset: gap.offset,
            path: &path,
            table: gap.table.as_deref(),
            why: &gap.why,
            written_at: gap.written_at,
        });
    }
}

fn lines(report: &SalvageReport, each: bool) -> Vec<String> {
    let path = &report.path;
    if report.gap_count == 0 {
        return vec![format!("/{path}: nothing of it is lost")];
    }
    let fate = match (report.fill, report.left_out_bytes) {
        (GapFill::Zeros | GapFill::ByContent, _) => "zeros stand for them".to_owned(),
        (GapFill::Rows, 0) => "left out".to_owned(),
        (GapFill::Rows, more) => {
            format!("left out, and with them {} bytes of lines of which the rest is lost", output::grouped(more))
        }
    };
    let (lost, gaps) = (ByteSize(report.lost_bytes), output::count(report.gap_count, "gap"));
    let mut lines = vec![format!("DAMAGED  /{path}: {lost} are lost, in {gaps}; {fate}")];
    let named = if each { usize::MAX } else { NAMED };
    let mut why = None;
    for gap in report.gaps.iter().take(named) {
        if why.replace(&gap.why) != Some(&gap.why) {
            lines.push(format!("  {}:", gap.why));
        }
        lines.push(format!("    {}", words(gap)));
    }
    lines.extend(causes::and_more(report.gap_count.saturating_sub(named.min(report.gaps.len()) as u64)));
    lines
}

/// Says where a gap is.
fn words(gap: &SalvageGap) -> String {
    let mut words = format!("{} bytes at {}", output::grouped(gap.length), output::grouped(gap.offset));
    if let Some(table) = &gap.table {
        words += &format!(", in {table}");
    }
    let quoted = |row: &Option<String>| row.as_ref().map(|row| format!("\"{row}\""));
    match (quoted(&gap.after), quoted(&gap.before)) {
        (Some(after), Some(before)) => words += &format!(", between row {after} and {before}"),
        (Some(after), None) => words += &format!(", behind row {after}"),
        (None, Some(before)) => words += &format!(", before row {before}"),
        (None, None) => {}
    }
    if let Some(lines) = gap.lines {
        words += &format!(", {} before it", output::count(lines, "line"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::path::EntryPath;

    fn report(fill: GapFill, gaps: Vec<SalvageGap>) -> SalvageReport {
        let (lost_bytes, gap_count) = (gaps.iter().map(|gap| gap.length).sum(), gaps.len() as u64);
        let path = EntryPath::new("db/shop.sql").expect("safe");
        SalvageReport { path, bytes: 9, lost_bytes, left_out_bytes: 31, fill, gaps, gap_count }
    }

    fn gap(offset: u64, why: &str) -> SalvageGap {
        SalvageGap {
            offset,
            length: 1000,
            written_at: offset,
            lines: None,
            table: None,
            after: None,
            before: None,
            why: why.to_owned(),
        }
    }

    #[test]
    fn gaps_are_named_by_where_they_are_and_a_cause_is_told_once() {
        let some = |text: &str| Some(text.to_owned());
        let in_table = SalvageGap {
            lines: Some(1204),
            table: some("public.orders"),
            after: some("17"),
            before: some("19"),
            ..gap(100_000, "pack 1 frame 0 is damaged")
        };
        let last = SalvageGap { after: some("90"), ..gap(300_000, "pack 1 frame 0 is damaged") };
        let told = lines(&report(GapFill::Rows, vec![in_table, last, gap(400_000, "is missing")]), false);
        assert_eq!(
            told,
            [
                "DAMAGED  /db/shop.sql: 2.93 KiB are lost, in 3 gaps; left out, and with them 31 bytes of lines of which the \
                 rest is lost",
                "  pack 1 frame 0 is damaged:",
                "    1 000 bytes at 100 000, in public.orders, between row \"17\" and \"19\", 1 204 lines before it",
                "    1 000 bytes at 300 000, behind row \"90\"",
                "  is missing:",
                "    1 000 bytes at 400 000",
            ]
        );
        assert_eq!(lines(&report(GapFill::Zeros, vec![]), false), ["/db/shop.sql: nothing of it is lost"]);
        let many: Vec<_> = (0..9).map(|at| gap(at * 2000, "gone")).collect();
        let told = lines(&report(GapFill::Zeros, many.clone()), false);
        assert_eq!((told.len(), told[7].as_str()), (8, "  and 4 more; -v names each"));
        assert!(told[0].ends_with("in 9 gaps; zeros stand for them"), "{told:?}");
        assert_eq!(lines(&report(GapFill::Zeros, many), true).len(), 11);
    }
}
