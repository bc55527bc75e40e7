//! The little HTML that the page needs: everything that comes from a record is escaped here.

/// Text for an element's content or a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && !c.is_whitespace() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Paragraphs, which an empty line separates in the text.
pub(crate) fn paragraphs(text: &str) -> String {
    let joined = |p: &str| p.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("\r\n", "\n")
        .split("\n\n")
        .map(joined)
        .filter(|p| !p.is_empty())
        .map(|p| format!("<p>{}</p>\n", escape(&p)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_record_stays_text() {
        assert_eq!(escape("<script>&\"'"), "&lt;script&gt;&amp;&quot;&#39;");
        assert_eq!(escape("a\u{0}b\n"), "a\u{fffd}b\n");
    }

    #[test]
    fn an_empty_line_separates_paragraphs() {
        assert_eq!(paragraphs("a\nb\n\n\n\nc <\n"), "<p>a b</p>\n<p>c &lt;</p>\n");
        assert_eq!(paragraphs(" \n"), "");
    }
}
