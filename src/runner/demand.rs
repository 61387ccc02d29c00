//! A round that somebody asks for and waits for, beside those of the schedule or without one.

use std::{future::pending, pin::pin, sync::Arc};

use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Event, Runner, Watched};
use crate::{outcome::Skip, pause::Holds};

impl Runner {
    /// A runner of one round beside this one's, which is over at `deadline`. What happens is told of `steps`, which are
    /// those of this one with metrics of their own. Turn, places, budgets and guards are the same, and it ends with this
    /// one.
    #[must_use]
    pub fn beside(
        &self,
        steps: Vec<Arc<Watched>>,
        events: UnboundedSender<Event>,
        deadline: Instant,
    ) -> Self {
        Self {
            probe: Arc::clone(&self.probe),
            target: Arc::clone(&self.target),
            access: Arc::clone(&self.access),
            turn: self.turn.clone(),
            queue: Arc::clone(&self.queue),
            places: Arc::clone(&self.places),
            steps,
            guarded: Arc::clone(&self.guarded),
            baselines: self.baselines.clone(),
            sizing: Arc::clone(&self.sizing),
            asked: Arc::clone(&self.asked),
            lag: self.lag.clone(),
            blocking: self.blocking.clone(),
            events,
            replica: self.replica,
            pause: self.pause.clone(),
            drain: self.drain.child_token(),
            abort: self.abort.child_token(),
            deadline: Some(deadline),
        }
    }

    /// Fires the round, unless the kill switch is on. It is cut short at `deadline`, by the kill switch, and when whoever
    /// asked for it has `gone`.
    pub async fn fire_until(self, deadline: Instant, gone: CancellationToken) {
        let over = async {
            tokio::select! {
                () = gone.cancelled() => {}
                () = sleep_until(deadline) => {}
            }
        };
        self.fire_now(Some(deadline), over).await;
    }

    /// Fires one burst of each step now, however long it waits for its turn and its places, unless the kill switch is
    /// on, which also cuts it short.
    pub async fn fire_once(self: Arc<Self>) {
        self.fire_now(None, pending()).await;
    }

    /// Fires a round, which waits for its turn until `latest`, and is cut short when it is `over`.
    async fn fire_now(&self, latest: Option<Instant>, over: impl Future<Output = ()>) {
        // The file may have come since it was looked for last.
        self.pause.look(&self.blocking).await;
        let mut paused = self.pause.watch();
        if self.pause.is_on() {
            return self.skip_round(Skip::Paused, 1);
        }
        let cancel = self.abort.child_token();
        let mut round = pin!(async {
            let turn = match latest {
                None => self.turn(None, &cancel).await.map(|turn| (None, turn)),
                // One at a time: those of the schedule that wait meanwhile come before the next.
                Some(_) => match self.wait(&self.queue, 1, latest, Skip::TargetBusy, &cancel).await {
                    Ok(queued) => self.turn(latest, &cancel).await.map(|turn| (Some(queued), turn)),
                    Err(skip) => Err(skip),
                },
            };
            match turn {
                Ok((_queued, turn)) => self.round(Instant::now(), turn, None, &cancel).await,
                Err(skip) => self.skip_round(skip, 1),
            }
        });
        tokio::select! {
            biased;
            () = &mut round => return,
            () = over => {}
            _ = paused.wait_for(Holds::is_any) => {}
        }
        cancel.cancel();
        round.await;
    }
}
