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

use super::{Antagonist, CallTable, File, Metric, Step};

/// Where the schema is to be found, for whoever reads one without its file.
const TITLE: &str = "A scenario of meshbench";

/// A number and its unit, once or several times, as `proxy::config::fields::parse_duration` takes it.
const DURATION: &str = r"^\s*(\d+(\.\d+)?\s*[a-zA-Zµ]+\s*)+$";

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
pub(super) enum ArrivalsName {}

impl JsonSchema for ArrivalsName {
    fn schema_name() -> Cow<'static, str> {
        "Arrivals".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An arrival process.",
            "anyOf": [
                { "oneOf": [
                    { "const": "constant", "description": "One every so often." },
                    { "const": "poisson", "description": "At random, independent of each other." },
                    { "const": "uniform", "description": "At random, as if evenly shuffled." },
                ] },
                {
                    "description": "So many at once, such as \"burst:10\".",
                    "type": "string",
                    "pattern": "^burst:[0-9]+$",
                },
            ],
        })
    }
}

/// What an instance answers.
pub(super) enum AnswerForm {}

impl JsonSchema for AnswerForm {
    fn schema_name() -> Cow<'static, str> {
        "Answer".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let bytes = generator.subschema_for::<ByteCount>();
        json_schema!({
            "description": "What an instance answers: so many bytes, or who it is, as JSON.",
            "anyOf": [{ "const": "identity" }, bytes],
        })
    }
}

/// A course of an instance's speed.
pub(super) enum CapacityForm {}

impl JsonSchema for CapacityForm {
    fn schema_name() -> Cow<'static, str> {
        "Capacity".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let step = generator.subschema_for::<Step>();
        let antagonist = generator.subschema_for::<Antagonist>();
        json_schema!({
            "description": "How the speed of an instance changes in time.",
            "anyOf": [{ "type": "array", "items": step, "minItems": 1 }, antagonist],
        })
    }
}

/// What a service calls for each request.
pub(super) enum CallsForm {}

impl JsonSchema for CallsForm {
    fn schema_name() -> Cow<'static, str> {
        "Calls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<CallTable>();
        let call = json!({ "anyOf": [{ "type": "string" }, table] });
        let at_once = json!({ "type": "array", "items": call, "minItems": 1 });
        let steps = json!({ "anyOf": [call, at_once] });
        json_schema!({
            "description": "A service, a table, or a list of both, one after the other; what stands \
                            in a list within the list is called at once.",
            "anyOf": [call, { "type": "array", "items": steps, "minItems": 1 }],
        })
    }
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

/// A duration that may be negative.
pub(super) enum SignedDuration {}

impl JsonSchema for SignedDuration {
    fn schema_name() -> Cow<'static, str> {
        "SignedDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number and a unit, such as \"-5s\".",
            "type": "string",
            "pattern": r"^\s*[+-]?\s*(\d+(\.\d+)?\s*[a-zA-Zµ]+\s*)+$",
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
