//! What the CNI program has recorded of pods, read from its files; nothing is changed and no lock is taken.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostnet::Netlink;
use ipam::pool::{Kind, Occupancy, Options};
use ipam::{Attachment, Pool};

use super::compose::timestamp;
use super::report::{Addresses, Pod, Report};
use crate::pods::{self, Places};

/// The pods of this node and the addresses they are from.
#[derive(Debug, Default)]
pub(super) struct Cni {
    pods: Vec<Pod>,
    addresses: Vec<Addresses>,
    unseen: Vec<String>,
}

impl Cni {
    pub(super) fn add_to(self, report: &mut Report) {
        report.pods = self.pods;
        report.addresses = self.addresses;
        report.unseen.extend(self.unseen);
    }
}

/// Reads it.
pub(super) fn look(places: &Places) -> Cni {
    let mut cni = Cni::default();
    let mut netlink = Netlink::open().ok();
    match fs::read_dir(&places.pools) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let pools = places.pools.display();
            cni.unseen
                .push(format!("pods: {pools} cannot be read: {error}"));
        }
        _ => {}
    }
    for network in pods::networks(&places.pools) {
        cni.network(&places.pools, &network, netlink.as_mut());
    }
    cni.pods.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    cni
}

impl Cni {
    fn network(&mut self, pools: &Path, network: &str, mut netlink: Option<&mut Netlink>) {
        let pool = match Pool::open(pools, network, Options::default()) {
            Ok(pool) => pool,
            Err(error) => return self.unseen.push(format!("pods of {network}: {error}")),
        };
        let attachments = match pool.attachments() {
            Ok(attachments) => attachments,
            Err(error) => return self.unseen.push(format!("pods of {network}: {error}")),
        };
        match pool.occupancies() {
            Ok(ranges) => {
                let ranges = ranges.iter().map(|range| addresses(network, range));
                self.addresses.extend(ranges);
            }
            Err(error) => self.unseen.push(format!("addresses of {network}: {error}")),
        }
        for item in attachments {
            match item {
                Ok(attachment) => self.pods.push(pod(&attachment, netlink.as_deref_mut())),
                Err(error) => self.unseen.push(format!("a pod of {network}: {error}")),
            }
        }
    }
}

fn pod(attachment: &Attachment, netlink: Option<&mut Netlink>) -> Pod {
    let details = &attachment.details;
    let link = netlink.and_then(|netlink| pods::find(netlink, attachment).ok());
    let kind = match &details.kind {
        Kind::Routed => "routed".to_owned(),
        Kind::Bridge { name } => format!("bridge {name}"),
        Kind::Foreign => "foreign".to_owned(),
        Kind::Unknown => "unknown".to_owned(),
    };
    let ours =
        matches!(details.kind, Kind::Routed | Kind::Bridge { .. }) && details.foreign.is_none();
    let linked = link.as_ref().filter(|_| ours).map(Option::is_some);
    let (found, recorded) = (link.flatten(), details.host_ifname.clone());
    let of_kubernetes = |text: fn(&ipam::pool::Pod) -> &String| {
        let pod = details.pod.as_ref()?;
        Some(text(pod).clone()).filter(|text| !text.is_empty())
    };
    Pod {
        addresses: attachment
            .addresses
            .iter()
            .map(|held| held.address)
            .collect(),
        network: attachment.network.clone(),
        container_id: attachment.owner.container_id().to_owned(),
        ifname: attachment.owner.ifname().to_owned(),
        namespace: of_kubernetes(|pod| &pod.namespace),
        name: of_kubernetes(|pod| &pod.name),
        netns: details.netns.as_ref().map(|netns| netns.path.clone()),
        interface: found.map(|link| link.name).or(recorded),
        kind,
        since: since(attachment.created).map(timestamp),
        linked,
    }
}

fn addresses(network: &str, range: &Occupancy) -> Addresses {
    let usage = range.usage;
    Addresses {
        network: network.to_owned(),
        range: (range.first, range.last),
        total: usage.total,
        used: usage.used + usage.foreign,
        free: usage.free,
        cooling: usage.cooling,
    }
}

fn since(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The name of this host.
pub(super) fn host_name() -> String {
    hostnet::sysctl::read("kernel/hostname").unwrap_or_default()
}
