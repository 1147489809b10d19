//! Text in columns, numbers to the right.

/// Rows under headings.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table with these headings.
    pub fn new(headings: [&str; COLUMNS]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row.
    pub fn push(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// The whole, with an empty line before it; nothing if there are no rows.
    pub fn text(&self) -> String {
        if self.rows.len() == 1 {
            return String::new();
        }
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        let lines = self.rows.iter().map(|row| {
            let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
            padded.collect::<Vec<_>>().join("  ") + "\n"
        });
        format!("\n{}", lines.collect::<String>())
    }
}
