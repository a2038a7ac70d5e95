//! JSON for people to read.

/// The longest payload that is indented, in bytes; a longer one is shown as it is.
const MAX_INDENTED_BYTES: usize = 256 * 1024;

/// JSON with a line for each field, and every token as it was; anything else as it is.
pub(in crate::page) fn indented(text: &str) -> String {
    if text.len() > MAX_INDENTED_BYTES || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped, mut opened) = (0_usize, false, false, false);
    for c in text.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if opened != closes && (opened || closes) {
            new_line(&mut out, depth);
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            ',' => new_line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    /// Deeper than this nobody reads on.
    const MAX_INDENT: usize = 40;
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_token_by_token_and_anything_else_is_left_alone() {
        let json = r#"{"a":[1,2.50,{}],"text":"{\"x\": [1,2]}","empty":[],"huge":123456789012345678901234567890}"#;
        let shown = indented(json);
        assert!(shown.contains("\n    2.50,") && shown.contains("123456789012345678901234567890"), "{shown}");
        assert!(shown.contains(r#""{\"x\": [1,2]}""#) && shown.contains("\"empty\": []"), "{shown}");
        let compact: String = shown.lines().map(str::trim_start).collect::<String>().replace("\": ", "\":");
        assert_eq!(compact, json.replace("x\\\": ", "x\\\":"), "nothing is lost");
        for other in ["no json", "{\"a\":", ""] {
            assert_eq!(indented(other), other);
        }
    }
}
