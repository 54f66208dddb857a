//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The kernel holds so many connections that were not accepted yet.
const BACKLOG: i32 = 4096;

/// A listening socket. The port may be shared with another process of the same user (`SO_REUSEPORT`), so that a new
/// gateway can take over from one that drains without refusing anybody.
///
/// # Errors
/// When the address is taken by somebody else or not of this machine.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
