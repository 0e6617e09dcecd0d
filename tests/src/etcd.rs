//! A real etcd server for one test: own ports, own directory, never left behind.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, ConnectOptions};
use tempfile::TempDir;

/// Runs etcd until a line comes from the test; then the test goes on to use or remove the directory. When standard input ends
/// without one, the test was killed: then etcd is ended and the directory, the first argument, removed. The same is done for the
/// API server.
pub(crate) const WATCHDOG: &str = r#"
directory=$1
shift
exec 3<&0
"$@" 3<&- </dev/null & server=$!
{
    if read -r _ <&3; then
        kill -KILL "$server"
    else
        trap '' TERM
        kill -KILL "$server"
        while kill -0 "$server"; do sleep 0.05; done
        rm -rf "$directory"
    fi
} 2>/dev/null & reader=$!
exec 3<&-
wait "$server"
kill "$reader" 2>/dev/null
"#;

/// How often another pair of ports is tried when etcd ends at once, as it does when somebody took one of them meanwhile.
const PORT_TRIES: usize = 5;

/// What may differ between servers.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// Further arguments for etcd.
    pub arguments: Vec<String>,
    /// Serve https with this certificate and key (PEM files).
    pub tls: Option<(String, String)>,
}

/// One etcd server. Dropping it stops etcd and removes its data.
#[derive(Debug)]
pub struct Etcd {
    options: EtcdOptions,
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    /// The ports may still change: nobody was told them by a running server.
    never_ran: bool,
    /// Its name, and the names and peers' URLs of the cluster; alone without.
    member: Option<(String, String)>,
    watchdog: Option<Child>,
}

impl Etcd {
    /// Starts an etcd and waits until it answers.
    pub async fn start() -> Result<Self> {
        let mut etcd = Self::prepare(EtcdOptions::default())?;
        etcd.up().await?;
        Ok(etcd)
    }

    /// Chooses ports and a directory without starting anything: the server is absent until [`Etcd::up`].
    pub fn prepare(options: EtcdOptions) -> Result<Self> {
        // In memory where possible: etcd syncs its log at every write.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            TempDir::with_prefix_in("loden-etcd-", memory)
        } else {
            TempDir::with_prefix("loden-etcd-")
        };
        Ok(Self {
            options,
            directory: directory.context("making a directory for etcd")?,
            client_port: free_port()?,
            peer_port: free_port()?,
            never_ran: true,
            member: None,
            watchdog: None,
        })
    }

    /// Makes it a member of a cluster of several; from now on its ports stay.
    pub(crate) fn join(&mut self, name: &str, cluster: &str) {
        self.member = Some((name.to_owned(), cluster.to_owned()));
        self.never_ran = false;
    }

    /// Starts the server, again if it was killed, with the data it had, and waits until it answers.
    ///
    /// The very first start may change the ports; a restart keeps them.
    pub async fn up(&mut self) -> Result<()> {
        for _ in 0..PORT_TRIES {
            self.spawn()?;
            if self.wait_until_ready().await? {
                self.never_ran = false;
                return Ok(());
            }
            if self.never_ran {
                self.client_port = free_port()?;
                self.peer_port = free_port()?;
                let _ = std::fs::remove_dir_all(self.data());
            }
        }
        bail!("etcd does not start: {}", self.log());
    }

    /// Ends the server as a power cut would; what it stored stays.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut watchdog) = self.watchdog.take() else {
            return Ok(());
        };
        if let Some(mut line) = watchdog.stdin.take() {
            line.write_all(b"stop\n").context("stopping etcd")?;
        }
        watchdog.wait().context("waiting for etcd's end")?;
        Ok(())
    }

    /// Removes what the server stored; it must not be running.
    pub fn wipe(&self) -> Result<()> {
        ensure!(self.watchdog.is_none(), "etcd is running");
        std::fs::remove_dir_all(self.data()).context("removing etcd's data")
    }

    /// The URL clients use.
    pub fn endpoint(&self) -> String {
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    /// The port clients use.
    pub fn port(&self) -> u16 {
        self.client_port
    }

    /// Where the server keeps its data and its log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether its log has said this since it was started last.
    pub fn says(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// A client without user or TLS.
    pub async fn client(&self) -> Result<Client> {
        let options = ConnectOptions::new().with_timeout(Duration::from_secs(10));
        let client = Client::connect([self.endpoint()], Some(options)).await?;
        Ok(client)
    }

    /// Runs etcdctl against this server and returns what it prints.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(self.endpoint())
            .args(arguments)
            .output()
            .context("running etcdctl (Debian: package etcd-client)")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "etcdctl {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Puts what [`Etcd::save`] stored in the place of the data; the server must not be running.
    pub fn restore(&self, backup: &Path) -> Result<()> {
        self.wipe()?;
        let (name, cluster) = self.membership();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(backup)
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", &name, "--initial-cluster", &cluster])
            .args(["--initial-advertise-peer-urls", &self.peer_url()])
            .output()
            .context("running etcdctl (Debian: package etcd-client)")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "restoring the backup: {errors}");
        Ok(())
    }

    /// Makes a backup and returns its file.
    pub fn save(&self) -> Result<std::path::PathBuf> {
        let file = self.directory.path().join("backup");
        let text = file.to_str().context("the path is no text")?;
        self.etcdctl(&["snapshot", "save", text])?;
        Ok(file)
    }

    /// The URL other members use.
    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn membership(&self) -> (String, String) {
        self.member
            .clone()
            .unwrap_or_else(|| ("test".to_owned(), format!("test={}", self.peer_url())))
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn spawn(&mut self) -> Result<()> {
        let log = File::create(self.directory.path().join("log")).context("making etcd's log")?;
        let client_url = self.endpoint();
        let peer_url = self.peer_url();
        let (name, cluster) = self.membership();
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh"]);
        command.arg(self.directory.path());
        command.args(["etcd", "--name", &name]);
        command.arg("--data-dir").arg(self.data());
        command.args(["--listen-client-urls", &client_url]);
        command.args(["--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url]);
        command.args(["--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &cluster]);
        // One member elects itself at once, and the shortest time to live it grants falls to one second.
        command.args(["--heartbeat-interval=10", "--election-timeout=100"]);
        command.args(["--logger=zap", "--log-level=info"]);
        if let Some((cert, key)) = &self.options.tls {
            command.args(["--cert-file", cert, "--key-file", key]);
        }
        command.args(&self.options.arguments);
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting etcd through sh")?;
        self.watchdog = Some(child);
        Ok(())
    }

    /// True when the server serves its clients, false when it ended. Read from its log, for a server with TLS cannot be asked
    /// without certificates, and on the port somebody else may listen.
    async fn wait_until_ready(&mut self) -> Result<bool> {
        let deadline = Instant::now() + crate::PATIENCE;
        while Instant::now() < deadline {
            let Some(watchdog) = &mut self.watchdog else {
                return Ok(false);
            };
            if watchdog.try_wait()?.is_some() {
                self.watchdog = None;
                return Ok(false);
            }
            if self.log_says_ready() {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("etcd does not get ready: {}", self.log());
    }

    fn log_says_ready(&self) -> bool {
        self.says("serving client traffic")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log"))
            .unwrap_or_else(|error| format!("no log: {error}"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // The data directory goes after this, so the server must have ended.
        let _ = self.kill();
    }
}

/// A port that nobody uses now and that the kernel does not give to outgoing connections either, so that a restarted server
/// finds it free.
pub(crate) fn free_port() -> Result<u16> {
    let first_given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(32_768)
        .max(12_000);
    for _ in 0..200 {
        let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
        let span = u64::from(first_given - 10_000);
        let port = 10_000 + u16::try_from(drawn % span)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free TCP port between 10000 and {first_given}");
}
