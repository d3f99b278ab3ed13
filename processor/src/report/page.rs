//! The page around the plots.

use crate::audit::Balance;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}\
h1{font-size:1.6rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse}td,th{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #dde3ea}th{text-align:left;font-weight:500}\
svg{width:100%;height:auto}code{font-size:.75rem;color:#5b6b7c;white-space:pre-wrap}\
.good{color:#0a7a3b}.bad{color:#b3261e}";

/// The whole page.
pub fn page(lake: &str, sections: &[String]) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Ingot: {lake}</title><style>{STYLE}</style></head>\n<body><h1>Ingot</h1><p>{lake}</p>\n{}</body></html>\n",
        sections.concat(),
        lake = escape(lake),
    )
}

/// A plot under its title, with the query behind it.
pub fn section(title: &str, sql: &str, svg: &str) -> String {
    format!("<section><h2>{}</h2>\n{svg}\n<code>{}</code></section>\n", escape(title), escape(sql))
}

/// The balance as a table, with the findings where there are any.
pub fn balance(balance: &Balance) -> String {
    let verdict = if balance.is_balanced() {
        "<p class=\"good\">Balanced: every row of bronze is in exactly one place.</p>".to_owned()
    } else {
        let findings: String =
            balance.findings.iter().map(|finding| format!("<li>{}</li>", escape(finding))).collect();
        format!("<p class=\"bad\">Not balanced: {} findings.</p><ul>{findings}</ul>", balance.findings_count)
    };
    let dropped: u64 = balance.dropped.values().sum();
    let rows: String = [
        ("bronze objects", balance.objects.to_string()),
        ("bytes of bronze", balance.bytes.to_string()),
        ("rows in", balance.rows_in.to_string()),
        ("silver", balance.silver.to_string()),
        ("discarded by a rule", balance.discarded.to_string()),
        ("duplicates, not counted again", balance.duplicates.to_string()),
        ("given up at the edge, counted", dropped.to_string()),
        ("objects not yet processed", balance.in_flight_objects.to_string()),
    ]
    .iter()
    .map(|(name, value)| format!("<tr><th>{name}</th><td>{value}</td></tr>"))
    .collect();
    format!("<section><h2>The ledger</h2>{verdict}<table>{rows}</table></section>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
