//! Names and texts in the SQL that Ingot writes itself, so quoted that none can end before its end: the quote within is
//! doubled, as the SQL standard has it and DataFusion, Athena and delta-rs read it.

/// A column, table or database, in double quotes.
pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, in single quotes.
pub(crate) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Texts, one after the other with commas between, as `IN (…)` takes them; empty where there are none.
pub(crate) fn texts(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    texts.into_iter().map(|each| text(each.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(text("the order's"), "'the order''s'");
        assert_eq!(texts(["a", "b'"]), "'a', 'b'''");
        assert_eq!(texts([""; 0]), "");
    }
}
