//! Telling the service manager how far start-up has come (sd_notify(3)): one datagram to the socket that it names.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the node's pod network works. Without a service manager that wants to know, nothing happens.
///
/// # Errors
/// The socket named by `NOTIFY_SOCKET` does not take the message.
pub fn ready() -> io::Result<()> {
    send("READY=1")
}

/// Says that an orderly stop has begun.
///
/// # Errors
/// As [`ready`].
pub fn stopping() -> io::Result<()> {
    send("STOPPING=1")
}

fn send(state: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    // A leading '@' stands for the abstract namespace, whose names begin with a zero byte.
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
