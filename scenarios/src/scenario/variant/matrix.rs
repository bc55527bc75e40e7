//! A matrix of variants: every combination of the values of several settings.
//!
//! Each setting is a list in `[matrix]`, by the name that it has elsewhere in the file:
//! `balance`, `cluster.…`, `route.…`, or `load.rate` for a knee curve. Every combination is a variant
//! of its own, beside what `[compare]` and `[[variants]]` say, and its name tells its values.

use std::collections::BTreeMap;
use std::ops::Range;

use proxy::config::InputError;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Reader;

/// Variants of one file. Each of them is run for each seed, and a report has a line for each.
const MOST: usize = 200;

/// One combination.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell<'a> {
    /// What tells it from the others, in the name of its variant.
    pub(super) name: String,
    /// What it sets of the cluster.
    pub(super) cluster: DeTable<'a>,
    /// What it sets of the route.
    pub(super) route: DeTable<'a>,
    /// The rate, if it sets that, and where it stands.
    pub(super) rate: Option<Spanned<f64>>,
    /// Every setting and its value.
    pub(super) settings: BTreeMap<String, String>,
    /// Where `balance` stands, if it sets that.
    pub(super) balance: Option<Range<usize>>,
}

impl<'a> Cell<'a> {
    /// The name of its variant of a base, such as `peak_ewma+max_retries=1@400`.
    pub(super) fn of(&self, base: &str) -> String {
        let between = match (base, self.name.as_str()) {
            ("", _) | (_, "") => "",
            (_, name) if name.starts_with('@') => "",
            _ => "+",
        };
        format!("{base}{between}{}", self.name)
    }
}

/// A setting and its values.
struct Axis<'d, 'a> {
    path: Vec<String>,
    span: Range<usize>,
    values: Vec<&'d Spanned<DeValue<'a>>>,
}

/// All combinations in the order of the file, the last setting changing first; a single empty one
/// without a matrix.
pub(super) fn cells<'a>(reader: &Reader<'a>) -> Result<Vec<Cell<'a>>, InputError> {
    let mut cells = vec![Cell::default()];
    let Some(matrix) = reader.document.get("matrix") else { return Ok(cells) };
    let Some(table) = matrix.get_ref().as_table() else {
        let message = "is a table of lists, such as balance = [\"random\", \"peak_ewma\"]";
        return Err(reader.wrong("matrix".into(), matrix.span(), message.to_owned()));
    };
    let mut axes = Vec::new();
    collect(reader, &[], table, &mut axes)?;
    // The rate comes last: it stands behind the name.
    axes.sort_by_key(|axis| (axis.path == RATE, axis.span.start));
    if axes.is_empty() {
        let message = "nothing is varied; write a list, such as \"load.rate\" = [100, 200]";
        return Err(reader.wrong("matrix".into(), matrix.span(), message.to_owned()));
    }
    for axis in &axes {
        if cells.len() * axis.values.len() > MOST {
            let message = format!("this makes more than {MOST} variants; shorten a list");
            return Err(reader.wrong(axis.field(), axis.span.clone(), message));
        }
        let mut longer = Vec::new();
        for cell in &cells {
            for value in &axis.values {
                longer.push(axis.with(reader, cell.clone(), value)?);
            }
        }
        cells = longer;
    }
    Ok(cells)
}

const RATE: [&str; 2] = ["load", "rate"];

fn collect<'d, 'a>(
    reader: &Reader<'a>,
    before: &[String],
    table: &'d DeTable<'a>,
    axes: &mut Vec<Axis<'d, 'a>>,
) -> Result<(), InputError> {
    for (key, value) in table {
        let mut path = before.to_vec();
        path.extend(key.get_ref().split('.').map(str::to_owned));
        match value.get_ref() {
            DeValue::Table(inner) => collect(reader, &path, inner, axes)?,
            DeValue::Array(values) if !values.is_empty() => {
                let axis = Axis { path, span: key.span(), values: values.iter().collect() };
                axis.check(reader)?;
                axes.push(axis);
            }
            _ => {
                let message = "write a list of the values to compare, such as [0.1, 0.2]";
                let field = format!("matrix.{}", path.join("."));
                return Err(reader.wrong(field, value.span(), message.to_owned()));
            }
        }
    }
    Ok(())
}

impl<'a> Axis<'_, 'a> {
    fn field(&self) -> String {
        format!("matrix.{}", self.path.join("."))
    }

    fn check(&self, reader: &Reader<'a>) -> Result<(), InputError> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["balance"] | ["cluster" | "route", _, ..] => Ok(()),
            _ if path == RATE => Ok(()),
            _ => {
                let message = "cannot be varied; there is `balance`, `load.rate`, and any field of \
                               `cluster` and of `route`, such as \"route.retry.max_retries\"";
                Err(reader.wrong(self.field(), self.span.clone(), message.to_owned()))
            }
        }
    }

    /// The combination with one value more.
    fn with(
        &self,
        reader: &Reader<'a>,
        mut cell: Cell<'a>,
        value: &Spanned<DeValue<'a>>,
    ) -> Result<Cell<'a>, InputError> {
        let wrong = |message: &str| reader.wrong(self.field(), value.span(), message.to_owned());
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            _ => return Err(wrong("write numbers, texts, or true and false")),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if text.is_empty() || text.len() > 40 || !text.chars().all(plain) {
            let hint = "is not a value for a matrix, whose variants are named by it; write up to \
                        40 letters, digits, `_`, `-` and `.`";
            return Err(wrong(&format!("`{text}` {hint}")));
        }
        cell.settings.insert(self.path.join("."), text.clone());
        if self.path == RATE {
            let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
            let Some(rate) = rate else {
                let hint = "is not a rate; write requests per second, above 0";
                return Err(wrong(&format!("{text} {hint}")));
            };
            cell.name = format!("{}@{text}", cell.name);
            cell.rate = Some(Spanned::new(value.span(), rate));
            return Ok(cell);
        }
        let (table, fields) = match self.path[0].as_str() {
            "balance" => {
                cell.balance = Some(value.span());
                (&mut cell.cluster, &self.path[..])
            }
            "cluster" => (&mut cell.cluster, &self.path[1..]),
            _ => (&mut cell.route, &self.path[1..]),
        };
        set(table, fields, self.span.clone(), value);
        let part = match fields {
            [only] if only == "balance" => text,
            _ => format!("{}={text}", fields[fields.len() - 1]),
        };
        if !cell.name.is_empty() {
            cell.name.push('+');
        }
        cell.name.push_str(&part);
        Ok(cell)
    }
}

/// Sets the field at the end of a path, with the tables on the way to it.
fn set<'a>(
    table: &mut DeTable<'a>,
    path: &[String],
    span: Range<usize>,
    value: &Spanned<DeValue<'a>>,
) {
    let [first, rest @ ..] = path else { return };
    let key = Spanned::new(span.clone(), first.clone().into());
    if rest.is_empty() {
        table.insert(key, value.clone());
        return;
    }
    let empty = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
    let inner = table.entry(key).or_insert_with(empty);
    if let DeValue::Table(inner) = inner.get_mut() {
        set(inner, rest, span, value);
    }
}
