//! Texts of others in our messages: on one line, and no longer than it takes to find them again.

/// Characters of a value that are shown.
const SHOWN: usize = 100;

/// A value without quotation marks.
pub fn brief(text: &str) -> String {
    shortened(
        text.chars().flat_map(|character| {
            let control = character.is_control();
            let escape = control.then(|| character.escape_default());
            let plain = (!control).then_some(character);
            escape.into_iter().flatten().chain(plain)
        }),
        SHOWN,
    )
}

/// A value in quotation marks.
pub fn quoted(text: &str) -> String {
    let inside = shortened(text.chars().flat_map(char::escape_debug), SHOWN);
    format!("\"{inside}\"")
}

/// A message, which may have several lines but not any length.
pub fn bounded(text: &str, longest: usize) -> String {
    shortened(text.chars(), longest)
}

fn shortened(mut characters: impl Iterator<Item = char>, longest: usize) -> String {
    let mut shortened: String = characters.by_ref().take(longest).collect();
    if characters.next().is_some() {
        shortened.push('…');
    }
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_shown_whole() {
        assert_eq!(quoted("2.0.0"), "\"2.0.0\"");
        assert_eq!(quoted("a\"b\n"), "\"a\\\"b\\n\"");
        assert_eq!(brief("a\"b\nä"), "a\"b\\nä");
        assert_eq!(bounded("a\nb", 3), "a\nb");
    }

    #[test]
    fn long_texts_are_cut_where_a_character_ends() {
        let long = "ä\u{1}".repeat(1 << 20);
        for text in [quoted(&long), brief(&long), bounded(&long, 7)] {
            assert!(text.chars().count() <= SHOWN + 3, "{text}");
            assert!(text.trim_end_matches('"').ends_with('…'), "{text}");
        }
    }
}
