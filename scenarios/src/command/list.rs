//! `meshbench list`.

use super::{HELD, print};
use crate::catalog;

pub(super) fn run() -> anyhow::Result<u8> {
    let scenarios = catalog::all()?;
    let width = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    for scenario in &scenarios {
        print(&format!("{:width$}  {}", scenario.name, scenario.file.title))?;
    }
    print("\nRun one with: meshbench run NAME")?;
    Ok(HELD)
}
