//! Sockets: listening, dialling, and the reader and writer of each connection.
//!
//! Owns every byte between the operating system and a [`Message`](crate::wire::Message), and how
//! many of them may be in memory. What a message means is the engine's business.

mod connection;
mod dial;
mod discovery;
mod lan;
mod listener;
mod mapping;
mod tls;
mod unfinished;

pub(crate) use connection::{Charge, Connection, FromPeer, ReceiveBudget};
pub(crate) use dial::dial;
pub use discovery::Bootstrap;
pub(crate) use discovery::{Desk, Mainline, attend, free_port};
pub(crate) use lan::{Mdns, Myself, stay};
pub(crate) use listener::{accept_loop, bind};
pub(crate) use mapping::{HomeRouter, keep_mapped};
pub(crate) use tls::{HandshakeError, Identity, generate_key};

use socket2::{SockRef, TcpKeepalive};
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes that the kernel takes ahead of what it can send.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 256 << 10;

/// Sets what every connection has: no waiting for more to write, and probes that find out within
/// two minutes that the other side's machine is gone.
pub(crate) fn configure(stream: &TcpStream) {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let socket = SockRef::from(stream);
    // A socket that died meanwhile says so at its first read.
    let _ = socket.set_tcp_nodelay(true);
    // What the kernel has not sent yet cannot be overtaken by a message.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
    let _ = socket.set_tcp_keepalive(&keepalive);
}
