//! A TCP connection between client and server that can be cut, silenced and mended.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards TCP connections to a server while it is whole.
#[derive(Debug)]
pub struct Cable {
    port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    Silent,
}

impl Cable {
    /// A cable to a port of this machine.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn to(server: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("listening for clients")?;
        let port = listener.local_addr()?.port();
        let (state, _) = watch::channel(State::Whole);
        let task = tokio::spawn(serve(listener, server, state.clone()));
        Ok(Self { port, state, task })
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends all connections, and new ones at once.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Leaves connections open but carries nothing, as a partition does.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Carries again.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.send_replace(State::Cut);
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, server: u16, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if *state.borrow() == State::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
            continue;
        };
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        tokio::spawn(carry(client_in, server_out, state.subscribe()));
        tokio::spawn(carry(server_in, client_out, state.subscribe()));
    }
}

/// Carries bytes one way until the cable is cut or an end closes.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut cut = state.clone();
    let work = async {
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if state
                .wait_for(|state| *state != State::Silent)
                .await
                .is_err()
                || to.write_all(&buffer[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = cut.wait_for(|state| *state == State::Cut) => {}
    }
}
