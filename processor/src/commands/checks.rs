//! The results of the datasets' checks, in words.

use ingot_processor::dataset_check::CheckResult;

/// A line for each check that did not pass; the others are counted.
pub(super) fn text(checks: &[CheckResult]) -> String {
    let mut text = String::new();
    for result in checks.iter().filter(|result| !result.passed) {
        let CheckResult { dataset, check, window, severity, .. } = result;
        text += &format!("\n  {severity}: {dataset}, check {check}, {window}: ");
        text += &match (&result.problem, result.value) {
            (Some(problem), _) => format!("it could not be held: {problem}"),
            (None, value) => {
                let value = value.map_or("no number".to_owned(), |value| value.to_string());
                format!("{value}, must be {}", result.expected)
            }
        };
        if !result.subjects.is_empty() {
            text += &format!(" ({}", result.subjects.join(", "));
            if result.subjects_more > 0 {
                text += &format!(" and {} more", result.subjects_more);
            }
            text.push(')');
        }
    }
    let passed = checks.iter().filter(|result| result.passed).count();
    if passed > 0 {
        text += &format!("\n  {passed} checks of datasets passed");
    }
    text
}
