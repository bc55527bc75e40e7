//! The data behind a figure, as it goes into its CSV file and into the tests.

use super::render::DrawError;

/// Columns with their units in their names, and rows of text and numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(f64),
    /// Nothing was measured here.
    Missing,
}

impl Cell {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A number rounded to six significant digits, or missing when it is none.
    pub(crate) fn number(value: impl Into<Option<f64>>) -> Self {
        match value.into().filter(|v| v.is_finite()) {
            Some(value) => Self::Number(value),
            None => Self::Missing,
        }
    }

    fn to_field(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(value) => {
                let text = format!("{value:.5e}");
                let short: f64 = text.parse().unwrap_or(*value);
                // Minus zero is zero.
                format!("{}", short + 0.0)
            }
            Self::Missing => String::new(),
        }
    }
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|c| (*c).to_owned()).collect(), rows: Vec::new() }
    }

    /// As comma-separated values with a heading.
    ///
    /// # Errors
    /// When a row has another length than the heading.
    pub(crate) fn to_csv(&self) -> Result<String, DrawError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::to_field))?;
        }
        let bytes = writer.into_inner().map_err(|error| DrawError::of(&error))?;
        String::from_utf8(bytes).map_err(|error| DrawError::of(&error))
    }
}

impl From<csv::Error> for DrawError {
    fn from(error: csv::Error) -> Self {
        Self::of(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_empty_and_text_is_quoted() {
        let mut table = Table::new(&["variant", "p99, ms"]);
        table.rows.push(vec![Cell::text("a, \"b\""), Cell::number(1.0 / 3.0)]);
        table.rows.push(vec![Cell::text("c"), Cell::number(f64::NAN)]);
        table.rows.push(vec![Cell::text("d"), Cell::number(1_234_567.0)]);
        let csv = table.to_csv().unwrap();
        assert_eq!(csv, "variant,\"p99, ms\"\n\"a, \"\"b\"\"\",0.333333\nc,\nd,1234570\n");
        table.rows.push(Vec::new());
        assert!(table.to_csv().is_err());
    }
}
