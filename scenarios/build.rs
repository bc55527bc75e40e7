//! Lists the files of the catalogue, so that the program carries them with it.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=catalog");
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(&root).join("catalog"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    // By name: `a` before `a-b`, which the order of whole paths would turn round.
    files.sort_by_key(|path| path.file_stem().map(ToOwned::to_owned));
    let mut list = String::from("&[\n");
    for path in &files {
        let name = path.file_stem().ok_or("a file without a name")?.to_string_lossy();
        writeln!(list, "    ({name:?}, include_str!({:?})),", path.display().to_string())?;
    }
    list.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("catalog.rs"), list)?;
    Ok(())
}
