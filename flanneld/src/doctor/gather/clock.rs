//! The store's clock: what the daemon heard of it, or what the store's own pages say.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use crate::http::date;
use crate::status::report::Report;

/// How far the store's clock is ahead of this host's in milliseconds.
///
/// # Errors
/// Why it is not known, in words that follow a colon.
pub(super) fn compare(report: Option<&Report>) -> Result<i64, String> {
    let store = report.and_then(|report| report.node.store.as_ref());
    let store = store.ok_or("only the daemon knows the store")?;
    if let Some(ahead) = store.clock_ahead {
        return Ok(ahead);
    }
    if store.healthy == Some(false) {
        return Err("it does not answer".to_owned());
    }
    // What etcd answers the daemon has no time; its pages do.
    let mut plain = store.endpoints.iter().filter_map(|endpoint| {
        let rest = endpoint.strip_prefix("http://")?;
        Some(rest.trim_end_matches('/'))
    });
    let Some(authority) = plain.next() else {
        return Err("it says the time only to who has its certificates".to_owned());
    };
    let said = ask(authority).map_err(|error| format!("{authority} says no time: {error}"))?;
    let ours = SystemTime::now();
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Ok(match said.duration_since(ours) {
        Ok(ahead) => millis(ahead),
        Err(behind) => -millis(behind.duration()),
    })
}

fn ask(authority: &str) -> io::Result<SystemTime> {
    let address = authority.to_socket_addrs()?.next();
    let address = address.ok_or(io::ErrorKind::NotFound)?;
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let request =
        format!("GET /version HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    connection.take(LARGEST).read_to_end(&mut head)?;
    date::of_head(&head).ok_or_else(|| io::Error::other("no Date in the answer"))
}

/// For connecting, and for the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Many times an answer.
const LARGEST: u64 = 16 << 10;
