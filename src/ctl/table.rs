//! Columns that line up, in systemctl's manner: two spaces between them, the heading underlined on a terminal.

use std::io::{self, Write};

use super::escape::shown;
use super::screen::{Colour, Look, Screen};

/// Rows of cells; every cell is made safe to show when it is added.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A column's heading, and on which side it lines up.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Column::Left(heading) | Column::Right(heading) => heading,
        }
    }
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; a cell for each column.
    pub fn row<I: IntoIterator<Item = S>, S: AsRef<str>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(|cell| shown(cell.as_ref())).collect());
    }

    /// Writes it, the heading first where the screen has a legend.
    ///
    /// # Errors
    /// Whatever writing meets.
    pub fn write(&self, screen: &mut Screen) -> io::Result<()> {
        let look = screen.look();
        self.write_to(screen, look)
    }

    fn write_to(&self, out: &mut dyn Write, look: Look) -> io::Result<()> {
        let headings: Vec<String> = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        let lines = || self.rows.iter().chain(look.legend.then_some(&headings));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| lines().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        if look.legend {
            writeln!(out, "{}", look.paint(Colour::Underline, &self.line(&headings, &widths)))?;
        }
        for row in &self.rows {
            writeln!(out, "{}", self.line(row, &widths))?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            match column {
                Column::Left(_) => line.extend([cell.as_str(), &padding]),
                Column::Right(_) => line.extend([padding.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// `1 ban`, `2 bans`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(look: Look) -> String {
        let mut table = Table::new(&[Column::Left("SUBJECT"), Column::Right("N"), Column::Left("CAUSE")]);
        table.row(["192.0.2.1", "5", "a\u{1b}b"]);
        table.row(["::1", "12", ""]);
        let mut out = Vec::new();
        table.write_to(&mut out, look).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_and_cells_are_harmless() {
        let plain = Look { colour: false, legend: true, unicode: false };
        assert_eq!(written(plain), "SUBJECT     N  CAUSE\n192.0.2.1   5  a\\u{1b}b\n::1        12\n");
        assert_eq!(written(Look { legend: false, ..plain }), "192.0.2.1   5  a\\u{1b}b\n::1        12\n");
        assert!(written(Look { colour: true, ..plain }).starts_with("\u{1b}[0;4mSUBJECT"));
    }
}
