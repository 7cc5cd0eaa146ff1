//! Makes text of others harmless before it is printed.
//!
//! Records of other users, files and journals hold text that murphy did not write. Control characters in it
//! would move a terminal's cursor, colour or rename it, and marks of direction would show it in another order.
//! These functions replace each by its escape, such as `\u{1b}`, and leave all other text as it is.

use std::borrow::Cow;

/// Text for one line of a terminal, of Markdown or of XML: without line feeds, too.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_harmful, |c| c.escape_unicode().to_string())
}

/// Text of several lines; line feeds and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    let harmful = |c| !matches!(c, '\n' | '\t') && is_harmful(c);
    escape(text, harmful, |c| c.escape_unicode().to_string())
}

/// JSON: what its writer left in strings as it is.
pub fn json(text: &str) -> Cow<'_, str> {
    let harmful = |c| !matches!(c, '\n' | '\t' | '\r') && is_harmful(c);
    // All of them are in the basic plane, so that one escape is enough.
    escape(text, harmful, |c| format!("\\u{:04x}", u32::from(c)))
}

/// Whether a character does something else than to be seen: C0, DEL, C1, separators of lines and paragraphs, and
/// marks that change the direction.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(
    text: &str,
    harmful: impl Fn(char) -> bool,
    escaped: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if !text.contains(&harmful) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) {
            safe.push_str(&escaped(c));
        } else {
            safe.push(c);
        }
    }
    safe.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_on_a_terminal_is_seen_instead() {
        assert_eq!(line("a\u{1b}]0;x\u{7}b\nc"), r"a\u{1b}]0;x\u{7}b\u{a}c");
        assert_eq!(
            line("\u{9b}31m\u{7f}\u{202e}abc\u{2069}"),
            r"\u{9b}31m\u{7f}\u{202e}abc\u{2069}"
        );
        assert_eq!(lines("a\tb\n\rc\u{1b}"), "a\tb\n\\u{d}c\\u{1b}");
        for plain in ["", "connect:error=EIO:port=1", "Grüße, 世界 ✓"] {
            assert!(matches!(line(plain), Cow::Borrowed(text) if text == plain));
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a": "\u{9b}\u{202e}\u{7f}\u{1b}\n"});
        let text = value.to_string();
        let safe = json(&text);
        assert!(!safe.chars().any(is_harmful), "{safe}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).ok(),
            Some(value)
        );
    }
}
