//! A real Kubernetes API server on the lab's etcd, for daemons that take their leases from Nodes.
//!
//! The Nodes of peers are written where the API server stores them ([`crate::leases`]): it takes them from there as it takes its
//! own, and what it would need to write them is in no measured time.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Lab, eventually, isolation};

use crate::leases::NET_CONF;

/// The variable by which tests of controllers find `kube-apiserver`.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const PROGRAM: &str = "kube-apiserver";
const PORT: u16 = 6443;
/// What daemons show to the API server.
const TOKEN: &str = "admin-token";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(120);

/// The pair that the tests have for service accounts' tokens; nobody uses such tokens here, but the API server wants one.
const KEY: &str = include_str!("../../../../tests/data/tls/service-account-key.pem");
const PUBLIC: &str = include_str!("../../../../tests/data/tls/service-account.pem");

/// Where the program is, if there is one: named, or built by the tests with an API server.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    if let Some(assets) = std::env::var_os(ASSETS) {
        let program = isolation::visible(&Path::new(&assets).join(PROGRAM));
        ensure!(
            program.is_file(),
            "{ASSETS} is set, but there is no {}",
            program.display()
        );
        return Ok(Some(program));
    }
    let own = std::env::current_exe()?;
    // target/HOST/release/loden-bench, and target/debug where the tests built it.
    let mut directories = own.ancestors().skip(1).take(3);
    Ok(directories.find_map(|directory| {
        let debug = directory.join("debug");
        [directory, &debug].into_iter().find_map(built_in)
    }))
}

fn built_in(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(isolation::visible(directory)).ok()?;
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("kube-apiserver-v") && !name.ends_with(".half"))
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(named)
}

/// The API server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct ApiServer {
    _daemon: Daemon,
    kubeconfig: PathBuf,
    net_conf: PathBuf,
}

impl ApiServer {
    /// Starts it on the host of the lab's etcd and waits until it listens.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let program = find()?.with_context(|| format!("there is no {PROGRAM}"))?;
        let host = lab.etcd()?.host();
        let directory = std::env::temp_dir().join("api-server");
        fs::create_dir_all(&directory)?;
        let put = |name: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let tokens = put(
            "tokens.csv",
            &format!("{TOKEN},admin,admin,system:masters\n"),
        )?;
        let (key, public) = (put("key.pem", KEY)?, put("public.pem", PUBLIC)?);
        let (address, certificates) = (host.ipv4(), directory.join("certs"));
        let arguments = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--secure-port={PORT}"),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--cert-dir={}", certificates.display()),
            format!("--token-auth-file={}", tokens.display()),
            format!("--service-account-key-file={}", public.display()),
            format!("--service-account-signing-key-file={}", key.display()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=172.16.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut daemon = host.start(&program, &arguments)?;
        eventually("the API server listens", START, || {
            ensure!(daemon.is_running()?, "it ended:\n{}", daemon.log_tail());
            host.run(|| TcpStream::connect((address, PORT)))?
                .map(drop)
                .with_context(|| daemon.log_tail())
        })?;
        let authority = certificates.join("apiserver.crt");
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"https://{address}:{PORT}\", certificate-authority: \"{}\"}}}}]\n\
             users: [{{name: u, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            authority.display()
        );
        Ok(Self {
            _daemon: daemon,
            kubeconfig: put("kubeconfig", &kubeconfig)?,
            net_conf: put("net-conf.json", NET_CONF)?,
        })
    }

    /// What has a daemon take its leases from here.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec![
            "--kube-subnet-mgr".to_owned(),
            format!("--kubeconfig-file={}", self.kubeconfig.display()),
            format!("--net-config-path={}", self.net_conf.display()),
        ]
    }
}
