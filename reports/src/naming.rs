//! Names that are safe as file names and as anchors, whatever the records call things.

/// Keeps letters, digits, `.`, `_` and `-`; everything else becomes `_`, and so does a leading
/// dot, so that no name leaves its folder or hides in it.
pub(crate) fn slug(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut slug: String = name.chars().map(keep).collect();
    if slug.starts_with('.') {
        slug.replace_range(..1, "_");
    }
    if slug.is_empty() { "unnamed".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn a_slug_cannot_leave_its_folder() {
        assert_eq!(slug("skewed-latency_2.0"), "skewed-latency_2.0");
        assert_eq!(slug("../../etc/passwd"), "_._.._etc_passwd");
        assert_eq!(slug("a b<script>"), "a_b_script_");
        assert_eq!(slug(""), "unnamed");
    }
}
