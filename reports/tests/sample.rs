//! The report that is committed to look at. `.ci/sample` makes it again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reports::{Bitmaps, PageExtras, load, write_page};

const STALE: &str = "reports/sample is not what the code writes now: run .ci/sample";

/// What the README shows of the page.
const PICTURES: [&str; 2] = ["comparison.png", "figures.png"];

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample")
}

/// Every file below a folder, by its path in it, and its size.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is in it").display().to_string();
                found.push((name, fs::metadata(&path).expect("a file").len()));
            }
        }
    }
    found
}

/// What stands in headings of any kind, in order.
fn outline(html: &str) -> Vec<String> {
    let tags = ["h1", "h2", "h3", "caption", "th", "figcaption", "b", "dt", "summary"];
    let heading = |piece: &str| {
        let (tag, text) = piece.split_once('>')?;
        let name = tag.split(' ').next()?;
        // Numbers are of the runs, and not of the structure.
        let words: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        tags.contains(&name).then(|| format!("{name} {}", words.trim()))
    };
    let body = html.split_once("<body>").map_or("", |(_, body)| body);
    let body = body.split_once("<script>").map_or(body, |(body, _)| body);
    body.split('<').filter_map(heading).collect()
}

#[test]
fn the_sample_is_what_the_code_writes_now() {
    let page = fs::read_to_string(sample().join("index.html")).expect("the sample's page");
    let schema =
        format!("<meta name=\"meshbench-schema\" content=\"{}\">", reports::record::SCHEMA);
    assert!(page.contains(&schema), "{STALE}");
    let loaded = load(&[sample().join("records")]).expect("the sample's records");
    assert_eq!(loaded.skipped, [], "{STALE}");
    let again = tempfile::tempdir().expect("a temporary folder");
    let extras = PageExtras {
        generator: "meshbench".to_owned(),
        command: "meshbench run gray-failure".to_owned(),
        bitmaps: Bitmaps::LeftOut,
        ..PageExtras::default()
    };
    write_page(&loaded.records, &extras, again.path()).expect("a page");
    let written = fs::read_to_string(again.path().join("index.html")).expect("the page");
    assert_eq!(outline(&page), outline(&written), "{STALE}");
    assert!(outline(&page).len() > 60, "the outline of a page has more than that");
    let names = |folder: &Path| -> BTreeSet<String> {
        let all = files(folder).into_iter().map(|(name, _)| name);
        all.filter(|name| !PICTURES.contains(&name.as_str())).collect()
    };
    assert_eq!(names(&sample()), names(again.path()), "{STALE}");
}

#[test]
fn the_sample_is_small_and_what_it_links_to_is_there() {
    let bytes: u64 = files(&sample()).iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes <= 1_500_000, "reports/sample has {bytes} bytes");
    let page = fs::read_to_string(sample().join("index.html")).expect("the sample's page");
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let files: Vec<&str> = links.filter(|link| !link.starts_with('#')).collect();
    assert!(files.len() > 20, "the sample links to few files");
    for file in files {
        assert!(sample().join(file).is_file(), "{file} is missing; run .ci/sample");
    }
    for picture in PICTURES {
        let size = fs::metadata(sample().join(picture)).expect("the README shows it").len();
        assert!(size > 10_000, "{picture} is empty");
    }
}
