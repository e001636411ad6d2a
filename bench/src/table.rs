//! Markdown tables that are readable as they are.

use std::fmt::Write as _;

/// Rows of cells. The first column is text, the others are figures.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Missing cells stay empty.
    pub(crate) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Renders the table with columns of equal width.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&self.head]);
                cells
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(3)
            })
            .collect();
        let mut line = |cells: &[String]| {
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                // An unescaped `|` would end the cell.
                let cell = cell.replace('|', "\\|");
                let _ = match column {
                    0 => write!(text, "| {cell:<width$} "),
                    _ => write!(text, "| {cell:>width$} "),
                };
            }
            text.push_str("|\n");
        };
        line(&self.head);
        let rule: Vec<_> = widths
            .iter()
            .enumerate()
            .map(|(column, width)| match column {
                0 => "-".repeat(*width),
                _ => format!("{}:", "-".repeat(width - 1)),
            })
            .collect();
        line(&rule);
        for row in &self.rows {
            line(row);
        }
        text
    }
}

/// A figure with three significant digits, and blanks between thousands.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if value.abs() < 10_000.0 {
        text
    } else {
        grouped(&text, value < 0.0)
    }
}

/// A count.
pub(crate) fn count(value: f64) -> String {
    if value < 10_000.0 {
        format!("{value:.0}")
    } else {
        figure(value)
    }
}

fn grouped(text: &str, is_negative: bool) -> String {
    let (sign, digits) = text.split_at(usize::from(is_negative));
    let mut grouped = sign.to_owned();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_its_cells_cannot_break_it() {
        let mut table = Table::new(["case", "nginx", "HAProxy"]);
        table.row(vec!["c64".into(), "51,234".into(), "**9**".into()]);
        table.row(vec!["a | b".into(), "1".into()]);
        assert_eq!(
            table.render(),
            "| case  |  nginx | HAProxy |\n| ----- | -----: | ------: |\n| c64   | 51,234 |   \
             **9** |\n| a \\| b |      1 |         |\n"
        );
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(
            [0.0, 15.0, 64.0, 10_086.0].map(count),
            ["0", "15", "64", "10,086"]
        );
    }

    #[test]
    fn figures_have_three_digits() {
        let figures = [
            0.0,
            1.234,
            12.34,
            123.4,
            1234.0,
            12_345.6,
            1_234_567.0,
            -12_345.0,
        ];
        let texts = figures.map(figure);
        assert_eq!(
            texts,
            [
                "0.00",
                "1.23",
                "12.3",
                "123",
                "1234",
                "12,346",
                "1,234,567",
                "-12,345"
            ]
        );
    }
}
