//! Spawning tasks whose panics are not lost.
//!
//! A panic in a spawned task ends the task and, unless somebody asks, nothing else: the connection
//! just never answers. Both worlds ask here.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Spawns a task on the current runtime; if it panics, that is logged and counted.
pub fn spawn<F>(name: &'static str, task: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            note_panic(name);
        }
    });
}

/// Logs and counts a panic that was caught elsewhere.
pub fn note_panic(name: &'static str) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    tracing::error!(task = name, "a task panicked; this is a defect");
}

/// Tasks of this process that have panicked.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted() {
        let before = panics();
        spawn("test", async { panic!("on purpose") });
        while panics() == before {
            tokio::task::yield_now().await;
        }
    }
}
