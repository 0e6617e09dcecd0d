//! What a node tells the others in Kubernetes: annotations on its Node, beside the pod CIDRs that Kubernetes gave it.
//!
//! Names and texts are flannel's (`pkg/subnet/kube`). A text that flannel writes one way only is written that way here, too:
//! it cuts its own MAC address out of the end of `backend-data` when it starts again.

mod prefix;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::cidr::{Cidr, CidrError, shortened};
use crate::family::{PerFamily, Subnets};
use crate::lease::{LeaseBackend, LeaseKey, LeaseRecord, LeaseRecordError, VxlanLease};
use crate::mac::Mac;

pub use prefix::{AnnotationPrefix, PrefixError};

#[cfg(test)]
mod tests;

/// Longer texts are cut, which makes them unreadable: flannel's own have some fifty bytes.
const LONGEST: usize = 4096;
/// What a node without anything to tell of its backend writes.
const NOTHING: &str = "null";
const MANAGED: &str = "true";

/// The annotations that a node has for its network, without their common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeAnnotation {
    /// What the backend tells for IPv4, as JSON.
    BackendData,
    /// The backend.
    BackendType,
    /// What the backend tells for IPv6, as JSON.
    BackendV6Data,
    /// Marks the Nodes that take part.
    KubeSubnetManager,
    /// Written by people: the public IPv4 address that the daemon is to take, as with `--public-ip`.
    NodePublicIp,
    /// The same for IPv6.
    NodePublicIpv6,
    /// The public IPv4 address.
    PublicIp,
    /// Written by people: what is to stand in [`Self::PublicIp`].
    PublicIpOverwrite,
    /// The public IPv6 address.
    PublicIpv6,
    /// Written by people: what is to stand in [`Self::PublicIpv6`].
    PublicIpv6Overwrite,
}

/// The texts of a Node's annotations for its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAnnotations(BTreeMap<NodeAnnotation, Box<str>>);

/// A lease as a Node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLease {
    /// The Node's subnets.
    pub key: LeaseKey,
    /// How to reach it. In dual stack a family may be missing.
    pub record: LeaseRecord,
    /// What could not be read and is therefore missing.
    pub faults: Vec<NodeLeaseError>,
}

/// Why a Node's annotations or pod CIDRs make no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeLeaseError {
    /// No address.
    #[error("annotation {annotation} is \"{text}\", which is no address of its family")]
    BadAddress {
        /// Which.
        annotation: NodeAnnotation,
        /// Its text, cut when long.
        text: String,
    },
    /// Not what the backend tells.
    #[error("annotation {annotation} cannot be used: {reason}")]
    BadData {
        /// Which.
        annotation: NodeAnnotation,
        /// What is wrong.
        reason: LeaseRecordError,
    },
    /// No subnet.
    #[error("the Node's podCIDR is no subnet: {reason}")]
    BadPodCidr {
        /// What is wrong.
        reason: CidrError,
    },
    /// Something indispensable is missing.
    #[error("the Node lacks annotation {annotation}; the daemon that runs there writes it")]
    Lacks {
        /// Which.
        annotation: NodeAnnotation,
    },
    /// No address in any family that the Node has a subnet of.
    #[error("the Node has no public address in the families of its subnet {subnets}")]
    NoAddress {
        /// The subnets.
        subnets: Subnets,
    },
    /// Kubernetes gave it no subnet, or none of a family that is used.
    #[error(
        "the Node has no podCIDR of the network's address families; the controller manager gives one when it runs with --allocate-node-cidrs"
    )]
    NoPodCidr,
    /// More pod CIDRs than one of each family.
    #[error(
        "the Node has {count} podCIDRs ({list}); at most one of each address family can be used"
    )]
    TooManyPodCidrs {
        /// How many.
        count: usize,
        /// The first of them.
        list: String,
    },
}

impl NodeAnnotation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::BackendData,
        Self::BackendType,
        Self::BackendV6Data,
        Self::KubeSubnetManager,
        Self::NodePublicIp,
        Self::NodePublicIpv6,
        Self::PublicIp,
        Self::PublicIpOverwrite,
        Self::PublicIpv6,
        Self::PublicIpv6Overwrite,
    ];

    /// The name behind the prefix.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::BackendData => "backend-data",
            Self::BackendType => "backend-type",
            Self::BackendV6Data => "backend-v6-data",
            Self::KubeSubnetManager => "kube-subnet-manager",
            Self::NodePublicIp => "node-public-ip",
            Self::NodePublicIpv6 => "node-public-ipv6",
            Self::PublicIp => "public-ip",
            Self::PublicIpOverwrite => "public-ip-overwrite",
            Self::PublicIpv6 => "public-ipv6",
            Self::PublicIpv6Overwrite => "public-ipv6-overwrite",
        }
    }
}

impl fmt::Display for NodeAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suffix())
    }
}

impl NodeAnnotations {
    /// Picks ours out of all annotations of a Node.
    pub fn pick<'a>(
        prefix: &AnnotationPrefix,
        all: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let named = |key: &str| {
            let suffix = key.strip_prefix(prefix.as_str())?;
            NodeAnnotation::ALL
                .into_iter()
                .find(|a| a.suffix() == suffix)
        };
        Self(
            all.into_iter()
                .filter_map(|(key, text)| Some((named(key)?, bounded(text).into())))
                .collect(),
        )
    }

    /// What flannel writes for `record`, where `overwrite` has the addresses to tell instead of the record's. Of the annotations
    /// that daemons write, those not in it should not be there: a peer would believe them.
    #[must_use]
    pub fn of(record: &LeaseRecord, overwrite: &PerFamily<Ipv4Addr, Ipv6Addr>) -> Self {
        let v4 = overwrite.v4.or(record.public.v4);
        let v6 = overwrite.v6.or(record.public.v6);
        // The data of each family whose pair of annotations is written at all; flannel decides it so for each backend.
        let data = match &record.backend {
            LeaseBackend::Vxlan(data) => PerFamily {
                v4: data.v4.map(VxlanLease::to_json),
                v6: data.v6.map(VxlanLease::to_json),
            },
            LeaseBackend::HostGw | LeaseBackend::Other { .. } => PerFamily {
                v4: Some(NOTHING.to_owned()),
                v6: v6.map(|_| NOTHING.to_owned()),
            },
            LeaseBackend::Unnamed => PerFamily::v4(NOTHING.to_owned()),
        };
        let mut texts = BTreeMap::new();
        let mut put = |annotation, text: String| {
            texts.insert(annotation, text.into_boxed_str());
        };
        put(NodeAnnotation::KubeSubnetManager, MANAGED.to_owned());
        put(
            NodeAnnotation::BackendType,
            record.backend.name().to_owned(),
        );
        if let Some(data) = data.v4 {
            let public = v4.unwrap_or(Ipv4Addr::UNSPECIFIED);
            put(NodeAnnotation::BackendData, data);
            put(NodeAnnotation::PublicIp, public.to_string());
        }
        if let Some((data, public)) = data.v6.zip(v6) {
            put(NodeAnnotation::BackendV6Data, data);
            put(NodeAnnotation::PublicIpv6, public.to_string());
        }
        Self(texts)
    }

    /// What has to be written (or taken away: `None`) so that a Node with these has those that [`Self::of`] gave as `wanted`.
    #[must_use]
    pub fn changes(&self, wanted: &Self) -> BTreeMap<NodeAnnotation, Option<String>> {
        NodeAnnotation::ALL
            .into_iter()
            .filter(|annotation| annotation.is_the_daemons())
            .filter(|&annotation| self.text(annotation) != wanted.text(annotation))
            .map(|annotation| (annotation, wanted.text(annotation).map(str::to_owned)))
            .collect()
    }

    /// The text of one.
    #[must_use]
    pub fn text(&self, annotation: NodeAnnotation) -> Option<&str> {
        self.0.get(&annotation).map(|text| &**text)
    }

    /// Whether the Node takes part. One that does not is none of ours.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.text(NodeAnnotation::KubeSubnetManager) == Some(MANAGED)
    }

    /// The lease of a Node with these annotations and `subnets`, which are those of [`pod_subnets`] as far as the network has
    /// their families.
    ///
    /// # Errors
    ///
    /// Any [`NodeLeaseError`] that leaves nothing to reach the Node by.
    pub fn lease(&self, subnets: Subnets) -> Result<NodeLease, NodeLeaseError> {
        let key = LeaseKey::new(subnets).ok_or(NodeLeaseError::NoPodCidr)?;
        let mut faults = Vec::new();
        let mut public = PerFamily::default();
        if subnets.v4.is_some() {
            public.v4 = noted(&mut faults, self.address(NodeAnnotation::PublicIp));
        }
        if subnets.v6.is_some() {
            public.v6 = noted(&mut faults, self.address(NodeAnnotation::PublicIpv6));
        }
        if public.is_empty() {
            let fault = faults.into_iter().next();
            return Err(fault.unwrap_or(NodeLeaseError::NoAddress { subnets }));
        }
        let backend =
            LeaseBackend::of_name(self.require(NodeAnnotation::BackendType)?, || PerFamily {
                v4: noted(&mut faults, self.data(NodeAnnotation::BackendData)),
                v6: noted(&mut faults, self.data(NodeAnnotation::BackendV6Data)),
            });
        Ok(NodeLease {
            key,
            record: LeaseRecord { public, backend },
            faults,
        })
    }

    /// The addresses that people want the daemon to take as its public ones, and which of their annotations cannot be read.
    #[must_use]
    pub fn wishes(&self) -> (PerFamily<Ipv4Addr, Ipv6Addr>, Vec<NodeLeaseError>) {
        self.addresses(NodeAnnotation::NodePublicIp, NodeAnnotation::NodePublicIpv6)
    }

    /// The addresses that people want to stand in the public ones' place, and which of their annotations cannot be read.
    #[must_use]
    pub fn overwrites(&self) -> (PerFamily<Ipv4Addr, Ipv6Addr>, Vec<NodeLeaseError>) {
        self.addresses(
            NodeAnnotation::PublicIpOverwrite,
            NodeAnnotation::PublicIpv6Overwrite,
        )
    }

    /// The MAC addresses of the Node's VTEPs, as far as they can be read.
    #[must_use]
    pub fn macs(&self) -> PerFamily<Mac, Mac> {
        let mac = |annotation| self.data(annotation).ok().flatten().map(|data| data.mac);
        PerFamily {
            v4: mac(NodeAnnotation::BackendData),
            v6: mac(NodeAnnotation::BackendV6Data),
        }
    }

    fn addresses(
        &self,
        v4: NodeAnnotation,
        v6: NodeAnnotation,
    ) -> (PerFamily<Ipv4Addr, Ipv6Addr>, Vec<NodeLeaseError>) {
        let mut faults = Vec::new();
        let found = PerFamily {
            v4: noted(&mut faults, self.address(v4)),
            v6: noted(&mut faults, self.address(v6)),
        };
        (found, faults)
    }

    /// An address; an empty text or the zero address, as Go writes it, is none.
    fn address<A: FromStr + Unspecified>(
        &self,
        annotation: NodeAnnotation,
    ) -> Result<Option<A>, NodeLeaseError> {
        let text = self.text(annotation).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<A>() {
            Ok(address) => Ok(Some(address).filter(|address| !address.is_zero())),
            Err(_) => Err(NodeLeaseError::BadAddress {
                annotation,
                text: shortened(text),
            }),
        }
    }

    fn data(&self, annotation: NodeAnnotation) -> Result<Option<VxlanLease>, NodeLeaseError> {
        match self.text(annotation) {
            None | Some("" | NOTHING) => Ok(None),
            Some(text) => VxlanLease::parse_data(text, annotation.suffix())
                .map(Some)
                .map_err(|reason| NodeLeaseError::BadData { annotation, reason }),
        }
    }

    fn require(&self, annotation: NodeAnnotation) -> Result<&str, NodeLeaseError> {
        self.text(annotation)
            .ok_or(NodeLeaseError::Lacks { annotation })
    }
}

impl NodeAnnotation {
    fn is_the_daemons(self) -> bool {
        match self {
            Self::BackendData
            | Self::BackendType
            | Self::BackendV6Data
            | Self::KubeSubnetManager
            | Self::PublicIp
            | Self::PublicIpv6 => true,
            Self::NodePublicIp
            | Self::NodePublicIpv6
            | Self::PublicIpOverwrite
            | Self::PublicIpv6Overwrite => false,
        }
    }
}

/// The subnets that `spec.podCIDRs` of a Node name, or `spec.podCIDR` alone where an old API server gives no list.
///
/// # Errors
///
/// [`NodeLeaseError::BadPodCidr`] and [`NodeLeaseError::TooManyPodCidrs`]. No pod CIDR at all is no error.
pub fn pod_subnets<'a>(
    pod_cidrs: impl IntoIterator<Item = &'a str>,
    pod_cidr: Option<&'a str>,
) -> Result<Subnets, NodeLeaseError> {
    let mut texts: Vec<&str> = pod_cidrs.into_iter().collect();
    if texts.is_empty() {
        texts.extend(pod_cidr);
    }
    texts.retain(|text| !text.is_empty());
    let too_many = || NodeLeaseError::TooManyPodCidrs {
        count: texts.len(),
        list: shortened(&texts.join(", ")),
    };
    if texts.len() > 2 {
        return Err(too_many());
    }
    let mut subnets = Subnets::default();
    for text in &texts {
        let subnet =
            Cidr::parse_masked(text).map_err(|reason| NodeLeaseError::BadPodCidr { reason })?;
        let before = match subnet {
            Cidr::V4(v4) => subnets.v4.replace(v4).is_some(),
            Cidr::V6(v6) => subnets.v6.replace(v6).is_some(),
        };
        if before {
            return Err(too_many());
        }
    }
    Ok(subnets)
}

trait Unspecified {
    fn is_zero(&self) -> bool;
}

impl Unspecified for Ipv4Addr {
    fn is_zero(&self) -> bool {
        self.is_unspecified()
    }
}

impl Unspecified for Ipv6Addr {
    fn is_zero(&self) -> bool {
        self.is_unspecified()
    }
}

/// What was found, if anything; a fault is kept aside.
fn noted<T>(
    faults: &mut Vec<NodeLeaseError>,
    found: Result<Option<T>, NodeLeaseError>,
) -> Option<T> {
    found.unwrap_or_else(|fault| {
        faults.push(fault);
        None
    })
}

fn bounded(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
