//! From the config on stdin to what is to be attached: reads `subnet.env` where the config is flannel's, and everything
//! else out of the config. Nothing is changed here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipam::pool::{self, Details, NetnsIdentity, Options, Range, RangeSet, RangeSpec};
use ipam::{Attachment, Owner, Pool};

use crate::attachment::conf::{AttachmentConf, Kind};
use crate::attachment::name::{Identity, mac_of};
use crate::attachment::{Plan, PodAddress, default_routes, routed};
use crate::flannel_conf::{FlannelConf, networks, read_subnet_file};
use crate::mirror::Mirror;
use crate::protocol::args::CniArgs;
use crate::protocol::json::{Object, Section};
use crate::protocol::result::{self, AddResult, Dns};
use crate::protocol::{Config, Error, Invocation, Target};

/// What a config asks for: the config of the plugin that attaches the pod, and who does that plugin's work.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegation {
    /// The plugin's config, as flannel's own program would give it.
    pub delegate: Object,
    /// Who does it.
    pub by: By,
}

/// Who attaches a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// We do.
    Us(Box<AttachmentConf>),
    /// A plugin of this name.
    Other(String),
}

/// Reads what is to be attached, how and by whom.
///
/// # Errors
///
/// Those of the config, and [`Error::SubnetFile`].
pub fn delegation(config: &Config, args: &CniArgs) -> Result<Delegation, Error> {
    let flannel = FlannelConf::parse(config)?;
    let env = read_subnet_file(&flannel.subnet_file)?;
    let delegate = flannel.delegate(&env);
    let kind = Section::root(&delegate).string("type")?;
    let kind = kind.unwrap_or_default();
    let by = if Kind::is_ours(kind) {
        let mut conf = AttachmentConf::parse(&delegate, args)?;
        // The daemon masquerades by rules that stand once for the whole host; then the delegate need not.
        conf.ip_masq &= !env.ip_masq;
        conf.pod_networks = networks(&env).collect();
        By::Us(Box::new(conf))
    } else {
        By::Other(kind.to_owned())
    };
    Ok(Delegation { delegate, by })
}

/// Whose attachment a request is about.
pub fn identity(config: &Config, target: &Target) -> Identity {
    Identity {
        network: config.name.clone(),
        container_id: target.container_id.clone(),
        ifname: target.ifname.clone(),
    }
}

/// The same for the address pool.
///
/// # Errors
///
/// [`Error::Pool`]; the names were checked before, so it does not happen.
pub fn owner(target: &Target) -> Result<Owner, Error> {
    Owner::new(&target.container_id, &target.ifname).map_err(|error| Error::Pool(error.into()))
}

/// The pool of the config's network.
///
/// # Errors
///
/// [`Error::Pool`]
pub fn pool(config: &Config, data_dir: &Path) -> Result<Pool, Error> {
    pool_waiting(config, data_dir, pool::DEFAULT_LOCK_WAIT)
}

/// The same, whose lock is waited for no longer than given.
///
/// # Errors
///
/// [`Error::Pool`]
pub fn pool_waiting(config: &Config, data_dir: &Path, lock_wait: Duration) -> Result<Pool, Error> {
    let mirror = Mirror::of(config)?;
    let options = Options {
        lock_wait,
        foreign: Arc::new(move || mirror.addresses()),
        ..Options::default()
    };
    Pool::open(data_dir, &config.name, options).map_err(Error::Pool)
}

/// Where the config keeps reservations, as far as it can be told: a DEL has to work with a broken config too.
pub fn data_dirs(config: &Config) -> Vec<PathBuf> {
    let usual = PathBuf::from(pool::DEFAULT_DIRECTORY);
    let root = Section::root(&config.object);
    let given = root
        .section("ipam")
        .ok()
        .flatten()
        .and_then(|ipam| ipam.string("dataDir").ok().flatten())
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    match given {
        Some(given) if given != usual => vec![given, usual],
        _ => vec![usual],
    }
}

/// Where the pool of this attachment's network is.
pub fn data_dir(conf: &AttachmentConf) -> PathBuf {
    let given = conf.ipam.data_dir.clone();
    given.unwrap_or_else(|| pool::DEFAULT_DIRECTORY.into())
}

/// What was recorded at the ADD of the target, wherever the config may have kept it.
///
/// # Errors
///
/// [`Error::Pool`]
pub fn recorded(config: &Config, target: &Target) -> Result<Option<Attachment>, Error> {
    recorded_of(config, &owner(target)?)
}

/// The same for the pool's term.
///
/// # Errors
///
/// [`Error::Pool`]
pub fn recorded_of(config: &Config, owner: &Owner) -> Result<Option<Attachment>, Error> {
    for data_dir in data_dirs(config) {
        if let Some(attachment) = pool(config, &data_dir)?.attachment(owner)? {
            return Ok(Some(attachment));
        }
    }
    Ok(None)
}

/// The ranges in the pool's terms.
///
/// # Errors
///
/// [`Error::Pool`] for ranges that make no sense.
pub fn range_sets(conf: &AttachmentConf) -> Result<Vec<RangeSet>, Error> {
    let set = |specs: &Vec<RangeSpec>| specs.iter().map(|spec| range(conf, *spec)).collect();
    conf.ipam.range_sets.iter().map(set).collect()
}

fn range(conf: &AttachmentConf, spec: RangeSpec) -> Result<Range, Error> {
    let range = match conf.kind {
        Kind::Bridge(_) => spec.shared_link(),
        Kind::Routed => {
            let gateway = routed::gateway_of(spec.subnet);
            let within = spec.subnet.contains(gateway).then_some(gateway);
            RangeSpec {
                gateway: spec.gateway.or(within),
                ..spec
            }
            .routed()
        }
    };
    range.map_err(|error| Error::Pool(error.into()))
}

/// What is recorded with a reservation, so that a DEL needs nothing else.
pub fn details(
    conf: &AttachmentConf,
    call: &Invocation,
    netns: Option<NetnsIdentity>,
    host_name: &str,
) -> Details {
    Details {
        netns,
        host_ifname: Some(host_name.to_owned()),
        kind: match &conf.kind {
            Kind::Bridge(bridge) => pool::Kind::Bridge {
                name: bridge.name.clone(),
            },
            Kind::Routed => pool::Kind::Routed,
        },
        pod: pod(&call.args),
        ..Details::default()
    }
}

/// What a pod is given, by the pool or by an IPAM plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    addresses: Vec<PodAddress>,
    routes: Vec<result::Route>,
    /// Name servers.
    pub dns: Dns,
}

/// What the pool gives.
pub fn given_by_pool(conf: &AttachmentConf, reserved: &Attachment) -> Given {
    let held = reserved.addresses.iter();
    Given {
        addresses: held
            .map(|held| pod_address(conf, held.address, held.prefix, held.gateway))
            .collect(),
        routes: conf.ipam.routes.clone(),
        dns: conf.dns.clone(),
    }
}

/// What an IPAM plugin gives. The config's name servers have precedence, as with the reference plugins.
pub fn given_by_plugin(conf: &AttachmentConf, result: AddResult) -> Given {
    let ips = result.ips.iter();
    Given {
        addresses: ips
            .map(|ip| pod_address(conf, ip.address.ip(), ip.address.prefix(), ip.gateway))
            .collect(),
        routes: result.routes,
        dns: if conf.dns == Dns::default() {
            result.dns
        } else {
            conf.dns.clone()
        },
    }
}

/// The plan for an attachment whose addresses are reserved.
pub fn plan(identity: &Identity, conf: &AttachmentConf, details: &Details, given: &Given) -> Plan {
    let addresses = given.addresses.clone();
    let mut routes = given.routes.clone();
    if conf.default_route {
        routes.extend(default_routes(&addresses, &routes));
    }
    let first = addresses.iter().find(|pod| pod.address.is_ipv4());
    let mac = first.or(addresses.first()).map(|pod| mac_of(pod.address));
    Plan {
        identity: identity.clone(),
        pod: details
            .pod
            .as_ref()
            .map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        host_name: details
            .host_ifname
            .clone()
            .unwrap_or_else(|| identity.host_name(0)),
        pod_mac: conf.mac.or(mac).unwrap_or_else(hostnet::Mac::random_local),
        mtu: conf.mtu,
        addresses,
        routes,
    }
}

fn pod_address(
    conf: &AttachmentConf,
    address: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
) -> PodAddress {
    let subnet = ipam::Cidr::masked(address, prefix).ok();
    let usual = subnet.map(routed::gateway_of);
    match &conf.kind {
        // An IPAM plugin need not tell a gateway; the reference plugin takes the first address then.
        Kind::Bridge(bridge) => PodAddress {
            address,
            prefix,
            gateway: gateway.or(usual.filter(|_| bridge.is_gateway)),
        },
        Kind::Routed => PodAddress {
            address,
            prefix: match (conf.one_segment, address.is_ipv4()) {
                // Alone the pod has the prefix of its subnet, all of which it reaches through the host.
                (false, _) => prefix,
                (true, true) => 32,
                (true, false) => 128,
            },
            gateway: gateway.or(usual),
        },
    }
}

/// The pod as Kubernetes' runtimes tell it.
pub fn pod(args: &CniArgs) -> Option<pool::Pod> {
    let text = |key| args.value(key).unwrap_or_default().to_owned();
    Some(pool::Pod {
        namespace: text("K8S_POD_NAMESPACE"),
        name: args.value("K8S_POD_NAME")?.to_owned(),
        uid: text("K8S_POD_UID"),
    })
}
