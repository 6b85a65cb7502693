//! Tables without lines that fit a terminal: what is empty in every row is left out, what is too long is cut by `…`, and each
//! row is one line. A note that has no room beside its row stands below it, whole.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::output;
use crate::cli::page::wrap;

/// Columns between two cells.
const GAP: usize = 2;
/// What a cell that may be cut keeps at least, with its `…`.
const LEAST: usize = 5;

/// How wide a cell makes its column at most where nothing is cut: a longer one, which others may have written, stands out of it alone.
const WIDE: usize = 200;
/// Blanks before a note below its row.
const NOTE_INDENT: usize = 4;

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    heading: &'static str,
    is_right: bool,
    cut: Cut,
}

/// When the cells of a column are cut where a table is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// Before all others.
    First,
    /// When nothing else can be.
    Last,
    /// Never.
    Never,
    /// Never: it moves below its row.
    Below,
}

impl Column {
    /// A column whose cells stand left and are never cut.
    pub const fn left(heading: &'static str) -> Self {
        Self { heading, is_right: false, cut: Cut::Never }
    }

    /// A column whose cells stand right and are never cut.
    pub const fn right(heading: &'static str) -> Self {
        Self { heading, is_right: true, cut: Cut::Never }
    }

    /// A column whose cells stand left and are cut where the table is too wide.
    pub const fn text(heading: &'static str) -> Self {
        Self { heading, is_right: false, cut: Cut::First }
    }
}

impl Column {
    /// A column whose cells stand left, and are cut only where cutting the others is not enough: names that are typed again.
    pub const fn name(heading: &'static str) -> Self {
        Self { heading, is_right: false, cut: Cut::Last }
    }

    /// The last column: what stands beside its row where all of the table fits, and else below it.
    pub const fn note(heading: &'static str) -> Self {
        Self { heading, is_right: false, cut: Cut::Below }
    }
}

/// Writes a table to standard output, as wide as may be.
pub fn print(columns: &[Column], rows: &[Vec<String>]) {
    lines(columns, rows, output::wanted_width()).iter().for_each(|line| output::line(line));
}

/// Returns the lines of a table, the first of which is the headings; without `width` nothing is cut.
fn lines(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| output::one_line(cell).into_owned()).collect()).collect();
    let longest = |at: usize| rows.iter().map(|row| row[at].width()).max().unwrap_or(0);
    let mut kept: Vec<usize> = (0..columns.len()).filter(|&at| longest(at) > 0).collect();
    let mut widths: Vec<usize> = kept.iter().map(|&at| longest(at).max(columns[at].heading.width())).collect();
    let mut below = None;
    if let Some(width) = width {
        let needed = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if needed(&widths) > width {
            below = kept.pop_if(|at| columns[*at].cut == Cut::Below);
            widths.truncate(kept.len());
        }
        // Headings are cut last of all.
        for least in [&|at: usize| columns[at].heading.width().max(LEAST), &|_| LEAST] as [&dyn Fn(usize) -> usize; 2] {
            while needed(&widths) > width {
                let may_be_cut =
                    (0..kept.len()).filter(|&i| columns[kept[i]].cut <= Cut::Last && widths[i] > least(kept[i]));
                let soonest = may_be_cut.max_by_key(|&i| (std::cmp::Reverse(columns[kept[i]].cut), widths[i]));
                let Some(next) = soonest else { break };
                widths[next] -= 1;
            }
        }
    } else {
        widths.iter_mut().for_each(|width| *width = WIDE.min(*width));
    }
    let headings: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    let line = |cells: &Vec<String>| {
        let cells = kept.iter().zip(&widths).map(|(&at, &most)| {
            let text = if width.is_some() { cut(&cells[at], most) } else { cells[at].clone() };
            cell(&text, most, columns[at].is_right)
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let mut lines = vec![line(&headings)];
    for row in &rows {
        lines.push(line(row));
        let note = below.map_or("", |at| row[at].as_str());
        let width = width.unwrap_or(usize::MAX);
        lines.extend(wrap(note, NOTE_INDENT, width).lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    lines
}

fn cell(text: &str, width: usize, is_right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if is_right { blanks + text } else { text.to_owned() + &blanks }
}

fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [Column::left("ID"), Column::text("TAGS"), Column::text("SOURCES"), Column::right("SIZE")];

    fn row(id: &str, tags: &str, sources: &str, size: &str) -> Vec<String> {
        [id, tags, sources, size].map(str::to_owned).to_vec()
    }

    #[test]
    fn what_fits_is_whole_and_empty_columns_are_left_out() {
        let rows = [row("1", "", "/etc", "5 B"), row("2", "", "/srv/shop", "165 MiB")];
        assert_eq!(
            lines(&COLUMNS, &rows, Some(80)),
            ["ID  SOURCES       SIZE", "1   /etc           5 B", "2   /srv/shop  165 MiB"]
        );
    }

    #[test]
    fn where_nothing_is_cut_one_long_cell_does_not_make_all_lines_long() {
        let long = "x".repeat(100_000);
        let rows = [row("1", &long, "/etc", "5 B"), row("2", "a", "/srv/shop", "165 MiB")];
        let lines = lines(&COLUMNS, &rows, None);
        assert!(lines[1].contains(&long) && lines[1].ends_with("  /etc           5 B"), "{}", &lines[1][100_000..]);
        assert!(lines[0].len() < 250 && lines[2].len() < 250, "{lines:?}");
    }

    #[test]
    fn names_are_cut_last_and_notes_move_below_their_rows() {
        let columns = [
            Column::left("ID"),
            Column::name("JOB"),
            Column::text("TAGS"),
            Column::text("SOURCES"),
            Column::note("NOTE"),
        ];
        let row = |note: &str| {
            ["1", "nightly", "one-long-tag,another-one", "/srv/shop/data", note].map(str::to_owned).to_vec()
        };
        let wide = lines(&columns, &[row("MISSING shop.sql")], Some(80));
        assert_eq!(wide[1], "1   nightly  one-long-tag,another-one  /srv/shop/data  MISSING shop.sql");
        let narrow = lines(&columns, &[row("MISSING shop.sql, 12 unread"), row("")], Some(27));
        assert_eq!(
            narrow,
            [
                "ID  JOB      TAGS   SOURCES",
                "1   nightly  one-…  /srv/s…",
                "    MISSING shop.sql, 12",
                "    unread",
                "1   nightly  one-…  /srv/s…"
            ]
        );
        // A note that nobody has takes no room, and nothing is below where it is not needed.
        assert_eq!(lines(&columns, &[row("")], Some(53)).len(), 2);
    }

    #[test]
    fn what_is_too_long_is_cut_and_never_wrapped() {
        let rows =
            [row("1", "nightly,weekly", "/srv/a/very/long/path", "5 B"), row("2", "", "/日本語日本語", "165 MiB")];
        for width in [30, 40, 50] {
            let narrow = lines(&COLUMNS, &rows, Some(width));
            assert_eq!(narrow.len(), 3);
            assert!(narrow.iter().all(|line| line.width() <= width), "{narrow:?}");
            assert!(narrow[1].contains('…') == (width < 50) && narrow[1].ends_with("  5 B"), "{narrow:?}");
        }
        assert!(lines(&COLUMNS, &rows, None)[1].contains("nightly,weekly  /srv/a/very/long/path"));
        // Nothing shorter than what makes sense.
        assert!(lines(&COLUMNS, &rows, Some(3))[1].contains("nigh…"));
    }
}
