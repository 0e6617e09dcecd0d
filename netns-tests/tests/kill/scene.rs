//! A host with a subnet, the attachments there are, and what must not be left on the host.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use flanneld::pods::{self, Places};
use hostnet::Netlink;
use ipam::pool::{Options, RangeSpec};
use ipam::{Cidr, Pool};
use netns_tests::{Endpoint, Host, Lab, Pod, Snapshot};
use serde_json::{Value, json};

const SUBNET: &str = "10.244.1.0/24";
const POOL: &str = "/run/loden/ipam";
const NETWORK: &str = "cbr0";

/// Files of the pool that come and go with its use: the index, which grows with the number of addresses ever in use, and
/// the one place where records are written before they count.
const POOL_FILES: [&str; 3] = [
    "file /var/lib/cni/networks/cbr0/last_reserved_ip.0 ",
    "file /run/loden/ipam/cbr0/slots-",
    "file /run/loden/ipam/cbr0/attachment.new ",
];

/// A host and how its pods are attached.
pub(crate) struct Scene {
    pub(crate) host: Host,
    /// The plugin's own object in the conflist.
    pub(crate) plugin: Value,
    before: Snapshot,
}

/// One host for each kind of attachment, in one lab.
pub(crate) fn scenes() -> Result<(Lab, [Scene; 3])> {
    let lab = Lab::new()?;
    let [routed, bridged, masquerading] = lab.hosts(["routed", "bridged", "masquerading"])?;
    let bridge = json!({"hairpinMode": true, "isDefaultGateway": true});
    let mut masquerade = bridge.clone();
    masquerade["ipMasq"] = json!(true);
    let scenes = [
        Scene::set(routed, true, json!({"type": "ptp"}))?,
        Scene::set(bridged, true, bridge)?,
        Scene::set(masquerading, false, masquerade)?,
    ];
    Ok((lab, scenes))
}

impl Scene {
    fn set(host: Host, daemon_masquerades: bool, delegate: Value) -> Result<Self> {
        let path = host.path("/run/flannel/subnet.env");
        fs::create_dir_all(path.parent().context("no directory")?)?;
        let environment = format!(
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n\
             FLANNEL_IPMASQ={daemon_masquerades}\n"
        );
        fs::write(path, environment)?;
        let plugin = json!({"type": "flannel", "delegate": delegate});
        let mut scene = Self {
            before: host.snapshot()?,
            host,
            plugin,
        };
        scene.use_once()?;
        scene.before = scene.host.snapshot()?;
        Ok(scene)
    }

    /// One container comes and goes. What is there then is there to stay: directories, the bridge.
    pub(crate) fn use_once(&self) -> Result<()> {
        let mut pod = self.container()?;
        pod.add()?;
        pod.delete()
    }

    /// A container that is not attached yet.
    pub(crate) fn container(&self) -> Result<Pod> {
        self.host
            .pod_spec("web")
            .conflist(&self.conflist())
            .create()
    }

    /// Makes the host as if there had never been a container.
    pub(crate) fn forget(&self) -> Result<()> {
        self.host
            .sh("rm -rf /run/loden; ip link delete dev cni0 2>/dev/null || true")
            .map(drop)
    }

    /// What the kernel does when a pod's namespace ends, which here the test itself still holds.
    pub(crate) fn end_links(&self) -> Result<()> {
        let ends = "ip -o link | grep -o 'veth[a-z2-7]\\{11\\}' | sort -u";
        self.host
            .sh(&format!("{ends} | xargs -r -n 1 ip link delete dev"))
            .map(drop)
    }

    /// What the daemon does about killed calls when it starts.
    pub(crate) fn start_of_the_daemon(&self) -> Result<()> {
        let usual = Places::default();
        let places = Places {
            pools: self.host.path(&usual.pools),
            reservations: self.host.path(&usual.reservations),
            notes: self.host.path(&usual.notes),
        };
        let repaired = self.host.run(|| -> Result<_> {
            let mut netlink = Netlink::open()?;
            Ok(pods::repair(&places, &mut netlink, SystemTime::now()))
        })??;
        ensure!(repaired.trouble.is_empty(), "{repaired:?}");
        Ok(())
    }

    /// The pool is empty and the host as it was.
    pub(crate) fn nothing_left(&self) -> Result<()> {
        let mut difference = self.host.snapshot()?.diff(&self.before);
        for lines in [&mut difference.gone, &mut difference.new] {
            lines.retain(|line| !POOL_FILES.iter().any(|file| line.starts_with(file)));
        }
        ensure!(difference.is_empty(), "the host changed:\n{difference}");
        let range = RangeSpec::whole(SUBNET.parse::<Cidr>()?).shared_link()?;
        let directory = self.host.path(Path::new(POOL));
        let usage = Pool::open(&directory, NETWORK, Options::default())?.usage(&range)?;
        ensure!(usage.used == 0, "addresses are still in use: {usage:?}");
        Ok(())
    }

    /// What the plugin gets on stdin.
    pub(crate) fn config(&self) -> Value {
        let mut config = self.plugin.clone();
        config["name"] = json!(NETWORK);
        config["cniVersion"] = json!("1.1.0");
        config
    }

    fn conflist(&self) -> String {
        json!({"name": NETWORK, "cniVersion": "1.1.0", "plugins": [self.plugin]}).to_string()
    }
}
