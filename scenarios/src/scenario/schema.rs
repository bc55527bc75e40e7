//! The JSON schema of scenario files, from which editors complete and check while one writes.
//!
//! It is made of the types that read the files, and their documentation. It says less than the
//! reader does: what contradicts something else, and the sidecar's own tables, are not in it.

use std::borrow::Cow;

use proxy::policy::balance::STRATEGIES;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{File, Metric};

/// Where the schema is to be found, for whoever reads one without its file.
const TITLE: &str = "A scenario of meshbench";

/// A number and its unit, once or several times, as `proxy::config::fields::parse_duration` takes it.
const DURATION: &str = r"^\s*(\d+\s*[a-zA-Zµ]+\s*)+$";

/// The schema of a scenario file.
pub fn schema() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>();
    schema.insert("title".to_owned(), TITLE.into());
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut)
        && let Some(duration) = definitions.get_mut("Duration")
    {
        // serde's form of one is an object, and in a file it is always text.
        *duration = json!({
            "description": "A number and a unit, such as \"250ms\" or \"1m 30s\".",
            "type": "string",
            "pattern": DURATION,
        });
    }
    RecursiveTransform(as_prose).transform(&mut schema);
    RecursiveTransform(without_objects_for_durations).transform(&mut schema);
    schema
}

/// Links of the documentation are names to those who read it in an editor, and its lines are cut
/// where the editor likes.
fn as_prose(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
        let prose = paragraphs.collect::<Vec<_>>().join("\n\n");
        *text = prose.replace("[`", "`").replace("`]", "`").replace("Self::", "");
    }
}

/// A default that is a duration has serde's form too, and would be refused by its own schema.
fn without_objects_for_durations(schema: &mut Schema) {
    if schema.get("default").is_some_and(|default| default.get("nanos").is_some()) {
        schema.remove("default");
    }
}

/// What is measured: a metric, or a formula.
pub(super) enum That {}

impl JsonSchema for That {
    fn schema_name() -> Cow<'static, str> {
        "That".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let named = |(name, about): (&str, &str)| json!({ "const": name, "description": about });
        let metrics: Vec<_> = Metric::documented().map(named).collect();
        json_schema!({
            "description": "A metric, such as \"p99\", or a formula, such as \"p99 <= 500ms\" or \
                            \"p99 <= 0.5 * round_robin.p99\".",
            "anyOf": [
                { "oneOf": metrics },
                { "type": "string", "pattern": r"^(work_)?p[0-9]{1,3}(\.[0-9]{1,3})?$" },
                { "type": "string", "pattern": "(<=|>=|==)" },
            ],
        })
    }

    fn inline_schema() -> bool {
        false
    }
}

/// The name of a balancing strategy.
pub(super) enum StrategyName {}

impl JsonSchema for StrategyName {
    fn schema_name() -> Cow<'static, str> {
        "Strategy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = STRATEGIES.iter().map(|strategy| strategy.name).collect();
        json_schema!({ "description": "A balancing strategy.", "type": "string", "enum": names })
    }
}

/// An arrival process.
#[derive(JsonSchema)]
#[schemars(rename = "Arrivals", rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum ArrivalsName {
    /// One every so often.
    Constant,
    /// At random, independent of each other.
    Poisson,
}

/// A number of bytes with its unit.
pub(super) enum ByteCount {}

impl JsonSchema for ByteCount {
    fn schema_name() -> Cow<'static, str> {
        "ByteCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number and B, KiB or MiB, such as \"1KiB\".",
            "type": "string",
            "pattern": r"^[0-9]+ *(B|KiB|MiB)$",
        })
    }
}

/// A table of the sidecar's configuration, which the sidecar itself checks.
pub(super) enum SidecarTable {}

impl JsonSchema for SidecarTable {
    fn schema_name() -> Cow<'static, str> {
        "SidecarTable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }

    fn inline_schema() -> bool {
        true
    }
}
