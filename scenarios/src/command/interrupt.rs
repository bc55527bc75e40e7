//! Ctrl-C as a question that can be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use super::{INTERRUPTED, say};

/// Becomes true at the first Ctrl-C. The second one ends the process.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen, on a thread of its own.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let raised = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("listening for Ctrl-C")?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if raised.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(i32::from(INTERRUPTED));
                    }
                    say("stopping; what is finished will be reported (Ctrl-C again to quit now)");
                }
            });
        });
        Ok(interrupt)
    }

    /// True once Ctrl-C was pressed.
    pub(super) fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
