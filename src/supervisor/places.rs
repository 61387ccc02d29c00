//! The places for requests under way, over all probes.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore};

/// So many requests may be under way at once.
#[derive(Debug)]
pub(super) struct Places {
    semaphore: Arc<Semaphore>,
    size: u32,
}

impl Places {
    pub(super) fn new(size: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(size as usize)),
            size,
        }
    }

    pub(super) fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// Changes how many there are. Places that are taken away are so when nobody has them any more; who waits for
    /// one after that waits until then.
    pub(super) fn resize(&mut self, size: u32, runtime: &Handle) {
        if size >= self.size {
            self.semaphore.add_permits((size - self.size) as usize);
        } else {
            let taken = Arc::clone(&self.semaphore).acquire_many_owned(self.size - size);
            runtime.spawn(async move {
                // The semaphore is never closed.
                if let Ok(taken) = taken.await {
                    taken.forget();
                }
            });
        }
        self.size = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_come_and_go() {
        let mut places = Places::new(4);
        let runtime = Handle::current();
        let taken = Arc::clone(places.semaphore())
            .acquire_many_owned(3)
            .await
            .unwrap();
        places.resize(2, &runtime);
        tokio::task::yield_now().await;
        // One was free and is taken away; the other one is owed.
        assert_eq!(places.semaphore().available_permits(), 0);
        drop(taken);
        let both = Arc::clone(places.semaphore())
            .acquire_many_owned(2)
            .await
            .unwrap();
        assert_eq!(places.semaphore().available_permits(), 0);
        places.resize(5, &runtime);
        assert_eq!(places.semaphore().available_permits(), 3);
        drop(both);
        assert_eq!(places.semaphore().available_permits(), 5);
    }
}
