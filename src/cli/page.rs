//! A page of documentation: titled sections of text, entries and examples.
//!
//! What `coffre help` shows on a terminal and what a manual page has is the same page, written in two ways
//! ([`Page::text`] here, roff in `manual`).

/// Longest line of an example, in columns: a manual page at 80 columns indents by 7.
const CODE_WIDTH: usize = 70;

/// A page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Its sections, in order.
    pub sections: Vec<Section>,
}

/// A section with its title.
#[derive(Debug, Clone)]
pub struct Section {
    /// The title, in capitals as manual pages have it, or as clap's headings are written.
    pub title: String,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Debug, Clone)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Something and what it means.
    Entry(String, String),
    /// Lines to be typed, as they are.
    Code(Vec<String>),
    /// A heading within the section.
    Heading(String),
}

impl Section {
    /// Makes a section.
    pub fn new(title: &str, blocks: Vec<Block>) -> Self {
        Self { title: title.to_owned(), blocks }
    }
}

impl Page {
    /// Writes the page for a terminal of `width` columns.
    pub fn text(&self, width: usize) -> String {
        let mut text = String::new();
        for section in &self.sections {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{}\n", section.title));
            for (at, block) in section.blocks.iter().enumerate() {
                let parts_before = at > 0 && !matches!(block, Block::Entry(..));
                if parts_before {
                    text.push('\n');
                }
                match block {
                    Block::Text(words) => text.push_str(&wrap(words, 2, width)),
                    Block::Heading(title) => text.push_str(&format!("  {title}:\n")),
                    Block::Code(lines) => lines.iter().for_each(|line| text.push_str(&format!("  {line}\n"))),
                    Block::Entry(term, meaning) => {
                        text.push_str(&format!("  {term}\n"));
                        text.push_str(&wrap(meaning, 6, width));
                    }
                }
            }
        }
        text
    }
}

/// Breaks a command into lines that the shell reads as one.
pub fn continued(command: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in units(command) {
        let line = lines.last_mut().expect("one was made");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > CODE_WIDTH {
            line.push_str(" \\");
            lines.push(format!("    {word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(&word);
        }
    }
    lines
}

/// Splits a command where a line may end: not within quotes, nor between an option and its value.
fn units(command: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    for word in command.split(' ') {
        match units.last_mut() {
            Some(last) if last.matches('\'').count() % 2 == 1 => *last = format!("{last} {word}"),
            Some(last) if last.starts_with("--") && !last.contains(' ') && !word.starts_with('-') => {
                *last = format!("{last} {word}");
            }
            _ => units.push(word.to_owned()),
        }
    }
    units
}

/// Breaks words into lines of at most `width` columns, indented by `indent`.
pub fn wrap(words: &str, indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut line = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if line > 0 && indent + line + 1 + length > width {
            text.push('\n');
            line = 0;
        }
        match line {
            0 => text.push_str(&" ".repeat(indent)),
            _ => text.push(' '),
        }
        line += length + usize::from(line > 0);
        text.push_str(word);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_never_longer() {
        assert_eq!(wrap("one two three", 2, 9), "  one two\n  three\n");
        assert_eq!(wrap("one two three", 2, 10), "  one two\n  three\n");
        assert_eq!(wrap("  a  verylongword b", 0, 4), "a\nverylongword\nb\n");
    }

    #[test]
    fn a_long_example_can_still_be_typed() {
        let long = format!("coffre backup {}", "--exclude '*.tmp' ".repeat(8).trim_end());
        let lines = continued(&long);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= CODE_WIDTH + 2), "{lines:?}");
        let rest: Vec<&str> = lines.iter().map(|line| line.trim_start().trim_end_matches(" \\")).collect();
        assert_eq!(rest.join(" "), long);
        let units = units("coffre restore 'latest:/my  files' --path 'a b' --yes --target /x");
        assert_eq!(units, ["coffre", "restore", "'latest:/my  files'", "--path 'a b'", "--yes", "--target /x"]);
    }
}
