//! What flannel answers on `--healthz-port`: `/healthz` as long as the process runs, `/readyz` once the node's network works.
//!
//! Just as much of HTTP as a probe needs: the first line of a request, one answer, and the connection is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many clients are served at a time; whoever comes then waits.
const CLIENTS: usize = 32;
/// More than this is no request of a probe.
const LONGEST: usize = 8192;

/// Opens the port.
///
/// # Errors
/// The system's; the address may be in use.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers for ever.
pub async fn serve(listener: TcpListener, ready: watch::Receiver<bool>) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&clients).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, _)) => {
                let ready = ready.clone();
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(PATIENCE, answer(client, &ready)).await;
                    if !matches!(answered, Ok(Ok(()))) {
                        debug!("a health probe went away before it was answered");
                    }
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: some time may help.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut client: TcpStream, ready: &watch::Receiver<bool>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < LONGEST {
        if client.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let reply = reply(&request, *ready.borrow());
    client.write_all(reply.as_bytes()).await?;
    client.shutdown().await
}

/// The whole answer to a request.
fn reply(request: &[u8], ready: bool) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let (status, text) = match (method, path) {
        ("GET" | "HEAD", "/healthz") => ("200 OK", "flanneld is running"),
        ("GET" | "HEAD", "/readyz") if ready => ("200 OK", "flanneld is ready"),
        ("GET" | "HEAD", "/readyz") => ("503 Service Unavailable", "flanneld is not ready yet"),
        ("GET" | "HEAD", _) => ("404 Not Found", "only /healthz and /readyz are here"),
        _ => ("405 Method Not Allowed", "only GET is understood"),
    };
    let length = text.len();
    let body = if method == "HEAD" { "" } else { text };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str, ready: bool) -> String {
        let reply = reply(request.as_bytes(), ready);
        reply.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn answers_are_flannels() {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&get("/healthz"), false), "200");
        assert_eq!(status(&get("/readyz"), false), "503");
        assert_eq!(status(&get("/readyz?verbose"), true), "200");
        assert_eq!(status(&get("/"), true), "404");
        assert_eq!(status("POST /healthz HTTP/1.1\r\n\r\n", true), "405");
        assert!(
            reply(get("/readyz").as_bytes(), false).ends_with("\r\n\r\nflanneld is not ready yet")
        );
        assert!(reply(b"HEAD /healthz HTTP/1.1\r\n\r\n", true).ends_with("\r\n\r\n"));
    }

    #[test]
    fn nonsense_is_answered_too() {
        for nonsense in [&b""[..], b"\r\n\r\n", b"\xff\xfe\x00", b"GET"] {
            assert!(
                reply(nonsense, true).starts_with("HTTP/1.1 4"),
                "{nonsense:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_probe_sees_the_daemon_become_ready() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, news) = watch::channel(false);
        tokio::spawn(serve(listener, news));
        for (is_ready, expected) in [(false, "503"), (true, "200")] {
            ready.send_replace(is_ready);
            // A client that says nothing keeps nobody waiting.
            let _silent = TcpStream::connect(address).await.unwrap();
            let mut probe = TcpStream::connect(address).await.unwrap();
            let request = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
            probe.write_all(request).await.unwrap();
            let mut reply = String::new();
            probe.read_to_string(&mut reply).await.unwrap();
            assert_eq!(reply.split(' ').nth(1), Some(expected), "{reply}");
        }
    }
}
