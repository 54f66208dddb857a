//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
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
    // Linux hands it on to every accepted connection: a chunk of a stream must not wait for the next.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// From now on the kernel drops the first packet of a new connection to this socket, while handshakes that have begun go on.
///
/// Closing a listening socket resets the connections that it had not accepted yet. So a gateway that hands its port over
/// first turns newcomers away like this and accepts who is already on the way; the client's kernel sends the packet
/// again, and that one reaches the gateway that took over.
///
/// # Errors
/// Where the kernel has no socket filters.
pub(super) fn turn_newcomers_away(listener: &TcpListener) -> io::Result<()> {
    // Classic BPF over the TCP header, whose 14th byte has the flags: SYN (2) without ACK (16) is a first packet.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, 0x12),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}
