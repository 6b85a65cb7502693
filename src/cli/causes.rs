//! Problems gathered by their cause: a thousand files that share one are told in a few lines, which name the first of them.

use std::collections::HashMap;

use unicode_width::UnicodeWidthStr;

use crate::cli::output;
use crate::progress::Problem;

/// What is named of those that share a cause.
pub const NAMED: usize = 5;
/// Causes gathered at most; whatever has another one is told by itself.
const CAUSES_MAX: usize = 1000;
/// Columns by which what belongs to a line above is indented.
const INDENT: usize = 2;

/// Gathered problems.
#[derive(Debug, Default)]
pub struct Causes {
    gathered: Vec<GatheredCause>,
    places: HashMap<String, usize>,
}

#[derive(Debug)]
struct GatheredCause {
    text: String,
    first: Problem,
    /// What it hit besides the first; not all of it is kept.
    others: Vec<String>,
    times: u64,
}

impl Causes {
    /// Adds a problem that has this cause, or gives it back to be told at once where there are too many causes.
    pub fn add(&mut self, problem: Problem, cause: &str) -> Option<Problem> {
        if let Some(&at) = self.places.get(cause) {
            let known = &mut self.gathered[at];
            known.times += 1;
            if known.others.len() + 1 < NAMED {
                known.others.push(problem.subject);
            }
            return None;
        }
        if self.gathered.len() >= CAUSES_MAX {
            return Some(problem);
        }
        self.places.insert(cause.to_owned(), self.gathered.len());
        self.gathered.push(GatheredCause { text: cause.to_owned(), first: problem, others: Vec::new(), times: 1 });
        None
    }

    /// Takes everything gathered, as text of lines no wider than `width` where words allow it.
    pub fn take(&mut self, width: Option<usize>) -> Vec<String> {
        self.places.clear();
        std::mem::take(&mut self.gathered).into_iter().flat_map(|cause| cause.lines(width)).collect()
    }
}

impl GatheredCause {
    fn lines(self, width: Option<usize>) -> Vec<String> {
        if self.times == 1 {
            return one(&self.first, width);
        }
        let mut lines = fold("", &format!("{}, {} times:", self.text, output::grouped(self.times)), width);
        let named = std::iter::once(self.first.subject).chain(self.others);
        lines.extend(named.map(|subject| format!("{}{subject}", " ".repeat(INDENT))));
        lines.extend(and_more(self.times.saturating_sub(NAMED as u64)));
        lines
    }
}

/// Returns the lines of a problem that stands by itself.
pub fn one(problem: &Problem, width: Option<usize>) -> Vec<String> {
    fold(&format!("{}: ", problem.subject), &problem.message, width)
}

/// Says that so many are not named.
pub fn and_more(unnamed: u64) -> Option<String> {
    (unnamed > 0).then(|| format!("{}and {} more; -v names each", " ".repeat(INDENT), output::grouped(unnamed)))
}

/// Breaks `words` behind `start`, which stays whole, into lines no wider than `width`; all but the first are indented.
pub fn fold(start: &str, words: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else { return vec![format!("{start}{words}")] };
    let (mut lines, mut line) = (Vec::new(), start.to_owned());
    let mut is_empty = true;
    for word in words.split(' ') {
        if !is_empty && line.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(INDENT)));
            is_empty = true;
        }
        line.push_str(if is_empty { "" } else { " " });
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(subject: &str, message: &str) -> Problem {
        Problem::missing(subject, message)
    }

    #[test]
    fn what_shares_a_cause_is_told_once_and_counted() {
        let mut causes = Causes::default();
        for at in 0..1500 {
            assert_eq!(causes.add(problem(&format!("/f{at}"), "zeros for 7 bytes (gone)"), "gone"), None);
        }
        assert_eq!(causes.add(problem("/other", "read-only: 7"), "read-only"), None);
        let lines = causes.take(Some(80));
        assert_eq!(lines[0], "gone, 1 500 times:");
        assert_eq!(lines[1..6], ["  /f0", "  /f1", "  /f2", "  /f3", "  /f4"]);
        assert_eq!(lines[6..], ["  and 1 495 more; -v names each", "/other: read-only: 7"]);
        assert_eq!(causes.take(None), Vec::<String>::new());
    }

    #[test]
    fn as_many_as_are_named_leave_no_rest() {
        let mut causes = Causes::default();
        for at in 0..NAMED {
            causes.add(problem(&format!("/f{at}"), "gone"), "gone");
        }
        assert_eq!(causes.take(None).len(), 1 + NAMED);
    }

    #[test]
    fn too_many_causes_are_told_one_by_one() {
        let mut causes = Causes::default();
        let told = (0..CAUSES_MAX + 3).filter(|at| causes.add(problem("/f", "x"), &at.to_string()).is_some()).count();
        assert_eq!((told, causes.add(problem("/g", "x"), "0")), (3, None));
    }

    #[test]
    fn lines_are_folded_between_words_and_names_stay_whole() {
        let words = "pack 12345678 is damaged: authentication failed";
        assert_eq!(
            fold("/a name  with blanks: ", words, Some(30)),
            ["/a name  with blanks: pack", "  12345678 is damaged:", "  authentication failed"]
        );
        assert_eq!(fold("/a: ", words, None), [format!("/a: {words}")]);
        assert_eq!(fold("/a very long name: ", "word word", Some(5)), ["/a very long name: word", "  word"]);
    }
}
