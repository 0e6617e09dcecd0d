//! The daemon's pure parts by themselves: no kernel, no store, only the processor.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flanneld::desired::{Desired, Device};
use flanneld::leases::Leases;
use flanneld::network::Network;
use flanneld::reconcile::{self, Observed, ObservedDevice};
use flanneld::store::{PeerEvent, PeerLease};
use flanneld::uplink::Uplink;
use hostnet::{Address, FdbEntry, Link, LinkIndex, Neighbour, Vxlan};
use ipam::{LeaseRecord, NetConf, PerFamily, Subnets};
use serde::{Deserialize, Serialize};

use crate::call::milliseconds;
use crate::figure::{Figure, Figures, Name};
use crate::leases::{NET_CONF, Peer};
use crate::progress::Teller;

/// What is executed; it stands where contenders stand.
type Part = &'static str;

const UPLINK: LinkIndex = LinkIndex(2);
const DEVICE: LinkIndex = LinkIndex(3);

/// The circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) leases: u32,
    pub(crate) rounds: usize,
    /// How long each part is repeated in a round, in milliseconds.
    pub(crate) milliseconds: u64,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("{} leases in memory", self.leases)
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        let cluster = Cluster::build(self.leases)?;
        let mut altered = cluster.observed.clone();
        let peers = altered.devices.values_mut().next().context("no device")?;
        peers.fdb.pop();
        let mut figures = Figures::default();
        for round in 0..self.rounds {
            tell.say(&format!("round {round}"));
            let mut note = |part: Part, time: Duration| {
                let name = Name {
                    text: part,
                    beside: None,
                };
                figures.note(
                    &self.title(),
                    "one execution",
                    "ms",
                    name,
                    milliseconds(time),
                );
            };
            note("desired state", self.time(|| cluster.desired()));
            let same = self.time(|| reconcile::plan(&cluster.wanted, &cluster.observed));
            note("comparison, nothing differs", same);
            let one = self.time(|| reconcile::plan(&cluster.wanted, &altered));
            note("comparison, one entry missing", one);
            let all = self.time(|| reconcile::plan(&cluster.wanted, &Observed::default()));
            note("comparison, no device", all);
            note("snapshot taken in", self.time(|| cluster.take_in()));
            let value = Peer(0).value();
            let decoded = self.time(|| LeaseRecord::parse(value.as_bytes()));
            note("one lease decoded", decoded);
            let record = &cluster.peers.first().context("no peers")?.record;
            note("one lease encoded", self.time(|| record.to_json()));
            tell.advance(1.0 / self.rounds as f64);
        }
        Ok(figures.finish())
    }

    /// The mean time of one execution.
    fn time<T>(&self, work: impl Fn() -> T) -> Duration {
        let (start, whole) = (Instant::now(), Duration::from_millis(self.milliseconds));
        let mut times = 0;
        while times == 0 || start.elapsed() < whole {
            black_box(work());
            times += 1;
        }
        start.elapsed() / times
    }
}

/// A cluster as a node's daemon has it in memory, and the kernel of that node.
struct Cluster {
    network: Network,
    own: Subnets,
    peers: Vec<PeerLease>,
    wanted: Desired,
    observed: Observed,
}

impl Cluster {
    fn build(number: u32) -> Result<Self> {
        let conf = NetConf::parse(NET_CONF.as_bytes())?;
        let uplink = uplink()?;
        let network = Network::new(&conf, &uplink, &PerFamily { v4: None, v6: None })?;
        let own = Subnets {
            v4: Some("10.1.0.0/24".parse()?),
            v6: None,
        };
        let peers = (0..number).map(lease).collect::<Result<Vec<_>>>()?;
        let (wanted, skipped) = network.desired(Some(&own), peers.iter());
        ensure!(skipped.is_empty(), "{} leases are left out", skipped.len());
        let observed = observed(&wanted)?;
        let plan = reconcile::plan(&wanted, &observed);
        ensure!(
            plan.steps.is_empty(),
            "the kernel differs: {}",
            plan.steps[0]
        );
        Ok(Self {
            network,
            own,
            peers,
            wanted,
            observed,
        })
    }

    fn desired(&self) -> Desired {
        self.network.desired(Some(&self.own), self.peers.iter()).0
    }

    fn take_in(&self) -> Leases {
        let mut leases = Leases::default();
        leases.apply(PeerEvent::Snapshot {
            peers: self.peers.clone(),
            skipped: Vec::new(),
        });
        leases
    }
}

fn uplink() -> Result<Uplink> {
    let addresses = PerFamily::v4(Ipv4Addr::new(192, 0, 2, 11));
    Ok(Uplink {
        link: UPLINK,
        name: "eth0".to_owned(),
        mtu: 1500,
        local: addresses,
        networks: vec!["192.0.2.11/24".parse()?],
        public: addresses,
    })
}

fn lease(number: u32) -> Result<PeerLease> {
    let peer = Peer(number);
    let key = peer.key();
    let key = key.rsplit('/').next().context("no key")?;
    Ok(PeerLease {
        key: key.parse()?,
        record: LeaseRecord::parse(peer.value().as_bytes())?,
        revision: i64::from(number),
        created: i64::from(number),
    })
}

/// A kernel that holds what is wanted.
fn observed(wanted: &Desired) -> Result<Observed> {
    let (name, device) = wanted
        .devices
        .iter()
        .next()
        .context("no device is wanted")?;
    let neighbours = wanted.neighbours.iter();
    let fdb = wanted.fdb.iter();
    let found = ObservedDevice {
        link: link(name, device),
        addresses: device
            .addresses
            .iter()
            .map(|address| Address::new(DEVICE, address.ip(), address.prefix()))
            .collect(),
        neighbours: neighbours
            .map(|((_, address), mac)| Neighbour::permanent(DEVICE, *address, *mac))
            .collect(),
        fdb: fdb
            .map(|((_, mac), destination)| FdbEntry::permanent(DEVICE, *mac, *destination))
            .collect(),
    };
    let routes = wanted.routes.iter().map(|(destination, hop)| {
        reconcile::as_route(*destination, hop, |_| Some(DEVICE)).context("a route without a device")
    });
    Ok(Observed {
        devices: BTreeMap::from([(name.clone(), found)]),
        routes: routes.collect::<Result<_>>()?,
        sysctls: wanted.sysctls.clone(),
        ..Observed::default()
    })
}

fn link(name: &str, device: &Device) -> Link {
    Link {
        kind: Some("vxlan".to_owned()),
        mac: Some(device.mac),
        mtu: device.mtu,
        up: true,
        running: true,
        lower: device.vxlan.lower,
        vxlan: Some(Vxlan {
            port: 8472,
            ..device.vxlan.clone()
        }),
        ..Link::bare(DEVICE, name)
    }
}
