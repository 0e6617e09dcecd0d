//! A lab with an API server, and hosts that are its Nodes.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, ensure};
use loden_tests::kube::{ApiServer, Cluster, api_server};
use netns_tests::{Daemon, Endpoint, Host, Lab, Pod, Traffic, eventually, programs, skip};

pub(crate) const V4: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
pub(crate) const DUAL: &str = r#"{"Network":"10.244.0.0/16","IPv6Network":"fd00:10:244::/48","EnableIPv6":true,"Backend":{"Type":"vxlan"}}"#;
const MANIFEST: &str = include_str!("../../../manifests/kube-flannel.yml");
/// What annotations of ours begin with.
pub(crate) const PREFIX: &str = "flannel.alpha.coreos.com/";
/// Where a pod finds its service account.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
/// The Service `kubernetes`, under which pods find the API server.
const SERVICE: &str = "10.96.0.1";
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The lab and its API server.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) api: Host,
    pub(crate) server: ApiServer,
    conf: &'static str,
}

/// A host that is a Node, and its daemon.
pub(crate) struct Member {
    pub(crate) host: Host,
    pub(crate) daemon: Daemon,
}

impl Scene {
    pub(crate) fn new(conf: &'static str) -> Result<Self> {
        let program = match api_server()? {
            Ok(program) => program,
            Err(unavailable) => return skip(unavailable.0),
        };
        let lab = Lab::new()?;
        let api = lab.host("api")?;
        let address = api.ipv4();
        let server = api.run(|| block_on(ApiServer::start_at(&program, address)))??;
        let scene = Self {
            lab,
            api,
            server,
            conf,
        };
        let manifest = scene.server.path("manifest.yaml");
        fs::write(&manifest, MANIFEST)?;
        scene.admin(|cluster| async move { cluster.grant(&manifest).await })?;
        Ok(scene)
    }

    /// Does something at the API server as one who may do everything.
    pub(crate) fn admin<T: Send, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce(Cluster) -> F + Send,
    ) -> Result<T> {
        let server = &self.server;
        self.api
            .run(|| block_on(async { work(server.admin().await?).await }))?
    }

    /// Starts the API server again.
    pub(crate) fn up(&mut self) -> Result<()> {
        let server = &mut self.server;
        self.api.run(|| block_on(server.up()))?
    }

    /// The subnets of this number.
    pub(crate) fn cidrs(&self, number: u8) -> Vec<String> {
        let mut cidrs = vec![format!("10.244.{number}.0/24")];
        if self.conf == DUAL {
            cidrs.push(format!("fd00:10:244:{number}::/64"));
        }
        cidrs
    }

    pub(crate) fn create_node(&self, name: &str, number: u8) -> Result<()> {
        let cidrs = self.cidrs(number);
        self.admin(|cluster| async move {
            let cidrs: Vec<&str> = cidrs.iter().map(String::as_str).collect();
            cluster.create_node(name, &cidrs).await
        })
    }

    /// What our annotations of a Node say, by their names without the prefix.
    pub(crate) fn annotations(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let found = self.admin(|cluster| async move { cluster.annotations(name, PREFIX).await })?;
        let bare = |(name, text): (String, String)| (name.replace(PREFIX, ""), text);
        Ok(found.into_iter().map(bare).collect())
    }

    /// Changes annotations of a Node, named without the prefix.
    pub(crate) fn annotate(&self, name: &str, changes: &[(&str, Option<&str>)]) -> Result<()> {
        let changes: Vec<(String, Option<&str>)> = changes
            .iter()
            .map(|(name, text)| (format!("{PREFIX}{name}"), *text))
            .collect();
        self.admin(|cluster| async move { cluster.annotate(name, &changes).await })
    }

    /// A token of the daemon's service account that is good for long.
    pub(crate) fn token(&self) -> Result<String> {
        self.admin(|cluster| async move { cluster.token().await })
    }

    /// One that ends after this time.
    pub(crate) fn short_token(&self, time: Duration) -> Result<String> {
        self.admin(|cluster| async move { cluster.token_for(time).await })
    }

    /// Whether the API server accepts a token.
    pub(crate) fn accepts(&self, token: &str) -> Result<bool> {
        let server = &self.server;
        let asked = async { Ok(server.somebody(token).await?.node("a").await.is_ok()) };
        self.api.run(|| block_on(asked))?
    }

    /// A host furnished as the kubelet and kube-proxy furnish it for the manifest's pod.
    pub(crate) fn host(&self, name: &str) -> Result<Host> {
        let host = self.lab.host(name)?;
        fs::write(host.path("/etc/kube-flannel/net-conf.json"), self.conf)?;
        let account = host.path(ACCOUNT);
        fs::create_dir_all(&account)?;
        fs::write(account.join("token"), self.token()?)?;
        fs::write(account.join("namespace"), loden_tests::kube::NAMESPACE)?;
        fs::copy(self.server.authority(), account.join("ca.crt"))?;
        host.sh(&format!(
            "nft add table ip kube-proxy\n\
             nft add chain ip kube-proxy output '{{ type nat hook output priority -100; }}'\n\
             nft add rule ip kube-proxy output ip daddr {SERVICE} tcp dport 443 dnat to {}:{}",
            self.api.ipv4(),
            self.server.port()
        ))?;
        Ok(host)
    }

    /// The daemon as the manifest starts it.
    pub(crate) fn start(&self, host: &Host, more: &[&str]) -> Result<Daemon> {
        self.start_under(host, more, &[])
    }

    /// The same, with these variables in its environment, too.
    pub(crate) fn start_under(
        &self,
        host: &Host,
        more: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Daemon> {
        let arguments = ["--ip-masq", "--kube-subnet-mgr"].iter().chain(more);
        let mut environment = vec![
            ("NODE_NAME", host.name()),
            ("KUBERNETES_SERVICE_HOST", SERVICE),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        environment.extend(
            variables
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let program = programs::find("flanneld")?;
        Daemon::start(host, &program, arguments.copied(), &environment)
    }

    /// A host whose Node has the subnets of this number, with its daemon ready.
    pub(crate) fn member(&self, name: &str, number: u8) -> Result<Member> {
        self.member_told(name, number, &[])
    }

    /// The same, with more flags.
    pub(crate) fn member_told(&self, name: &str, number: u8, more: &[&str]) -> Result<Member> {
        let host = self.host(name)?;
        self.create_node(name, number)?;
        let mut daemon = self.start(&host, more)?;
        daemon.wait_ready()?;
        Ok(Member { host, daemon })
    }

    /// Three that know each other.
    pub(crate) fn members(&self) -> Result<[Member; 3]> {
        self.members_told(&[])
    }

    /// The same, with more flags.
    pub(crate) fn members_told(&self, more: &[&str]) -> Result<[Member; 3]> {
        let members = [
            self.member_told("a", 1, more)?,
            self.member_told("b", 2, more)?,
            self.member_told("c", 3, more)?,
        ];
        meet(&members)?;
        Ok(members)
    }
}

impl Member {
    /// Puts this token in the place of the one that is there, as the kubelet does.
    pub(crate) fn give_token(&self, token: &str) -> Result<()> {
        let account = self.host.path(ACCOUNT);
        fs::write(account.join("token.new"), token)?;
        Ok(fs::rename(
            account.join("token.new"),
            account.join("token"),
        )?)
    }

    /// What its kernel holds of the tunnel of one family: neighbours, FDB entries, routes.
    pub(crate) fn tunnel(&self, family: u8) -> Result<String> {
        let device = device(family);
        let lines = self.host.sh(&format!(
            "ip -{family} neighbour show dev {device} nud permanent; bridge fdb show dev {device}; ip -{family} route show dev {device}"
        ))?;
        let mut lines: Vec<&str> = lines.lines().map(str::trim).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// The MAC of its device.
    pub(crate) fn mac(&self, family: u8) -> Result<String> {
        let path = format!("/sys/class/net/{}/address", device(family));
        Ok(self.host.exec(["cat", &path])?.trim().to_owned())
    }
}

/// The device of a family's tunnel.
pub(crate) fn device(family: u8) -> &'static str {
    if family == 4 {
        "flannel.1"
    } else {
        "flannel-v6.1"
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Waits until each of these knows the others.
pub(crate) fn meet(members: &[Member]) -> Result<()> {
    for member in members {
        let others = members.iter().map(|other| &other.host);
        let others = others.filter(|other| other.name() != member.host.name());
        member.host.wait_peers(others)?;
    }
    Ok(())
}

/// Each pod reaches each other in each family, with the first packet.
pub(crate) fn all_talk(pods: &[Pod]) -> Result<()> {
    for from in pods {
        for to in pods {
            for address in to.addresses() {
                from.ping(&address)?;
            }
        }
    }
    Ok(())
}

/// Waits until a tunnel holds each of these texts and none of those.
pub(crate) fn wait_tunnel(
    member: &Member,
    family: u8,
    there: &[&str],
    gone: &[&str],
) -> Result<()> {
    let what = format!("the tunnel of {} follows", member.host.name());
    eventually(&what, DEADLINE, || {
        let tunnel = member.tunnel(family)?;
        let right = there.iter().all(|text| tunnel.contains(text))
            && !gone.iter().any(|text| tunnel.contains(text));
        ensure!(
            right,
            "{there:?} without {gone:?}:\n{tunnel}\n{}",
            member.daemon.log_tail()
        );
        Ok(())
    })
}
