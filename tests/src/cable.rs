//! A TCP connection between client and server that can be cut, silenced and mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    mode: Mode,
    /// Connections of earlier generations carry nothing any more.
    generation: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
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
        let (state, _) = watch::channel(State::default());
        let connections = Arc::default();
        let task = tokio::spawn(serve(
            listener,
            server,
            state.clone(),
            Arc::clone(&connections),
        ));
        Ok(Self {
            port,
            state,
            connections,
            task,
        })
    }

    /// The port where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections clients have made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends all connections, and new ones at once.
    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// Leaves connections open but carries nothing, as a partition does.
    pub fn silence(&self) {
        self.set(Mode::Silent);
    }

    /// Carries again.
    pub fn mend(&self) {
        self.set(Mode::Whole);
    }

    /// Carries nothing more of the connections that there are, but new ones, as a firewall does that has lost its memory. Neither side is told.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.set(Mode::Cut);
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    server: u16,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let State { mode, generation } = *state.borrow();
        if mode == Mode::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
            continue;
        };
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        for (from, to) in [(client_in, server_out), (server_in, client_out)] {
            tokio::spawn(carry(from, to, generation, state.subscribe()));
        }
    }
}

/// Carries bytes one way until the cable is cut or an end closes.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    generation: u32,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut cut = state.clone();
    let carries = |state: &State| state.mode != Mode::Silent && state.generation == generation;
    let work = async {
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if state.wait_for(carries).await.is_err()
                || to.write_all(&buffer[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = cut.wait_for(|state| state.mode == Mode::Cut) => {}
    }
}
