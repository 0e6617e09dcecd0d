//! Pages, and whole exchanges over a port and a socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{AskError, ask, fetch};
use super::socket::Socket;
use super::*;
use crate::status::report::{Plan, Report};
use crate::store::Health;

fn board() -> Board {
    Board::new(Health::new(
        "etcd",
        vec!["http://192.0.2.1:2379".to_owned()],
    ))
}

async fn status(door: Door, method: Method, path: &str) -> u16 {
    page(&board(), door, &method, path).await.status.as_u16()
}

#[tokio::test]
async fn the_port_answers_as_flannels_and_tells_nothing_else() {
    for (path, expected) in [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/metrics", 200),
        ("/status", 404),
        ("/plan", 404),
        ("/", 404),
    ] {
        assert_eq!(
            status(Door::Port, Method::GET, path).await,
            expected,
            "{path}"
        );
        assert_eq!(
            status(Door::Port, Method::HEAD, path).await,
            expected,
            "{path}"
        );
    }
    assert_eq!(status(Door::Port, Method::POST, "/healthz").await, 405);
    assert_eq!(status(Door::Socket, Method::PUT, "/status").await, 405);
}

async fn over_tcp(request: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, board()));
    // A client that says nothing keeps nobody waiting.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    // A refused client may find the connection reset behind the answer.
    let _ = client.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test]
async fn a_probe_is_answered_and_the_connection_closed() {
    let reply = over_tcp(b"GET /readyz?verbose HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(
        reply.ends_with("flanneld is not ready yet: it has no lease"),
        "{reply}"
    );
    let reply = over_tcp(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.ends_with("\r\n\r\n"),
        "{reply}"
    );
}

#[tokio::test]
async fn nonsense_and_floods_are_refused() {
    let mut flood = b"GET /healthz HTTP/1.1\r\n".to_vec();
    flood.extend(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000));
    for request in [
        &b"\r\n\r\n\xff\xfe\x00 \r\n\r\n"[..],
        b"GET\r\n\r\n",
        &flood,
    ] {
        let reply = over_tcp(request).await;
        assert!(
            reply.starts_with("HTTP/1.1 4") || reply.is_empty(),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn the_socket_tells_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flanneld.sock");
    tokio::spawn(serve(Socket::bind(&path).unwrap(), board()));
    let report: Report = ask(&path, "/status").await.unwrap();
    assert_eq!(report.api_version, crate::status::report::API_VERSION);
    assert_eq!(report.node.store.unwrap().kind, "etcd");
    let plan: Plan = ask(&path, "/plan").await.unwrap();
    assert!(plan.trouble.is_some(), "{plan:?}");
    let (refused, text) = fetch(&path, "/nothing").await.unwrap();
    assert_eq!(refused, 404, "{text:?}");
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_told_from_one_that_cannot_be_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flanneld.sock");
    let absent = ask::<Plan>(&path, "/plan").await.unwrap_err();
    assert!(matches!(absent, AskError::NotRunning(_)), "{absent}");
    drop(Socket::bind(&path).unwrap());
    let dead = ask::<Plan>(&path, "/plan").await.unwrap_err();
    assert!(matches!(dead, AskError::NotRunning(_)), "{dead}");
}
