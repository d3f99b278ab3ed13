//! An object of several parts: each goes to silver and discard by itself, the ledger's one row is last.
//!
//! A part is known by the place of its first row, which the bytes alone decide. So a cut between two parts is healed
//! as one between two objects: what is there already is found, the rest follows. What has to be known of the whole
//! object before anything of it is promoted (is it a bomb, does a check set it aside) is found out in a pass of its own.

use tracing::debug;

use super::account::Account;
use super::{Candidate, ObjectError, PromoteError, Promoting, Share};
use crate::examine::{Examined, judges_objects};
use crate::reading::Reading;

impl Promoting<'_> {
    /// Promotes the object part by part; `first` is its first one.
    pub(super) async fn land_parts<'a>(
        &mut self,
        candidate: &'a Candidate,
        mut reading: Reading<'a>,
        first: Examined,
    ) -> Result<(), PromoteError> {
        match self.passes(candidate, &mut reading).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                self.fail(candidate, error);
                return Ok(());
            }
        }
        let mut account = Account::default();
        let mut part = Some(first);
        let mut ordinal = 0;
        while let Some(examined) = part {
            let id = format!("{}#{ordinal}", candidate.object.id());
            let in_silver = self.land(&[Share { candidate, id, examined: &examined }]).await?;
            account.add(&examined, in_silver.into_iter().sum());
            debug!(key = %candidate.object.key, ordinal, rows = examined.rows_in, "a part is promoted");
            ordinal += examined.rows_in;
            drop(examined);
            part = match reading.next(self.checker).await {
                Ok(next) => next,
                Err(error) => {
                    self.fail(candidate, error);
                    return Ok(());
                }
            };
        }
        let entry = account.entry(self.checker.contract(), &candidate.object, self.now_ms);
        self.account_for(vec![entry]).await
    }

    /// Whether the object may be promoted; one that may not is noted.
    async fn passes(
        &mut self,
        candidate: &Candidate,
        reading: &mut Reading<'_>,
    ) -> Result<bool, ObjectError> {
        if reading.too_heavy(self.lake).await?.is_some() {
            self.set_aside_as_too_heavy(candidate);
            return Ok(false);
        }
        if judges_objects(self.checker.contract()) {
            let mut whole = Reading::open(self.lake, &candidate.object, &candidate.key).await?;
            while whole.next(self.checker).await?.is_some() {}
            whole.verdict(self.checker)?;
        }
        Ok(true)
    }
}
