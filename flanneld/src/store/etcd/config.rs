//! What has to be known to speak to etcd: endpoints, prefix, TLS files, user, times. Secrets stay out of every text.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::store::StoreError;

/// Where distributions keep the certificates of the public authorities, for https endpoints without a CA file of their own.
const SYSTEM_AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A text that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// How to reach etcd and what to keep there. [`Default`] has flannel's defaults.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`; without a scheme http, or https when a TLS file is given.
    pub endpoints: Vec<String>,
    /// The root of all keys.
    pub prefix: String,
    /// Certificates of the authorities that sign the servers' certificates (PEM). Enough for TLS by itself.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate (PEM), for servers that ask for one; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The private key of our own certificate (PEM); needs `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The etcd user; needs `password`.
    pub username: Option<String>,
    /// The etcd user's password.
    pub password: Option<Secret>,
    /// How long before its end a lease is renewed at the latest.
    pub renew_margin: Duration,
    /// Time limits; only tests have reason to change them.
    pub timing: Timing,
}

/// The times by which the etcd store works.
#[derive(Debug, Clone)]
pub struct Timing {
    /// For how long a lease is taken (flannel: 24 hours).
    pub lease: Duration,
    /// How long one endpoint may take to answer one request, connecting included.
    pub request: Duration,
    /// How long connecting to one endpoint may take.
    pub connect: Duration,
    /// How often a quiet connection with a watch on it is probed. Not below 5 s: etcd takes that for an attack.
    pub probe: Duration,
    /// After at most this time all leases are listed again although nothing happened: the safety net.
    pub relist: Duration,
    /// How long leases may be missing from an etcd that was restored or emptied until they count as gone.
    pub grace: Duration,
    /// The first delay before something is tried again.
    pub retry_first: Duration,
    /// The longest delay before something is tried again.
    pub retry_cap: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(86_400),
            request: Duration::from_secs(5),
            connect: Duration::from_secs(3),
            probe: Duration::from_secs(10),
            relist: Duration::from_secs(1800),
            grace: Duration::from_secs(60),
            retry_first: Duration::from_millis(100),
            retry_cap: Duration::from_secs(5),
        }
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: endpoint_list("http://127.0.0.1:4001,http://127.0.0.1:2379"),
            prefix: "/coreos.com/network".to_owned(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            username: None,
            password: None,
            renew_margin: Duration::from_secs(60 * 60),
            timing: Timing::default(),
        }
    }
}

/// Splits the comma list of `--etcd-endpoints`; blanks around entries and empty entries are dropped.
pub fn endpoint_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

impl EtcdConfig {
    /// The endpoints as URLs, checked.
    pub(super) fn urls(&self) -> Result<Vec<String>, StoreError> {
        let urls = self
            .endpoints
            .iter()
            .map(|entry| self.url(entry))
            .collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(bad("etcd-endpoints", "name at least one endpoint"));
        }
        Ok(urls)
    }

    fn url(&self, entry: &str) -> Result<String, StoreError> {
        let (scheme, rest) = match entry.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some((scheme, _)) => {
                let reason = format!("{scheme}:// is not spoken here; use http:// or https://");
                return Err(bad("etcd-endpoints", &reason));
            }
            None if self.has_tls_files() => ("https", entry),
            None => ("http", entry),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('@') {
            // The entry is not repeated: what stands before the @ may be a password.
            return Err(bad(
                "etcd-endpoints",
                "an endpoint holds no user; use --etcd-username and --etcd-password",
            ));
        }
        if rest.is_empty() || rest.contains(['/', '?', '#', ' ']) {
            let reason = format!("\"{entry}\" is not of the form http://host:port");
            return Err(bad("etcd-endpoints", &reason));
        }
        Ok(format!("{scheme}://{rest}"))
    }

    fn has_tls_files(&self) -> bool {
        self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some()
    }

    /// True if TLS files are given although no endpoint uses them.
    pub(super) fn has_idle_tls_files(&self, urls: &[String]) -> bool {
        self.has_tls_files() && urls.iter().all(|url| url.starts_with("http://"))
    }

    /// The options for a connection to `url`. The TLS files are read at each call, so renewed certificates are taken up.
    pub(super) fn options(&self, url: &str) -> Result<ConnectOptions, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.timing.connect)
            .with_keep_alive(self.timing.probe, self.timing.request)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        match (&self.username, &self.password) {
            (Some(user), Some(password)) => options = options.with_user(user, &password.0),
            (None, None) => {}
            (Some(_), None) => return Err(bad("etcd-username", "needs --etcd-password")),
            (None, Some(_)) => return Err(bad("etcd-password", "needs --etcd-username")),
        }
        if url.starts_with("https://") {
            options = options.with_tls(self.tls()?);
        }
        Ok(options)
    }

    fn tls(&self) -> Result<TlsOptions, StoreError> {
        let authorities = match &self.ca_file {
            Some(path) => read_pem("etcd-cafile", path, "CERTIFICATE")?,
            None => system_authorities()?,
        };
        let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(authorities));
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let cert = read_pem("etcd-certfile", cert, "CERTIFICATE")?;
                let key = read_pem("etcd-keyfile", key, "PRIVATE KEY")?;
                Ok(tls.identity(Identity::from_pem(cert, key)))
            }
            (None, None) => Ok(tls),
            (Some(_), None) => Err(bad("etcd-certfile", "needs --etcd-keyfile")),
            (None, Some(_)) => Err(bad("etcd-keyfile", "needs --etcd-certfile")),
        }
    }
}

fn bad(setting: &str, reason: &str) -> StoreError {
    StoreError::Settings {
        setting: format!("--{setting}"),
        reason: reason.to_owned(),
    }
}

/// Reads a PEM file and makes sure that it holds what it should: the TLS library passes over what it cannot use, and the first
/// connection would fail with a text that names no file.
fn read_pem(setting: &str, path: &Path, label: &str) -> Result<Vec<u8>, StoreError> {
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|error| bad(setting, &format!("cannot read {shown}: {error}")))?;
    let text = String::from_utf8_lossy(&pem);
    let found = text
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.contains(label));
    if !found {
        let reason = format!("{shown} holds no PEM block of type {label}");
        return Err(bad(setting, &reason));
    }
    Ok(pem)
}

fn system_authorities() -> Result<Vec<u8>, StoreError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named
        .into_iter()
        .chain(SYSTEM_AUTHORITIES.iter().map(PathBuf::from))
        .find_map(|path| read_pem("etcd-cafile", &path, "CERTIFICATE").ok())
        .ok_or_else(|| {
            bad(
                "etcd-cafile",
                "an https endpoint needs it: this system has no list of public authorities",
            )
        })
}

#[cfg(test)]
mod tests;
