//! A client that does nothing but send and receive: what the kernel alone asks of a load generator.
//!
//! `.ci/loadgen-cost` puts it beside loadgen and wrk. It takes any bytes for a whole answer, keeps no
//! time and counts nothing but answers: not for any other use.

use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::epoll;

#[allow(clippy::disallowed_methods, reason = "this measures a machine, and is no simulation")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: bare_client ADDRESS CONNECTIONS SECONDS");
    let (address, connections, seconds) = (next()?, next()?.parse()?, next()?.parse()?);
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n");

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut streams: Vec<TcpStream> = Vec::with_capacity(connections);
    for place in 0..connections {
        let stream = TcpStream::connect(&address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&poll, stream.as_fd(), data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        streams.push(stream);
    }
    for mut stream in &streams {
        stream.write_all(request.as_bytes())?;
    }

    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut answers, mut buffer) = (0_u64, [0; 16 * 1024]);
    let mut events = Vec::with_capacity(connections);
    while Instant::now() < end {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let mut stream = &streams[event.data.u64() as usize];
            match stream.read(&mut buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(_) => {
                    answers += 1;
                    stream.write_all(request.as_bytes())?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    writeln!(std::io::stdout(), "{answers} requests in {seconds}s")?;
    Ok(())
}
