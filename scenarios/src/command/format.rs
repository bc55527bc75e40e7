//! In which form results are said, and lines that fit a terminal.

/// Columns of a line.
const WIDTH: usize = 80;

/// How a command says what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// JUnit's XML, as CI systems read it
    Junit,
}

/// For what has no tests in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Plain {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// `99.2 %`, with no more digits than say something.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// Breaks a line at spaces so that it fits; what follows is indented by `indent`.
pub(super) fn fit(line: &str, indent: usize) -> String {
    let lead = line.len() - line.trim_start().len();
    let (mut out, mut column) = (" ".repeat(lead), lead);
    let mut first = true;
    for word in line.trim_start().split(' ') {
        let length = word.chars().count();
        if !first && column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        first = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_short() {
        assert_eq!([percent(1.0), percent(0.992_34), percent(0.0)], ["100 %", "99.2 %", "0 %"]);
    }

    #[test]
    fn lines_are_broken_at_spaces() {
        let short = "  a  line that fits";
        assert_eq!(fit(short, 4), short);
        let long = fit(&format!("  {}", "word ".repeat(40).trim()), 6);
        assert!(long.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(long.lines().skip(1).all(|line| line.starts_with("      word")));
        assert_eq!(long.split_whitespace().count(), 40);
    }
}
