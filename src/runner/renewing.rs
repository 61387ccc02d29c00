//! Before a round: secrets as they are on file, and a token that lasts.

use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::outcome::{Failure, Outcome, Skip};

impl Runner {
    /// Sees to it that the round has the secrets that are valid now, or says why there is none.
    pub(super) async fn renew(&self, cancel: &CancellationToken) -> Result<(), Skip> {
        let renewal = tokio::select! {
            biased;
            () = self.drain.cancelled() => return Err(Skip::Drain),
            () = cancel.cancelled() => return Err(self.reason_to_cancel()),
            renewal = self.access.renew() => renewal,
        };
        self.guarded.renewed(&renewal);
        if renewal.is_without_token {
            return Err(Skip::Auth);
        }
        Ok(())
    }

    /// A token that the server refuses is not used again.
    pub(super) fn learns_of(&self, outcome: Outcome) {
        if outcome == Outcome::Failed(Failure::Unauthorized) {
            self.access.distrust();
        }
    }
}
