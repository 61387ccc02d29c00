//! The request that comes first where an endpoint has shed load.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Runner, What, waits::Waits};
use crate::{
    backoff::takes_requests,
    outcome::Skip,
    protection::{Brake, Trial},
    summary::Judged,
};

impl Runner {
    /// One request, after the endpoint shed load: whether it takes requests again, or why there is no round.
    pub(super) async fn trial(
        &self,
        trial: Trial<'_>,
        due: Instant,
        waits: Option<&Waits>,
        cancel: &CancellationToken,
    ) -> Result<(), Skip> {
        let judged = self.try_one(due, waits, cancel).await?;
        trial.ended(&judged);
        let outcome = judged.record.outcome;
        match takes_requests(outcome) {
            Some(true) => Ok(()),
            Some(false) => Err(Skip::Backoff),
            // Our own doing.
            None if cancel.is_cancelled() => Err(self.reason_to_cancel()),
            None => Err(Skip::InFlight),
        }
    }

    /// The trial itself, or why it was not made.
    async fn try_one(
        &self,
        due: Instant,
        waits: Option<&Waits>,
        cancel: &CancellationToken,
    ) -> Result<Judged, Skip> {
        let step = self.steps.first().ok_or(Skip::Backoff)?;
        let mut spending = self.guarded.apart(1).ok_or(Skip::Budget)?;
        // A request of an open loop takes its place itself.
        let users = step.series.step.load.users().min(1);
        let _place = self.places(users, due, waits, cancel).await?;
        let brake = Brake::new(None);
        let burst = self.prepared(step, &step.series, Arc::clone(&brake));
        let judged = tokio::select! {
            biased;
            never = self.pull(&brake, cancel) => match never {},
            judged = burst.try_one() => judged,
        };
        let judged = judged.ok_or(brake.reason().unwrap_or(Skip::Backoff))?;
        spending.charge(&judged);
        self.count(&judged);
        self.tell(step, What::Request(Box::new(judged.clone())));
        Ok(judged)
    }
}
