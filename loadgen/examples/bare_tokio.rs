//! A client on tokio that does nothing but send and receive: what the runtime asks of a load generator
//! beside the kernel, when nothing is parsed, timed or counted but answers.
//!
//! `.ci/loadgen-cost` puts it beside loadgen, `bare_client` and wrk. It takes any bytes for a whole
//! answer: not for any other use.

use std::cell::Cell;
use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: bare_tokio ADDRESS CONNECTIONS SECONDS");
    let (address, connections, seconds): (String, usize, u64) =
        (next()?, next()?.parse()?, next()?.parse()?);
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let answers = Cell::new(0_u64);
    let lane = || async {
        let mut stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let mut buffer = [0; 16 * 1024];
        loop {
            stream.write_all(request.as_bytes()).await?;
            if stream.read(&mut buffer).await? == 0 {
                return Ok::<(), std::io::Error>(());
            }
            answers.set(answers.get() + 1);
        }
    };
    let mut lanes: FuturesUnordered<_> = (0..connections).map(|_| lane()).collect();
    if timeout(Duration::from_secs(seconds), lanes.next()).await.is_ok() {
        return Err("the server closed its connections".into());
    }
    writeln!(std::io::stdout(), "{} requests in {seconds}s", answers.get())?;
    Ok(())
}
