//! Keys and tokens as they are handed from step to step: in files, and in no message.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that no message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}
