//! Wrong files: each gets one error, which names the line, quotes it, and says what would be right;
//! and whatever is made of a right file, reading it ends in a scenario or in such an error.
#![allow(clippy::unwrap_used, reason = "a test says by failing what is wrong")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use scenarios::Scenario;

/// Files of a folder beside this one, in order of their names.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (PathBuf::from(path.file_name().unwrap()), text)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn each_wrong_file_gets_one_precise_error() {
    let files = files("tests/malformed");
    assert!(files.len() >= 30);
    let errors: Vec<_> = files
        .iter()
        .map(|(name, text)| match Scenario::parse(name, text) {
            Ok(_) => panic!("{} was accepted", name.display()),
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                format!("{error:#}")
            }
        })
        .collect();
    insta::assert_snapshot!(errors.join("\n\n"));
}

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    /// A byte becomes another.
    Byte(Index, u8),
    /// A line is left out.
    NoLine(Index),
    /// A line is there twice, the second time elsewhere.
    Line(Index, Index),
    /// A word becomes another of the file's.
    Word(Index, Index),
    /// A word becomes something that nobody would write.
    Odd(Index, &'static str),
    /// The file ends here.
    Cut(Index),
}

const ODD: [&str; 16] = [
    "-1",
    "0",
    "1e308",
    "nan",
    "inf",
    "\"\"",
    "\"é\"",
    "[]",
    "{}",
    "true",
    "18446744073709551616",
    "\"999999999999999999999s\"",
    "\"p99 <= \"",
    "\"<=\"",
    "'*'",
    "1979-05-27",
];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        any::<Index>().prop_map(Change::NoLine),
        (any::<Index>(), any::<Index>()).prop_map(|(of, to)| Change::Line(of, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(of, to)| Change::Word(of, to)),
        (any::<Index>(), proptest::sample::select(&ODD[..])).prop_map(|(at, o)| Change::Odd(at, o)),
        any::<Index>().prop_map(Change::Cut),
    ]
}

/// Where the words of a text stand: what is between spaces, brackets, commas and signs.
fn words(text: &str) -> Vec<std::ops::Range<usize>> {
    let between = |c: char| c.is_whitespace() || "[]{},=".contains(c);
    let pieces = text.split(between);
    let ranges = pieces.map(|word| {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        start..start + word.len()
    });
    ranges.filter(|range| !range.is_empty()).collect()
}

fn changed(text: &str, change: &Change) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let words = words(text);
    if lines.is_empty() || words.is_empty() {
        return text.to_owned();
    }
    let replaced = |at: &Index, by: &str| {
        let mut text = text.to_owned();
        text.replace_range(words[at.index(words.len())].clone(), by);
        text
    };
    match change {
        Change::Byte(at, byte) => {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = *byte;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Change::NoLine(at) => {
            lines.remove(at.index(lines.len()));
            lines.join("\n")
        }
        Change::Line(of, to) => {
            lines.insert(to.index(lines.len()), lines[of.index(lines.len())]);
            lines.join("\n")
        }
        Change::Word(of, to) => replaced(to, &text[words[of.index(words.len())].clone()]),
        Change::Odd(at, odd) => replaced(at, odd),
        Change::Cut(at) => {
            String::from_utf8_lossy(&text.as_bytes()[..at.index(text.len())]).into_owned()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_file_is_read_or_refused(
        which in any::<Index>(),
        changes in proptest::collection::vec(change(), 1..4),
    ) {
        let catalogue: Vec<_> = scenarios::catalog::names().collect();
        let right = scenarios::catalog::load(catalogue[which.index(catalogue.len())]).unwrap();
        let text = changes.iter().fold(right.text, |text, change| changed(&text, change));
        if let Err(error) = Scenario::parse(Path::new("changed.toml"), &text) {
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
            let shown = format!("{error:#}");
            prop_assert!(shown.lines().count() <= 4, "{}", shown);
        }
    }
}
