//! What stands under a contract's custom properties, which the standard leaves to its readers.

use serde::de::DeserializeOwned;

use super::odcs;
use super::problem::Problems;

/// Where the custom property's value stands.
pub(super) fn custom_path(name: &str) -> String {
    format!("customProperties.{name}.value")
}

/// What stands under the custom property, if it is there and well formed.
pub(super) fn custom_value<T: DeserializeOwned>(
    custom: &[odcs::Custom],
    name: &str,
    problems: &mut Problems,
) -> Option<T> {
    let value = odcs::custom(custom, name)?;
    serde_json::from_value(value.clone())
        .map_err(|error| problems.at(custom_path(name)).push(format!("{name}: {error}")))
        .ok()
}

/// The same for a list; empty where it is not there.
pub(super) fn custom_list<T: DeserializeOwned>(
    custom: &[odcs::Custom],
    name: &str,
    problems: &mut Problems,
) -> Vec<T> {
    custom_value(custom, name, problems).unwrap_or_default()
}
