//! A task that dies of a panic, which is a defect of ours, begins anew: the other tasks go on, and so does this one.

use std::time::Duration;

use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::metrics::Metrics;

/// How long a task that died is left alone: at first, and at most by doubling.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// A task that lived for this long did not die of what it died of before.
const LASTING: Duration = Duration::from_mins(10);

/// Runs `work` on this runtime to its end, anew after each panic until `stop`. Dropping this ends it.
pub async fn keep_alive<W>(
    task: &str,
    metrics: &Metrics,
    stop: &CancellationToken,
    mut work: impl FnMut() -> W,
) where
    W: Future<Output = ()> + Send + 'static,
{
    let mut wait = FIRST;
    loop {
        let begun = Instant::now();
        match AbortOnDropHandle::new(tokio::spawn(work())).await {
            Err(error) if error.is_panic() => {
                metrics.task_restarted();
                if begun.elapsed() >= LASTING {
                    wait = FIRST;
                }
                tracing::error!(task, %error, wait_seconds = wait.as_secs(), "a task died, which is a defect of this program; it begins anew");
            }
            // It has ended, or its runtime has.
            Ok(()) | Err(_) => return,
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST);
    }
}

/// The same as a task of its own on `runtime`, until it is aborted.
pub fn spawn<W>(
    runtime: &Handle,
    task: &'static str,
    metrics: &Metrics,
    work: impl FnMut() -> W + Send + 'static,
) -> JoinHandle<()>
where
    W: Future<Output = ()> + Send + 'static,
{
    let metrics = metrics.clone();
    runtime.spawn(async move { keep_alive(task, &metrics, &CancellationToken::new(), work).await })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;
    use crate::{config::plan::Exposition, metrics::Format};

    /// Metrics, and how many restarts they have counted.
    fn counting() -> (Metrics, impl Fn() -> u64) {
        let metrics = Metrics::new(&[], &Exposition::default());
        let told = metrics.clone();
        let restarts = move || {
            let text = String::from_utf8(told.render(Format::Text)).unwrap();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("llm_probe_exporter_task_restarts_total "));
            line.unwrap().parse().unwrap()
        };
        (metrics, restarts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_begins_anew_ever_more_slowly_and_is_counted() {
        let (metrics, restarts) = counting();
        let begun = Instant::now();
        let starts = Arc::new(Mutex::new(Vec::new()));
        let work = || {
            let starts = Arc::clone(&starts);
            async move {
                // It also leaves a mutex poisoned behind.
                let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
                starts.push(begun.elapsed().as_secs());
                assert!(starts.len() > 8, "a defect");
            }
        };
        keep_alive("test", &metrics, &CancellationToken::new(), work).await;
        let starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*starts, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(restarts(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lived_long_is_not_left_alone_for_long() {
        let (metrics, _) = counting();
        let begun = Instant::now();
        let mut starts = Vec::new();
        let work = || {
            starts.push(begun.elapsed().as_secs());
            let number = starts.len();
            async move {
                if number == 4 {
                    sleep(LASTING).await;
                }
                assert!(number > 4, "a defect");
            }
        };
        keep_alive("test", &metrics, &CancellationToken::new(), work).await;
        assert_eq!(starts, [0, 1, 3, 7, 7 + LASTING.as_secs() + 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_told_so_and_with_its_handle() {
        let (metrics, restarts) = counting();
        let stop = CancellationToken::new();
        stop.cancel();
        let dies = || async { panic!("a defect") };
        keep_alive("test", &metrics, &stop, dies).await;
        assert_eq!(restarts(), 1);

        let alive = Arc::new(());
        let held = Arc::downgrade(&alive);
        let waits = move || {
            let alive = Arc::clone(&alive);
            async move {
                std::future::pending::<()>().await;
                drop(alive);
            }
        };
        let kept = tokio::spawn(async move { keep_alive("test", &metrics, &stop, waits).await });
        tokio::task::yield_now().await;
        kept.abort();
        kept.await.unwrap_err();
        tokio::task::yield_now().await;
        assert_eq!(held.strong_count(), 0);
    }
}
