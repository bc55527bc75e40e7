//! `meshbench schema`: the JSON schema of scenario files, for editors.

use anyhow::Context as _;

use super::{HELD, print};
use crate::scenario::schema;

pub(super) fn run() -> anyhow::Result<u8> {
    let text = serde_json::to_string_pretty(&schema()).context("writing the schema")?;
    print(&text)?;
    Ok(HELD)
}
