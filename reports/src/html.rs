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

/// Paragraphs, which an empty line separates in the text; what stands between backticks is code.
pub(crate) fn paragraphs(text: &str) -> String {
    let joined = |p: &str| p.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace("\r\n", "\n")
        .split("\n\n")
        .map(joined)
        .filter(|p| !p.is_empty())
        .map(|p| format!("<p>{}</p>\n", with_code(&p)))
        .collect()
}

fn with_code(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // A backtick without its second one is a character like others.
    let is_paired = parts.len() % 2 == 1;
    if !is_paired {
        return escape(text);
    }
    let part = |(place, part): (usize, &&str)| match place % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    parts.iter().enumerate().map(part).collect()
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

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(paragraphs("a `b<` c"), "<p>a <code>b&lt;</code> c</p>\n");
        assert_eq!(paragraphs("a ` c"), "<p>a ` c</p>\n");
    }
}
