//! The key of pseudonyms, given to the contracts by whoever runs them: in a file, in a secret of Secrets Manager, or in the
//! environment.

use std::env;

use anyhow::{Result, bail};
use ingot_processor::aws::client::Client;
use ingot_processor::aws::secret;
use ingot_processor::contract::Contract;
use ingot_processor::pseudonym::PseudonymKey;

use super::{Usage, contracts_of};
use crate::cli::Place;

/// Holds the key itself, where a secret store puts it into the environment.
const KEY_VARIABLE: &str = "INGOT_PSEUDONYM_KEY";

/// The contracts of a command that writes, with the key; a missing or short one ends it before anything is read.
pub(super) async fn contracts_with_key(place: &Place) -> Result<Vec<Contract>> {
    let mut contracts = contracts_of(place)?;
    let key = key(place).await?;
    for contract in &mut contracts {
        contract.pseudonym_key.clone_from(&key);
        if let Err(error) = contract.check_key() {
            bail!(Usage(error.to_string()));
        }
    }
    Ok(contracts)
}

/// The key, if one is given.
pub(super) async fn key(place: &Place) -> Result<Option<PseudonymKey>> {
    let bytes = match (&place.pseudonym_key_file, &place.pseudonym_key_secret) {
        (Some(file), _) => match std::fs::read(file) {
            Ok(bytes) => Some(bytes),
            Err(error) => bail!(Usage(format!("--pseudonym-key-file {}: {error}", file.display()))),
        },
        (None, Some(name)) => {
            let client = Client::from_env().map_err(|error| Usage(error.to_string()))?;
            Some(secret::value(&client, name).await?)
        }
        (None, None) => env::var(KEY_VARIABLE).ok().map(String::into_bytes),
    };
    match bytes.map(|bytes| PseudonymKey::new(&bytes)).transpose() {
        Ok(key) => Ok(key),
        Err(error) => bail!(Usage(error.to_string())),
    }
}
