//! A real Kubernetes API server on a real etcd, with RBAC, for one test binary; and what the rest of a cluster would do there: the
//! kubelet, the controller manager, people.

mod cluster;
mod program;
pub mod render;
mod token;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::etcd::{Etcd, WATCHDOG, free_port};

pub use cluster::{ACCOUNT, Cluster, NAMESPACE};
pub use program::{Program, Unavailable, api_server};

/// The token of a user who may do everything.
const ADMIN: &str = "admin-token";
/// Who says so, in tokens of service accounts.
const ISSUER: &str = "https://kubernetes.default.svc";
/// Signs the tokens of service accounts.
const KEY: &str = include_str!("../data/tls/service-account-key.pem");
/// Its public half, by which the tokens are known.
const PUBLIC: &str = include_str!("../data/tls/service-account.pem");
/// How long the API server may take to serve. On a loaded machine it takes half a minute.
const START: Duration = Duration::from_secs(180);
/// How often another port is tried.
const PORT_TRIES: usize = 3;

/// One API server. Dropping it stops it and its etcd and removes their data.
pub struct ApiServer {
    program: PathBuf,
    etcd: Etcd,
    directory: TempDir,
    /// Further arguments.
    arguments: Vec<String>,
    /// Where it is reached.
    address: Ipv4Addr,
    port: u16,
    never_ran: bool,
    watchdog: Option<Child>,
}

/// A request as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audited {
    /// The verb of RBAC.
    pub verb: String,
    /// The resource, with the subresource behind a slash.
    pub resource: String,
    /// Whether RBAC let it pass.
    pub allowed: bool,
}

impl ApiServer {
    /// Starts an etcd and an API server on it and waits until it serves.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn start(program: &Path) -> Result<Self> {
        Self::start_at(program, Ipv4Addr::LOCALHOST).await
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn start_with(program: &Path, arguments: &[&str]) -> Result<Self> {
        let arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        Self::begin(program, Ipv4Addr::LOCALHOST, arguments).await
    }

    /// The same, reached under an address of this host.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn start_at(program: &Path, address: Ipv4Addr) -> Result<Self> {
        Self::begin(program, address, Vec::new()).await
    }

    async fn begin(program: &Path, address: Ipv4Addr, arguments: Vec<String>) -> Result<Self> {
        let mut server = Self {
            address,
            arguments,
            program: program.to_path_buf(),
            etcd: Etcd::start().await?,
            directory: TempDir::with_prefix("loden-kube-")?,
            port: free_port()?,
            never_ran: true,
            watchdog: None,
        };
        let tokens = format!("{ADMIN},admin,admin,system:masters\n");
        std::fs::write(server.path("tokens.csv"), tokens)?;
        let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
        std::fs::write(server.path("policy.yaml"), policy)?;
        // Inside a lab the sources may be out of sight.
        std::fs::write(server.path("service-account-key.pem"), KEY)?;
        std::fs::write(server.path("service-account.pem"), PUBLIC)?;
        server.up().await?;
        Ok(server)
    }

    /// Starts it again if it was killed, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn up(&mut self) -> Result<()> {
        for _ in 0..PORT_TRIES {
            self.spawn()?;
            if self.wait_until_ready().await? {
                self.never_ran = false;
                return Ok(());
            }
            if self.never_ran {
                self.port = free_port()?;
            }
        }
        bail!("the API server does not start: {}", self.log());
    }

    /// Ends it as a power cut would. Its etcd goes on.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut watchdog) = self.watchdog.take() else {
            return Ok(());
        };
        if let Some(mut line) = watchdog.stdin.take() {
            line.write_all(b"stop\n")
                .context("stopping the API server")?;
        }
        watchdog
            .wait()
            .context("waiting for the API server's end")?;
        Ok(())
    }

    /// Has etcd forget all former versions of everything, as the API server itself does every five minutes.
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn compact(&self) -> Result<()> {
        let mut client = self.etcd.client().await?;
        let answer = client.get("/", None).await?;
        let revision = answer.header().context("no header came")?.revision();
        client.compact(revision, None).await?;
        Ok(())
    }

    /// The port where it is reached.
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that signed its own.
    pub fn authority(&self) -> PathBuf {
        self.path("certs/apiserver.crt")
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Someone who may do everything.
    ///
    /// # Errors
    /// When there is no certificate yet.
    pub async fn admin(&self) -> Result<Cluster> {
        self.somebody(ADMIN).await
    }

    /// Whoever has this token.
    ///
    /// # Errors
    /// When there is no certificate yet.
    pub async fn somebody(&self, token: &str) -> Result<Cluster> {
        let user = format!("token: {token}");
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig(&user))?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(60));
        Ok(Cluster::new(Client::try_from(config)?))
    }

    /// Writes a kubeconfig file for a user whose token is in this file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_kubeconfig(&self, name: &str, token_file: &Path) -> Result<PathBuf> {
        let path = self.path(name);
        let user = format!("tokenFile: {}", token_file.display());
        std::fs::write(&path, self.kubeconfig(&user))?;
        Ok(path)
    }

    /// Writes the kubeconfig file of someone who may do everything.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_admin_kubeconfig(&self) -> Result<PathBuf> {
        let path = self.path("admin.kubeconfig");
        std::fs::write(&path, self.kubeconfig(&format!("token: {ADMIN}")))?;
        Ok(path)
    }

    /// What a service account asked for, as far as the audit log has been written, for each verb and resource once.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audited(&self, user: &str) -> Result<BTreeSet<Audited>> {
        let entries = self.audit_entries(user)?;
        let audited = |entry: &Value| {
            let object = &entry["objectRef"];
            let resource = object["resource"].as_str()?;
            let sub = object["subresource"].as_str();
            Some(Audited {
                verb: entry["verb"].as_str()?.to_owned(),
                resource: sub.map_or(resource.to_owned(), |sub| format!("{resource}/{sub}")),
                allowed: entry["annotations"]["authorization.k8s.io/decision"] == "allow",
            })
        };
        Ok(entries.iter().filter_map(audited).collect())
    }

    /// The audit log's entries about one user.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_entries(&self, user: &str) -> Result<Vec<Value>> {
        let log = std::fs::read_to_string(self.path("audit.log"))?;
        // The last line may not be whole yet.
        let entries = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(entries
            .filter(|entry| entry["user"]["username"] == user)
            .collect())
    }

    fn kubeconfig(&self, user: &str) -> String {
        let (url, ca) = (self.url(), self.authority());
        let ca = ca.display();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"{url}\", certificate-authority: \"{ca}\"}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        )
    }

    fn spawn(&mut self) -> Result<()> {
        let log = File::create(self.path("log"))?;
        let file = |name: &str| self.path(name).display().to_string();
        let (key, public) = (file("service-account-key.pem"), file("service-account.pem"));
        // It refuses to advertise a loopback address; nobody uses this one.
        let advertised = match self.address {
            Ipv4Addr::LOCALHOST => Ipv4Addr::new(192, 0, 2, 1),
            address => address,
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHDOG, "sh"])
            .arg(self.directory.path())
            .arg(&self.program)
            .arg(format!("--etcd-servers={}", self.etcd.endpoint()))
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--bind-address={}", self.address))
            .arg(format!("--advertise-address={advertised}"))
            .arg(format!("--cert-dir={}", file("certs")))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .arg(format!("--audit-policy-file={}", file("policy.yaml")))
            .arg(format!("--audit-log-path={}", file("audit.log")))
            .arg(format!("--service-account-key-file={public}"))
            .arg(format!("--service-account-signing-key-file={key}"))
            .arg(format!("--service-account-issuer={ISSUER}"))
            .args([
                "--endpoint-reconciler-type=none",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--audit-log-mode=blocking",
            ])
            .args(&self.arguments);
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the API server through sh")?;
        self.watchdog = Some(child);
        Ok(())
    }

    /// True when it serves, false when it ended.
    async fn wait_until_ready(&mut self) -> Result<bool> {
        let deadline = Instant::now() + START;
        let mut last = String::new();
        while Instant::now() < deadline {
            let ended = match &mut self.watchdog {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                self.watchdog = None;
                return Ok(false);
            }
            // Its certificate is there only after a while.
            match self.admin().await {
                Ok(admin) => match admin.is_ready().await {
                    Ok(()) => return Ok(true),
                    Err(error) => last = format!("{error:#}"),
                },
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!(
            "the API server is not ready after {START:?}: {last}; {}",
            self.log()
        )
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // A server that cannot be told ends with the pipe to it.
        let _ = self.kill();
    }
}
