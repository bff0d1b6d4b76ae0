//! Listening and accepting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Connections that the system may hold for us between two accepts. A burst past it is refused by
/// the system, not by us; 1024 is what Linux cut longer values to for a decade.
const BACKLOG: i32 = 1024;

/// Binds the listening socket: all interfaces, IPv6 and IPv4 on one socket, where no address is
/// asked for. Answers the socket and its address with the real port.
pub(crate) fn bind(address: Option<IpAddr>, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let bound = match address {
        Some(address) => bind_to(SocketAddr::new(address, port)),
        None => match bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
            // A machine without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                bind_to((Ipv4Addr::UNSPECIFIED, port).into())
            }
            bound => bound,
        },
    }?;
    let listener = TcpListener::from_std(bound.into())?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

fn bind_to(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Without it a port stays taken for a minute after a node with connections ended.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Accepts for ever and hands on what comes. Ends when nobody takes it any more. Cancel-safe: a
/// connection is either in the listener's queue or in the channel.
pub(crate) async fn accept_loop(listener: TcpListener, accepted: mpsc::Sender<(TcpStream, SocketAddr)>) {
    let mut in_a_row = 0_u32;
    // Reserved first, so that no connection is taken that there is no room for.
    while let Ok(place) = accepted.reserve().await {
        match listener.accept().await {
            Ok((stream, addr)) => {
                in_a_row = 0;
                place.send((stream, canonical(addr)));
            }
            Err(error) => {
                // Either the connection is gone already, or descriptors have run out: then it
                // helps to wait until others end.
                in_a_row = in_a_row.saturating_add(1);
                if in_a_row == 1 {
                    tracing::warn!("could not accept a connection, and tries on: {error}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// An IPv4 peer on our IPv6 socket is shown, and named, as what it is.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
