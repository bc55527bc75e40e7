//! What is compared: configurations of the sidecar that differ in something.
//!
//! A scenario may set any field of the sidecar's own configuration of a cluster and of a route, for
//! all variants and for one. The tables are merged as TOML, with the places of all values in the
//! file, and then read by the sidecar's own types. So a field that the sidecar gains needs nothing
//! here, and what is wrong with one is said by the sidecar itself, at the line of the scenario.

mod matrix;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use proxy::config::{Balance, ClusterConfig, InputError, ListenerConfig, RouteConfig, source};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::Segment;
use sim::world::SidecarSpec;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use self::matrix::Cell;
use super::{File, What, fields, schema};

/// What is configured the same for every variant.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sidecar {
    /// From a request's head to the end of its response: `route.timeout` in short.
    #[serde(deserialize_with = "fields::optional_positive_spanned_duration")]
    #[schemars(with = "Option<std::time::Duration>")]
    pub timeout: Option<Spanned<std::time::Duration>>,
    /// Fields of [`ClusterConfig`], read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub cluster: Option<IgnoredAny>,
    /// Fields of [`RouteConfig`], read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub route: Option<IgnoredAny>,
    /// Fields of [`ListenerConfig`], read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub listener: Option<IgnoredAny>,
}

/// Variants in short.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// Balancing strategies; each is a variant of this name.
    #[serde(deserialize_with = "proxy::config::fields::non_empty")]
    #[schemars(with = "Vec<schema::StrategyName>")]
    pub strategies: Vec<Spanned<Balance>>,
}

/// A variant as written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Its name in reports and commands.
    #[serde(deserialize_with = "fields::variant_name")]
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The balancing strategy: `cluster.balance` in short.
    #[schemars(with = "Option<schema::StrategyName>")]
    pub balance: Option<Spanned<Balance>>,
    /// Fields of [`ClusterConfig`] that differ from the common ones, read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub cluster: Option<IgnoredAny>,
    /// Fields of [`RouteConfig`] that differ from the common ones, read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub route: Option<IgnoredAny>,
    /// Fields of [`ListenerConfig`] that differ from the common ones, read later.
    #[schemars(with = "Option<schema::SidecarTable>")]
    pub listener: Option<IgnoredAny>,
}

/// A configuration that is compared with others.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name in reports and commands.
    pub name: String,
    /// The sidecar's configuration.
    pub sidecar: SidecarSpec,
    /// Its own rate, where a matrix varies that, and where it stands.
    pub rate: Option<Spanned<f64>>,
    /// What distinguishes it in a matrix: settings and their values.
    pub settings: BTreeMap<String, String>,
    /// What it is told by each fault of the file that pushes something; the configuration itself
    /// for the others.
    pub pushed: Vec<SidecarSpec>,
}

impl Variant {
    /// Its own arrivals per second, where a matrix varies them.
    pub fn rate(&self) -> Option<f64> {
        self.rate.as_ref().map(|rate| *rate.get_ref())
    }
}

/// All variants of a file, in the order in which they are written.
///
/// # Errors
/// When there is none, two have one name, or the sidecar would refuse a configuration.
pub(super) fn variants(file: &File, path: &Path, text: &str) -> Result<Vec<Variant>, InputError> {
    let reader = Reader { file, path, text, document: document(path, text)? };
    let cells = matrix::cells(&reader)?;
    let mut variants: Vec<Variant> = Vec::new();
    let strategies = file.compare.iter().flat_map(|compare| &compare.strategies).enumerate();
    for (index, strategy) in strategies {
        let field = format!("compare.strategies[{index}]");
        let base = Base { name: strategy.get_ref().0.name, balance: Some(strategy), written: None };
        for cell in &cells {
            let name = cell.of(base.name);
            reader.refuse_twin(&variants, &name, field.clone(), strategy.span())?;
            variants.push(reader.variant(name, &base, cell)?);
        }
    }
    for (index, written) in file.variants.iter().enumerate() {
        let field = format!("variants[{index}].name");
        let (name, balance) = (written.name.get_ref(), written.balance.as_ref());
        let base = Base { name, balance, written: Some(index) };
        for cell in &cells {
            let name = cell.of(base.name);
            reader.refuse_twin(&variants, &name, field.clone(), written.name.span())?;
            variants.push(reader.variant(name, &base, cell)?);
        }
    }
    if variants.is_empty() && file.matrix.is_some() {
        let base = Base { name: "", balance: None, written: None };
        for cell in &cells {
            let (name, span) = (cell.of(""), reader.document["matrix"].span());
            reader.refuse_twin(&variants, &name, "matrix".to_owned(), span)?;
            variants.push(reader.variant(name, &base, cell)?);
        }
    }
    if variants.is_empty() {
        let message =
            "nothing is compared; write [compare] with `strategies`, [[variants]], or [matrix]";
        return Err(InputError::field(path, "compare", message));
    }
    Ok(variants)
}

fn document<'a>(path: &Path, text: &'a str) -> Result<DeTable<'a>, InputError> {
    let document = DeTable::parse(text);
    let document = document.map_err(|error| InputError::file(path, error.message().to_owned()))?;
    Ok(document.into_inner())
}

struct Reader<'a> {
    file: &'a File,
    path: &'a Path,
    text: &'a str,
    document: DeTable<'a>,
}

/// What the combinations of a matrix are added to.
struct Base<'f> {
    name: &'f str,
    balance: Option<&'f Spanned<Balance>>,
    /// Its place among `[[variants]]`.
    written: Option<usize>,
}

/// A table of the file, and what it is called there.
type Part<'d, 'a> = (String, Option<&'d DeTable<'a>>);

impl<'a> Reader<'a> {
    fn wrong(&self, field: String, span: std::ops::Range<usize>, message: String) -> InputError {
        InputError::field(self.path, field, message).at_span(self.text, span)
    }

    fn refuse_twin(
        &self,
        earlier: &[Variant],
        name: &str,
        field: String,
        span: std::ops::Range<usize>,
    ) -> Result<(), InputError> {
        if earlier.iter().any(|variant| variant.name == name) {
            let message = format!("`{name}` is in the list already; name each variant once");
            return Err(self.wrong(field, span, message));
        }
        Ok(())
    }

    fn variant(
        &self,
        name: String,
        base: &Base<'_>,
        cell: &Cell<'a>,
    ) -> Result<Variant, InputError> {
        let sidecar = self.sidecar(base, cell, None)?;
        let pushed = self.file.faults.iter().enumerate().map(|(number, fault)| match fault.what {
            What::Push(_) => self.sidecar(base, cell, Some(number)),
            _ => Ok(sidecar.clone()),
        });
        let pushed = pushed.collect::<Result<_, _>>()?;
        let (rate, settings) = (cell.rate.clone(), cell.settings.clone());
        Ok(Variant { name, sidecar, rate, settings, pushed })
    }

    /// The configuration of a variant, or what it is while the fault of this number lasts.
    fn sidecar(
        &self,
        base: &Base<'_>,
        cell: &Cell<'a>,
        pushed: Option<usize>,
    ) -> Result<SidecarSpec, InputError> {
        let Base { balance, written, .. } = *base;
        if let (Some(_), Some(span)) = (balance, &cell.balance) {
            let message = "the strategies of [compare] and the variants say that; leave it out";
            let field = "matrix.balance".to_owned();
            return Err(self.wrong(field, span.clone(), message.to_owned()));
        }
        let mut cluster = self.parts("cluster", written);
        cluster.push(("matrix.cluster".to_owned(), Some(&cell.cluster)));
        self.refuse_fields(&cluster, &["name", "endpoints"], SERVICES_DECIDE)?;
        let mut table = merged(&cluster);
        if let Some(balance) = balance {
            self.refuse_fields(&cluster[1..], &["balance"], "the variant's `balance` says that")?;
            // It counts whatever is set for all variants.
            let name = balance.get_ref().0.name.to_owned();
            insert(&mut table, ("balance", name, balance.span()));
        }
        if let Some(part) = self.pushed("cluster", pushed) {
            let own = std::slice::from_ref(&part);
            self.refuse_fields(own, &["name", "endpoints"], SERVICES_DECIDE)?;
            merge(&mut table, &merged(own));
            cluster.push(part);
        }
        insert(&mut table, ("name", PLACEHOLDER.to_owned(), 0..0));
        let endpoint = DeValue::String(Cow::Owned(format!("{PLACEHOLDER}:1")));
        let endpoints = DeValue::Array([Spanned::new(0..0, endpoint)].into_iter().collect());
        table.insert(Spanned::new(0..0, "endpoints".into()), Spanned::new(0..0, endpoints));
        let cluster: ClusterConfig = self.read(table, &cluster)?;

        let mut route = self.parts("route", written);
        route.push(("matrix.route".to_owned(), Some(&cell.route)));
        route.extend(self.pushed("route", pushed));
        self.refuse_fields(&route, &["cluster"], SERVICES_DECIDE)?;
        let mut table = DeTable::new();
        if let Some(timeout) = &self.file.sidecar.timeout {
            self.refuse_fields(&route[..1], &["timeout"], "`sidecar.timeout` says that")?;
            let value = humantime::format_duration(*timeout.get_ref()).to_string();
            insert(&mut table, ("timeout", value, timeout.span()));
        }
        merge(&mut table, &merged(&route));
        insert(&mut table, ("cluster", PLACEHOLDER.to_owned(), 0..0));
        let route: RouteConfig = self.read(table, &route)?;

        let listener = self.parts("listener", written);
        self.refuse_fields(&listener, &["name", "listen"], "the simulated network decides that")?;
        let mut table = merged(&listener);
        insert(&mut table, ("name", LISTENER.to_owned(), 0..0));
        insert(&mut table, ("listen", "0.0.0.0:0".to_owned(), 0..0));
        let listener: ListenerConfig = self.read(table, &listener)?;
        Ok(SidecarSpec { cluster, route, listener })
    }

    /// The table of this name that the fault of this number pushes.
    fn pushed(&self, table: &str, number: Option<usize>) -> Option<Part<'_, 'a>> {
        let number = number?;
        let faults = self.document.get("faults")?.get_ref().as_array()?;
        let push = sub_table(faults.get(number)?, "what")?.get("push")?;
        let name = format!("faults[{number}].what.push.{table}");
        Some((name, Some(sub_table(push, table)?)))
    }

    /// The common table of this name, and that of a variant, if it is written out.
    fn parts(&self, table: &str, written: Option<usize>) -> Vec<Part<'_, 'a>> {
        let common = self.document.get("sidecar").and_then(|sidecar| sub_table(sidecar, table));
        let mut parts = vec![(format!("sidecar.{table}"), common)];
        if let Some(index) = written {
            let variants = self.document.get("variants").and_then(|v| v.get_ref().as_array());
            let own = variants.and_then(|v| v.get(index)).and_then(|v| sub_table(v, table));
            parts.push((format!("variants[{index}].{table}"), own));
        }
        parts
    }

    fn refuse_fields(
        &self,
        parts: &[Part<'_, 'a>],
        names: &[&str],
        why: &str,
    ) -> Result<(), InputError> {
        for (part, table) in parts {
            for name in names {
                if let Some((key, _)) = table.and_then(|table| table.get_key_value(*name)) {
                    let message = format!("{why}; leave it out");
                    return Err(self.wrong(format!("{part}.{name}"), key.span(), message));
                }
            }
        }
        Ok(())
    }

    /// Reads a merged table with a type of the sidecar's; `parts` are what it was merged of.
    fn read<T: DeserializeOwned>(
        &self,
        table: DeTable<'a>,
        parts: &[Part<'_, 'a>],
    ) -> Result<T, InputError> {
        let value = Spanned::new(0..0, DeValue::Table(table));
        serde_path_to_error::deserialize(ValueDeserializer::from(value)).map_err(|error| {
            let keys = keys(error.path());
            // The last part that says something about the field is the one that counts.
            let said = parts.iter().rev().find(|(_, table)| table.is_some_and(|t| says(t, &keys)));
            let (part, _) = said.unwrap_or(&parts[0]);
            let field = [part.as_str()].into_iter().chain(keys.iter().map(String::as_str));
            let field = field.collect::<Vec<_>>().join(".");
            let message = source::explained(error.inner().message());
            match error.inner().span().filter(|span| !span.is_empty()) {
                Some(span) => self.wrong(field, span, message),
                None => InputError::field(self.path, field, message),
            }
        })
    }
}

/// Why some fields are refused.
const SERVICES_DECIDE: &str = "the scenario's services decide that";

/// What a cluster is called until the world that it belongs to is made.
const PLACEHOLDER: &str = "service";

/// What a listener is called.
const LISTENER: &str = "outbound";

fn sub_table<'d, 'a>(of: &'d Spanned<DeValue<'a>>, name: &str) -> Option<&'d DeTable<'a>> {
    of.get_ref().as_table()?.get(name)?.get_ref().as_table()
}

fn insert<'a>(
    table: &mut DeTable<'a>,
    (key, value, span): (&'static str, String, std::ops::Range<usize>),
) {
    let value = Spanned::new(span.clone(), DeValue::String(Cow::Owned(value)));
    table.remove(key);
    table.insert(Spanned::new(span, Cow::Borrowed(key)), value);
}

fn merged<'a>(parts: &[Part<'_, 'a>]) -> DeTable<'a> {
    let mut whole = DeTable::new();
    parts.iter().filter_map(|(_, table)| *table).for_each(|table| merge(&mut whole, table));
    whole
}

/// What `over` says counts; tables that both have are merged in turn.
fn merge<'a>(base: &mut DeTable<'a>, over: &DeTable<'a>) {
    for (key, value) in over {
        if let DeValue::Table(over) = value.get_ref()
            && let Some(DeValue::Table(base)) = base.get_mut(key).map(Spanned::get_mut)
        {
            merge(base, over);
            continue;
        }
        // The key too is the later one, for its place in the file.
        base.remove(key);
        base.insert(key.clone(), value.clone());
    }
}

/// The names of tables and fields on the way to a value; numbers of list items are left out.
fn keys(path: &serde_path_to_error::Path) -> Vec<String> {
    let key = |segment: &Segment| match segment {
        // Under such names toml passes a value together with its place in the file.
        Segment::Map { key } if !key.starts_with("$__") => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        _ => None,
    };
    path.iter().filter_map(key).collect()
}

/// True when a table has the field to which `keys` lead, or something on the way to it.
fn says(table: &DeTable<'_>, keys: &[String]) -> bool {
    let [first, rest @ ..] = keys else { return true };
    match table.get(first.as_str()).map(Spanned::get_ref) {
        Some(DeValue::Table(inner)) => rest.is_empty() || says(inner, rest),
        Some(_) => true,
        None => false,
    }
}
