//! Text for people: words in colours, sentences in paragraphs, rows in columns, all within the width of the terminal.

use std::fmt::Write;
use std::io::IsTerminal;

/// What a word tells by its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Not as it should be, or not known.
    Doubtful,
    /// Wrong.
    Bad,
    /// A heading.
    Heading,
    /// Of less interest.
    Faint,
}

/// A word or several in one tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Text in a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Where text goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paper {
    /// Whether colours are understood and wanted.
    pub colour: bool,
    /// In columns.
    pub width: usize,
}

impl Paper {
    /// Standard output: colours on a terminal, unless NO_COLOR is set; 80 columns, unless COLUMNS says otherwise.
    pub fn stdout() -> Self {
        let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let width = set("COLUMNS").and_then(|text| text.parse().ok());
        Self {
            colour: std::io::stdout().is_terminal() && set("NO_COLOR").is_none(),
            width: width.unwrap_or(80).max(40),
        }
    }
}

/// A text that grows line by line.
#[derive(Clone, Debug)]
pub struct Screen {
    paper: Paper,
    text: String,
}

/// The room between two columns.
const GAP: usize = 2;

impl Screen {
    /// An empty one.
    pub fn new(paper: Paper) -> Self {
        Self {
            paper,
            text: String::new(),
        }
    }

    /// Everything.
    pub fn into_text(self) -> String {
        self.text
    }

    /// A heading, with what belongs to it in a few words.
    pub fn heading(&mut self, title: &str, rest: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.put(&Cell::new(title, Tone::Heading), 0);
        let indent = title.chars().count() + 1;
        if rest.is_empty() {
            self.text.push('\n');
        } else {
            self.text.push(' ');
            self.wrapped(rest, indent, indent, Tone::Plain);
        }
    }

    /// A name and what is to be said of it.
    pub fn field(&mut self, name: &str, value: &str) {
        self.field_in(name, value, Tone::Plain);
    }

    /// The same in a tone.
    pub fn field_in(&mut self, name: &str, value: &str, tone: Tone) {
        let indent = 11;
        let _ = write!(self.text, "  {name:<8} ");
        self.wrapped(value, indent, indent, tone);
    }

    /// A sentence behind a sign.
    pub fn item(&mut self, sign: &Cell, sentence: &str) {
        self.text.push_str("  ");
        self.put(sign, 0);
        self.text.push(' ');
        let indent = 3 + sign.text.chars().count();
        self.wrapped(sentence, indent, indent, Tone::Plain);
    }

    /// A sentence below the row that it belongs to.
    pub fn remark(&mut self, sentence: &str) {
        self.text.push_str("    ");
        self.wrapped(sentence, 4, 4, Tone::Faint);
    }

    /// Rows in columns, the first one being their names. The column `loose` is cut where a row does not fit.
    pub fn table(&mut self, rows: &[Row], loose: usize) {
        let mut widths: Vec<usize> = Vec::new();
        for row in rows {
            for (column, cell) in row.cells.iter().enumerate() {
                let width = cell.text.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        let taken = |widths: &[usize]| 2 + widths.iter().map(|width| width + GAP).sum::<usize>();
        let over = taken(&widths).saturating_sub(self.paper.width + GAP);
        if let Some(width) = widths.get_mut(loose) {
            *width = width.saturating_sub(over).max(8);
        }
        for row in rows {
            self.row(row, &widths);
        }
    }

    fn row(&mut self, row: &Row, widths: &[usize]) {
        self.text.push_str("  ");
        let last = row.cells.len().saturating_sub(1);
        for (column, (cell, &width)) in row.cells.iter().zip(widths).enumerate() {
            let cell = Cell::new(cut(&cell.text, width), cell.tone);
            self.put(&cell, if column == last { 0 } else { width + GAP });
        }
        // Cells may be empty at the end.
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        self.text.push('\n');
        for remark in &row.remarks {
            self.remark(remark);
        }
    }

    fn put(&mut self, cell: &Cell, width: usize) {
        let padding = width.saturating_sub(cell.text.chars().count());
        let colour = match cell.tone {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Doubtful => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
            Tone::Heading => "\x1b[1m",
            Tone::Faint => "\x1b[2m",
        };
        if self.paper.colour && !colour.is_empty() && !cell.text.is_empty() {
            let _ = write!(self.text, "{colour}{}\x1b[0m", cell.text);
        } else {
            self.text.push_str(&cell.text);
        }
        self.text.extend(std::iter::repeat_n(' ', padding));
    }

    /// Words from column `start` on, further lines from column `indent` on.
    fn wrapped(&mut self, sentence: &str, start: usize, indent: usize, tone: Tone) {
        let room = self.paper.width;
        let mut lines = vec![String::new()];
        let mut column = start;
        for word in sentence.split_whitespace() {
            let length = word.chars().count();
            let Some(line) = lines.last_mut() else { return };
            let gap = usize::from(!line.is_empty());
            if column + gap + length > room && !line.is_empty() {
                lines.push(word.to_owned());
                column = indent + length;
                continue;
            }
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            column += gap + length;
        }
        for (number, line) in lines.into_iter().enumerate() {
            if number > 0 {
                self.text.extend(std::iter::repeat_n(' ', indent));
            }
            self.put(&Cell::new(line, tone), 0);
            self.text.push('\n');
        }
    }
}

/// A row of a table, and sentences that belong below it.
#[derive(Clone, Debug, Default)]
pub struct Row {
    cells: Vec<Cell>,
    remarks: Vec<String>,
}

impl Row {
    /// Cells side by side.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self {
            cells,
            remarks: Vec::new(),
        }
    }

    /// The names of columns.
    pub fn names<const N: usize>(names: [&str; N]) -> Self {
        Self::new(names.map(|name| Cell::new(name, Tone::Faint)).into())
    }

    /// The row with sentences below it.
    #[must_use]
    pub fn with_remarks(mut self, remarks: Vec<String>) -> Self {
        self.remarks = remarks;
        self
    }
}

/// The text, or its beginning with a sign that there was more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Paper = Paper {
        colour: false,
        width: 80,
    };

    fn longest(text: &str) -> usize {
        text.lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn columns_stand_below_each_other_with_and_without_colours() {
        let rows = [
            Row::names(["SUBNET", "KERNEL", "AGE"]),
            Row::new(vec![
                "10.244.2.0/24".into(),
                Cell::new("right", Tone::Good),
                "3h".into(),
            ]),
        ];
        let mut screen = Screen::new(PLAIN);
        screen.table(&rows, 0);
        let plain = screen.into_text();
        assert_eq!(
            plain,
            "  SUBNET         KERNEL  AGE\n  10.244.2.0/24  right   3h\n"
        );
        let mut screen = Screen::new(Paper {
            colour: true,
            ..PLAIN
        });
        screen.table(&rows, 0);
        let coloured = screen.into_text();
        assert!(
            coloured.contains("\x1b[32mright\x1b[0m   3h"),
            "{coloured:?}"
        );
        let mut bare = coloured;
        for code in ["\x1b[32m", "\x1b[2m", "\x1b[0m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain);
    }

    #[test]
    fn the_loose_column_is_cut_and_no_other() {
        let name = "a".repeat(100);
        let rows = [Row::new(vec![
            "10.244.2.9".into(),
            name.into(),
            "vethd34db33f".into(),
        ])];
        let mut screen = Screen::new(PLAIN);
        screen.table(&rows, 1);
        let text = screen.into_text();
        assert_eq!(longest(&text), 80, "{text}");
        assert!(text.contains("a…  vethd34db33f"), "{text}");
    }

    proptest! {
        #[test]
        fn sentences_stay_within_the_width_and_lose_no_word(words in proptest::collection::vec("[a-zäß]{1,30}", 1..60)) {
            let sentence = words.join(" ");
            let mut screen = Screen::new(PLAIN);
            screen.item(&"!".into(), &sentence);
            screen.field("lease", &sentence);
            screen.heading("problems", &sentence);
            let text = screen.into_text();
            prop_assert!(longest(&text) <= 80, "{}", text);
            let found: Vec<&str> = text.split_whitespace().collect();
            let whole = found.join(" ");
            prop_assert!(whole.matches(sentence.as_str()).count() >= 3);
        }
    }
}
