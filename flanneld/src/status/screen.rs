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
            text: visible(&text.into()),
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
    /// Standard output: colours on a terminal, unless NO_COLOR is set; as wide as COLUMNS says, or the terminal, or else 80 columns.
    pub fn stdout() -> Self {
        let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let said = set("COLUMNS").and_then(|text| text.parse().ok());
        let width = said.or_else(|| terminal().map(|(columns, _)| columns));
        Self {
            colour: std::io::stdout().is_terminal() && set("NO_COLOR").is_none(),
            width: width.unwrap_or(80).max(40),
        }
    }
}

/// The columns and lines of the terminal that standard output is, if it is one and knows them.
pub fn terminal() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    let known = |number: u16| Some(usize::from(number)).filter(|number| *number > 0);
    known(size.ws_col).zip(known(size.ws_row))
}

/// A text that grows line by line.
#[derive(Clone, Debug)]
pub struct Screen {
    paper: Paper,
    text: String,
}

/// The room between two columns.
const GAP: usize = 2;
/// The room before the first one.
const MARGIN: usize = 2;
/// A loose column that is at least so wide stays readable.
const NARROW: usize = 16;

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
        let indent = title.chars().count() + 1;
        if indent > self.paper.width / 2 {
            self.wrapped(title, 0, Tone::Heading);
            if !rest.is_empty() {
                self.pad(MARGIN);
                self.wrapped(rest, MARGIN, Tone::Plain);
            }
            return;
        }
        self.put(&Cell::new(title, Tone::Heading), 0);
        if rest.is_empty() {
            self.text.push('\n');
        } else {
            self.text.push(' ');
            self.wrapped(rest, indent, Tone::Plain);
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
        self.wrapped(value, indent, tone);
    }

    /// A sentence behind a sign, which is short.
    pub fn item(&mut self, sign: &Cell, sentence: &str) {
        self.text.push_str("  ");
        self.put(sign, 0);
        self.text.push(' ');
        let indent = 3 + sign.text.chars().count();
        self.wrapped(sentence, indent, Tone::Plain);
    }

    /// A sentence below the row that it belongs to.
    pub fn remark(&mut self, sentence: &str) {
        self.text.push_str("    ");
        self.wrapped(sentence, 4, Tone::Faint);
    }

    /// Rows in columns, the first one being their names. Where they do not fit side by side, cells are broken into several lines,
    /// those of the column `loose` before others.
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
        let gaps = MARGIN + GAP * widths.len().saturating_sub(1);
        fit(&mut widths, self.paper.width.saturating_sub(gaps), loose);
        for row in rows {
            self.row(row, &widths);
        }
    }

    fn row(&mut self, row: &Row, widths: &[usize]) {
        let cells = row.cells.iter().zip(widths);
        let broken: Vec<(Vec<&str>, Tone, usize)> = cells
            .map(|(cell, &width)| (pieces(&cell.text, width), cell.tone, width))
            .collect();
        let lines = broken.iter().map(|(pieces, ..)| pieces.len()).max();
        for line in 0..lines.unwrap_or(0) {
            self.pad(MARGIN);
            for (column, (pieces, tone, width)) in broken.iter().enumerate() {
                let cell = Cell::new(pieces.get(line).copied().unwrap_or_default(), *tone);
                let last = column + 1 == broken.len();
                self.put(&cell, if last { 0 } else { width + GAP });
            }
            // Cells may be empty at the end.
            let end = self.text.trim_end_matches(' ').len();
            self.text.truncate(end);
            self.text.push('\n');
        }
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
        self.pad(padding);
    }

    fn pad(&mut self, columns: usize) {
        self.text.extend(std::iter::repeat_n(' ', columns));
    }

    /// Words from column `indent` on; the first line has come so far already.
    fn wrapped(&mut self, sentence: &str, indent: usize, tone: Tone) {
        let room = self.paper.width.saturating_sub(indent).max(1);
        let sentence = visible(sentence);
        let mut lines = vec![String::new()];
        let mut column = 0;
        let words = sentence.split_whitespace();
        for word in words.flat_map(|word| pieces(word, room)) {
            let length = word.chars().count();
            let Some(line) = lines.last_mut() else { return };
            let gap = usize::from(!line.is_empty());
            if column + gap + length > room {
                lines.push(word.to_owned());
                column = length;
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
                self.pad(indent);
            }
            self.put(&Cell::new(line, tone), 0);
            self.text.push('\n');
        }
    }
}

/// Makes columns narrower until they have no more than this room: the loose one, as long as it has room for a word, then whichever
/// is the widest.
fn fit(widths: &mut [usize], room: usize, loose: usize) {
    let over = |widths: &[usize]| widths.iter().sum::<usize>().saturating_sub(room);
    let first = over(widths);
    if let Some(width) = widths.get_mut(loose) {
        *width = width.saturating_sub(first).max(NARROW.min(*width));
    }
    while over(widths) > 0 {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 1 => *widest -= 1,
            _ => return,
        }
    }
}

/// The text in pieces of at most this width, which end where names and addresses have their joints if there is one late enough.
fn pieces(text: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    // Where the first character lies that does not fit.
    while let Some((end, _)) = rest.char_indices().nth(width.max(1)) {
        let (fitting, _) = rest.split_at(end);
        let joint = fitting
            .rfind(['/', ':', '-', '.', ',', '_', '='])
            .map(|at| at + 1)
            .filter(|at| *at >= end / 2);
        let (piece, further) = rest.split_at(joint.unwrap_or(end));
        pieces.push(piece);
        rest = further;
    }
    pieces.push(rest);
    pieces
}

/// The text with a sign for each character that would make the terminal do something: names come from others.
fn visible(text: &str) -> String {
    let harmless = |sign: char| match sign {
        sign if sign.is_whitespace() => ' ',
        sign if sign.is_control() => '\u{fffd}',
        sign => sign,
    };
    text.chars().map(harmless).collect()
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

#[cfg(test)]
mod tests;
