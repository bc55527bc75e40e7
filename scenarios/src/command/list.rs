//! `meshbench list`.

use super::{HELD, print};
use crate::catalog;

pub(super) fn run() -> anyhow::Result<u8> {
    for scenario in catalog::all()? {
        print(&format!("{}\n  {}", scenario.name, scenario.file.title))?;
    }
    print("\nRun one with: meshbench run NAME")?;
    Ok(HELD)
}
