//! Connecting to what a user typed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::listener::canonical;
use crate::engine::{Code, Failure, HostPort};

/// How long all addresses of a name have together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one address has, so that one that swallows packets leaves time for the next.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

/// Connects to the first address of the name that answers.
pub(crate) async fn dial(target: &HostPort) -> Result<(TcpStream, SocketAddr), Failure> {
    let failure = |why: String| Failure::new(Code::Unreachable, format!("cannot connect to {target}: {why}"));
    match timeout(DIAL_TIMEOUT, dial_each(target)).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => Err(failure(explain(&error))),
        Err(_) => Err(failure(format!("no answer within {} seconds", DIAL_TIMEOUT.as_secs()))),
    }
}

async fn dial_each(target: &HostPort) -> io::Result<(TcpStream, SocketAddr)> {
    let addrs = lookup_host((target.host(), target.port())).await?;
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for addr in addrs {
        result = match timeout(ADDRESS_TIMEOUT, TcpStream::connect(addr)).await {
            Ok(connected) => connected.map(|stream| (stream, canonical(addr))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if result.is_ok() {
            break;
        }
    }
    result
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there; is p2p running with that port?".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}
