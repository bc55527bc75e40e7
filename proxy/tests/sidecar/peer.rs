//! One end of a connection, spoken by hand.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Longer than anything here takes in simulated time: a paused clock would wait for ever where
/// nothing will happen any more.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(7200);

/// A caller or an upstream that sends and sees raw bytes.
pub(crate) struct Peer<S> {
    io: S,
    /// Read and not yet taken.
    read: Vec<u8>,
}

/// A message as it was on the wire.
#[derive(Debug)]
pub(crate) struct Message {
    /// First line and fields, with the empty line.
    pub(crate) head: String,
    /// Without its framing.
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        status(&self.head)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn flag(&self) -> &str {
        self.field("x-sidecar-flags").unwrap_or("none")
    }
}

/// The status of a response head.
pub(crate) fn status(head: &str) -> u16 {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no response: {head:?}"))
}

/// A field's value; panics when there is more than one.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().skip(1).filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    let first = values.next();
    assert_eq!(values.next(), None, "more than one {name} in {head:?}");
    first
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other side still reads");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }

    /// Closes the sending half.
    pub(crate) async fn finish(&mut self) {
        self.io.shutdown().await.expect("the other side is still there");
    }

    /// A message head, with its empty line.
    pub(crate) async fn head(&mut self) -> String {
        self.try_head().await.unwrap_or_else(|left| panic!("closed before a head; had {left:?}"))
    }

    /// A message head, or what there was before the connection was closed.
    pub(crate) async fn try_head(&mut self) -> Result<String, String> {
        match self.take_until(b"\r\n\r\n").await {
            Some(head) => Ok(head),
            None => Err(String::from_utf8_lossy(&self.read).into_owned()),
        }
    }

    /// A whole message: one without a length and without chunks has no body.
    pub(crate) async fn message(&mut self) -> Message {
        self.try_message().await.unwrap_or_else(|left| panic!("incomplete message: {left:?}"))
    }

    /// A whole message, or what there was before the connection was closed.
    pub(crate) async fn try_message(&mut self) -> Result<Message, String> {
        let head = self.try_head().await?;
        let length = field(&head, "content-length").map(|n| n.parse().expect("a length"));
        let body = match length {
            Some(length) => self.take(length).await,
            None if field(&head, "transfer-encoding").is_some() => self.chunks().await,
            None => Some(String::new()),
        };
        match body {
            Some(body) => Ok(Message { head, body }),
            None => Err(format!("{head}{}", String::from_utf8_lossy(&self.read))),
        }
    }

    /// The content of all chunks; trailers are appended as they are.
    async fn chunks(&mut self) -> Option<String> {
        let mut body = String::new();
        loop {
            let size = self.take_until(b"\r\n").await?;
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
            if size == 0 {
                loop {
                    match self.take_until(b"\r\n").await?.as_str() {
                        "\r\n" => return Some(body),
                        trailer => body.push_str(trailer),
                    }
                }
            }
            body.push_str(self.take(size + 2).await?.strip_suffix("\r\n").expect("a chunk's end"));
        }
    }

    /// Everything up to the close; a reset is one too.
    pub(crate) async fn rest(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Waits for the close and sees to it that nothing came before.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.rest().await, "", "expected a close and nothing before it");
    }

    /// Drops the bytes that are there, and says how many; none when the connection is closed.
    pub(crate) async fn discard(&mut self) -> usize {
        if self.read.is_empty() {
            self.fill().await;
        }
        std::mem::take(&mut self.read).len()
    }

    /// This many bytes, if they come.
    pub(crate) async fn take(&mut self, length: usize) -> Option<String> {
        while self.read.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.split(length))
    }

    async fn take_until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Some(self.split(at + end.len()));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    fn split(&mut self, at: usize) -> String {
        let rest = self.read.split_off(at);
        String::from_utf8(std::mem::replace(&mut self.read, rest)).expect("text")
    }

    async fn fill(&mut self) -> bool {
        self.read.reserve(16 * 1024);
        let read = timeout(FOR_EVER, self.io.read_buf(&mut self.read)).await;
        read.expect("waited for ever").unwrap_or(0) > 0
    }
}
