//! The receipt: what was erased, when and where, signed by the key, without any personal data.
//!
//! The subject is named by its keyed hash. Whoever holds the key can check that a receipt is genuine, and whether
//! it is about a given subject; nobody else can tell who it was.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{ForgetError, Subject};
use crate::lake::Lake;
use crate::pseudonym::PseudonymKey;

/// Where receipts are, below the lake.
const DIR: &str = "receipts";
/// What the signature is for.
const PURPOSE: &str = "receipt";

/// What went of one dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Objects in bronze that held rows of the subject.
    pub bronze_objects: u64,
    /// Rows overwritten in them, unreadable ones with the value in them included.
    pub bronze_rows: u64,
    /// Rows taken out of silver; where versions are kept, out of these.
    pub silver_rows: u64,
    /// Rows taken out of discard.
    pub discard_rows: u64,
    /// Rows of others in these objects that have the value in their text; they stay.
    pub mentions: u64,
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The kind and version of this document.
    pub receipt: String,
    /// The column that named the subject.
    pub column: String,
    /// The keyed hash of column and value.
    pub subject: String,
    /// When it was asked for, in UTC.
    pub asked_at: String,
    /// When it was done, in UTC.
    pub done_at: String,
    /// What went, by dataset.
    pub datasets: BTreeMap<String, Erased>,
    /// By table, the oldest version that can still be opened.
    pub versions: BTreeMap<String, u64>,
}

/// A statement with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What it says.
    pub statement: Statement,
    /// HMAC-SHA256 over the statement as compact JSON, in hex.
    pub signature: String,
}

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It cannot be read.
    #[error("it is no receipt of `forget`: {0}")]
    Text(#[from] serde_json::Error),
    /// It was changed, or signed with another key.
    #[error(
        "its signature is not the given key's over what it says: it was changed, or made with another key"
    )]
    Signature,
    /// It is about somebody else.
    #[error("it is genuine, and about another subject than the one given")]
    Subject,
}

impl Receipt {
    pub(super) fn new(
        key: &PseudonymKey,
        column: &str,
        mark: &str,
        plan: &Plan,
        datasets: &BTreeMap<String, Erased>,
        versions: BTreeMap<String, u64>,
    ) -> Self {
        let asked_at = DateTime::from_timestamp_millis(plan.made_ms).unwrap_or_default();
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let statement = Statement {
            receipt: "ingot-forget/1".to_owned(),
            column: column.to_owned(),
            subject: mark.to_owned(),
            asked_at: time(asked_at),
            done_at: time(Utc::now()),
            datasets: datasets.clone(),
            versions,
        };
        let signature = key.tag(PURPOSE, &signed(&statement));
        Self { statement, signature }
    }

    /// Stores it; where.
    pub(super) async fn store(&self, lake: &Lake) -> Result<String, ForgetError> {
        let Statement { subject, done_at, .. } = &self.statement;
        let time: String = done_at.chars().filter(|sign| sign.is_ascii_alphanumeric()).collect();
        let path = format!("{DIR}/{}-{time}.json", &subject[..16.min(subject.len())]);
        let text = serde_json::to_vec_pretty(self).map_err(ForgetError::Plan)?;
        lake.put_durable(&path, text.into()).await?;
        Ok(path)
    }
}

/// What a receipt says, if it is genuine, and about `subject` where one is given.
///
/// # Errors
/// It is not.
pub fn verify(text: &str, key: &PseudonymKey, subject: Option<&Subject>) -> Result<Statement, ReceiptError> {
    let receipt: Receipt = serde_json::from_str(text)?;
    if !key.is_tag(PURPOSE, &signed(&receipt.statement), &receipt.signature) {
        return Err(ReceiptError::Signature);
    }
    if subject.is_some_and(|subject| subject.mark(key) != receipt.statement.subject) {
        return Err(ReceiptError::Subject);
    }
    Ok(receipt.statement)
}

/// What is signed: the fields in their order, so that white space and line ends do not count.
fn signed(statement: &Statement) -> Vec<u8> {
    // Texts and numbers in maps by text: nothing that JSON could refuse.
    serde_json::to_vec(statement).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_receipt_is_genuine_until_a_number_changes() {
        let key = PseudonymKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
        let (ann, bob): (Subject, Subject) = ("email=ann".parse().unwrap(), "email=bob".parse().unwrap());
        let erased = Erased { silver_rows: 7, ..Erased::default() };
        let datasets = BTreeMap::from([("orders".to_owned(), erased)]);
        let receipt =
            Receipt::new(&key, "email", &ann.mark(&key), &Plan::default(), &datasets, BTreeMap::new());
        let text = serde_json::to_string_pretty(&receipt).unwrap();
        assert!(!text.contains("ann"), "{text}");
        assert_eq!(verify(&text, &key, Some(&ann)).unwrap(), receipt.statement);
        assert!(matches!(verify(&text, &key, Some(&bob)), Err(ReceiptError::Subject)));
        let changed = text.replace("\"silver_rows\": 7", "\"silver_rows\": 8");
        assert!(matches!(verify(&changed, &key, None), Err(ReceiptError::Signature)));
        let other = PseudonymKey::new(b"fedcba9876543210fedcba9876543210").unwrap();
        assert!(matches!(verify(&text, &other, None), Err(ReceiptError::Signature)));
        assert!(matches!(verify("{}", &key, None), Err(ReceiptError::Text(_))));
    }
}
