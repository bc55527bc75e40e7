//! A line for each request, as JSON.
//!
//! A disk that stalls, or a pipe that nobody reads, must not stall requests: lines go through a
//! bounded channel to one thread, and when that is full they are dropped and counted. A thread and
//! not a task, because writing a file blocks. Nothing is formatted on the path: what a line is made
//! of is handed over by reference count.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::count::Counter;
use super::event::{AccessLine, RequestEnd};

/// Where lines go, and how many may wait to be written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLogOptions {
    /// A file, which is appended to, or `-` for standard output, which is where containers are read.
    pub path: PathBuf,
    /// Lines that may wait; further ones are dropped. 4096: a disk that stalls for 0.4 s at 10,000
    /// requests a second loses nothing, and lines of 500 bytes take 2 MiB.
    pub buffer: NonZeroUsize,
}

impl Default for AccessLogOptions {
    fn default() -> Self {
        Self { path: PathBuf::from("-"), buffer: NonZeroUsize::MIN.saturating_add(4095) }
    }
}

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the access log {path}; name a file in a directory that is there, or `-`")]
pub struct OpenError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Takes lines and never waits.
pub struct AccessLog {
    to_writer: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// What became of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessLogCounts {
    /// Written, and handed to the operating system at the latest when no more were waiting.
    pub written: u64,
    /// Dropped because too many were waiting.
    pub dropped: u64,
    /// Lost because they could not be written.
    pub failed: u64,
}

/// A line before it is text.
pub(super) struct Record {
    /// When the request began.
    pub(super) time: SystemTime,
    pub(super) end: RequestEnd,
    pub(super) line: Arc<AccessLine>,
    pub(super) cluster: Option<Arc<str>>,
    pub(super) endpoint: Option<Arc<str>>,
}

enum Message {
    Line(Record),
    /// Look at what is shared.
    Wake,
}

#[derive(Default)]
struct Shared {
    written: Counter,
    dropped: Counter,
    failed: Counter,
    reopen: AtomicBool,
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
}

type Sink = Box<dyn Write + Send>;

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be appended to, or there can be no more threads.
    pub fn open(options: &AccessLogOptions) -> Result<Self, OpenError> {
        let path = options.path.clone();
        let wrong = |source| OpenError { path: options.path.clone(), source };
        Self::over(options.buffer, move || sink(&path)).map_err(wrong)
    }

    /// A log over whatever `open` opens, now and at each [`AccessLog::reopen`].
    ///
    /// # Errors
    /// Those of `open`, and of starting a thread.
    pub fn over(
        buffer: NonZeroUsize,
        mut open: impl FnMut() -> io::Result<Sink> + Send + 'static,
    ) -> io::Result<Self> {
        let (to_writer, lines) = sync_channel(buffer.get());
        let shared = Arc::<Shared>::default();
        let out = BufWriter::new(open()?);
        let mut writer = Writer {
            out,
            line: Vec::new(),
            open: Box::new(open),
            shared: shared.clone(),
            complaints: 0,
        };
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&lines, buffer.get()))?;
        Ok(Self { to_writer, shared })
    }

    pub(super) fn write(&self, record: Record) {
        if self.to_writer.try_send(Message::Line(record)).is_err() {
            self.shared.dropped.up();
        }
    }

    /// Closes the file and opens the one that has its name now: for who has moved it away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits until all lines so far are with the operating system; true if they are within `limit`.
    pub async fn flush(&self, limit: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        self.shared.flushes.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        self.wake();
        matches!(tokio::time::timeout(limit, flushed).await, Ok(Ok(())))
    }

    /// What became of lines so far.
    pub fn counts(&self) -> AccessLogCounts {
        let Shared { written, dropped, failed, .. } = &*self.shared;
        AccessLogCounts { written: written.get(), dropped: dropped.get(), failed: failed.get() }
    }

    fn wake(&self) {
        match self.to_writer.try_send(Message::Wake) {
            // Full: it is awake, and looks before it sleeps.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}

fn sink(path: &Path) -> io::Result<Sink> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(OpenOptions::new().create(true).append(true).open(path)?))
}

/// The thread's side.
struct Writer {
    out: BufWriter<Sink>,
    line: Vec<u8>,
    open: Box<dyn FnMut() -> io::Result<Sink> + Send>,
    shared: Arc<Shared>,
    /// Errors so far. They are logged at powers of two: a full disk fails at every line.
    complaints: u64,
}

impl Writer {
    /// Until the last [`AccessLog`] is gone.
    fn run(&mut self, lines: &Receiver<Message>, buffer: usize) {
        while let Ok(message) = lines.recv() {
            self.take(message);
            // Whoever asked for a flush while the channel was full could not wake us, so ask again
            // after each that took something out.
            while self.drain(lines, buffer) {}
        }
    }

    /// Writes what waits and answers the flushes asked for before; true if there are more of them.
    fn drain(&mut self, lines: &Receiver<Message>, buffer: usize) -> bool {
        let flushes = self.take_flushes();
        // All that waited when a flush was asked for is within the channel's bound; without one, a
        // stream of new lines would put the answer off for ever.
        for _ in 0..=buffer {
            match lines.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if let Err(error) = self.out.flush() {
            self.complain(&error);
        }
        for done in flushes {
            // Who asked may have stopped waiting.
            let _ = done.send(());
        }
        !self.flushes().is_empty()
    }

    fn flushes(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.shared.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_flushes(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *self.flushes())
    }

    fn take(&mut self, message: Message) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.reopen();
        }
        let Message::Line(record) = message else { return };
        match self.write(&record) {
            Ok(()) => self.shared.written.up(),
            Err(error) => {
                self.shared.failed.up();
                self.complain(&error);
            }
        }
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(sink) => {
                let mut old = std::mem::replace(&mut self.out, BufWriter::new(sink));
                if let Err(error) = old.flush() {
                    self.complain(&error);
                }
            }
            // The old file is better than none.
            Err(error) => self.complain(&error),
        }
    }

    /// A line is made whole first: one that does not fit must not leave its beginning behind.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, &JsonLine::of(record))?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn complain(&mut self, error: &io::Error) {
        self.complaints += 1;
        if self.complaints.is_power_of_two() {
            tracing::warn!(%error, times = self.complaints, "the access log cannot be written");
        }
    }
}

/// The fields of a line, in their order.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    status: Option<u16>,
    outcome: &'static str,
    flags: Option<&'static str>,
    duration_ms: f64,
    attempts: u32,
    cluster: Option<&'a str>,
    endpoint: Option<&'a str>,
    peer: Option<std::net::SocketAddr>,
    trace_id: Option<&'a str>,
    bytes: u64,
}

impl<'a> JsonLine<'a> {
    fn of(record: &'a Record) -> Self {
        let Record { time, end, line, cluster, endpoint } = record;
        Self {
            time: humantime::format_rfc3339_millis(*time).to_string(),
            method: &line.method,
            host: &line.host,
            path: &line.path,
            status: end.status.map(|status| status.as_u16()),
            outcome: end.outcome.name(),
            flags: end.outcome.flag().map(|flag| flag.letters()),
            // To the microsecond, which is what the clocks are good for.
            duration_ms: (end.elapsed.as_secs_f64() * 1e6).round() / 1e3,
            attempts: end.attempts,
            cluster: cluster.as_deref(),
            endpoint: endpoint.as_deref(),
            peer: line.peer,
            trace_id: line.trace_id.as_deref(),
            bytes: line.bytes_sent,
        }
    }
}
