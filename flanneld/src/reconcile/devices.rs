//! Our devices: made, put right while they stand where the kernel lets them, else made anew; and those left over from another
//! configuration.

use std::net::IpAddr;

use hostnet::{Change, Link, LinkChange, LinkIndex, NewLink, NewLinkKind, VxlanChange};
use ipnetwork::IpNetwork;

use super::{DEFAULT_PORT, Leftover, Object, ObservedDevice, Planner};
use crate::desired::Device;

impl<'a> Planner<'a> {
    pub(super) fn devices(&mut self) {
        for (name, device) in &self.desired.devices {
            match self.observed.devices.get(name) {
                None => self.create(name, device, "it is missing".to_owned()),
                Some(found) => match self.difference_of_kind(device, &found.link) {
                    Some(difference) => {
                        let object = Object::Device(name.clone());
                        let change = Change::DeleteLink(found.link.index);
                        self.step(object, change, difference.clone());
                        self.create(name, device, difference);
                    }
                    None => self.alter(name, device, found),
                },
            }
        }
    }

    fn create(&mut self, name: &str, device: &Device, reason: String) {
        let link = NewLink {
            mac: Some(device.mac),
            mtu: Some(device.mtu),
            up: true,
            ..NewLink::new(name, NewLinkKind::Vxlan(device.vxlan.clone()))
        };
        let object = Object::Device(name.to_owned());
        self.step(object, Change::AddLink(link), reason);
        self.plan.unfinished = true;
    }

    fn alter(&mut self, name: &'a str, device: &Device, found: &'a ObservedDevice) {
        let mut change = LinkChange::new(found.link.index);
        let mut reasons = alterable_differences(device, &found.link);
        if !reasons.is_empty() {
            change.vxlan = Some(VxlanChange {
                lower: device.vxlan.lower,
                local: device.vxlan.local,
                learning: device.vxlan.learning,
            });
        }
        if found.link.mac != Some(device.mac) {
            change.mac = Some(device.mac);
            let has = found
                .link
                .mac
                .map_or_else(|| "none".to_owned(), |mac| mac.to_string());
            reasons.push(format!("its MAC is {has} instead of {}", device.mac));
        }
        if found.link.mtu != device.mtu {
            change.mtu = Some(device.mtu);
            reasons.push(format!(
                "its MTU is {} instead of {}",
                found.link.mtu, device.mtu
            ));
        }
        if found.link.master.is_some() {
            change.master = Some(None);
            reasons.push("it was put under another link".to_owned());
        }
        if !found.link.up {
            change.up = Some(true);
            reasons.push("it is down".to_owned());
        }
        if found.link.up {
            self.ready.insert(name, found);
        } else {
            // A link that is down takes no routes, and has lost those it had.
            self.plan.unfinished = true;
        }
        if !reasons.is_empty() {
            let object = Object::Device(name.to_owned());
            self.step(object, Change::SetLink(change), reasons.join(", "));
        }
    }

    /// What of the link cannot be put right without making it anew.
    fn difference_of_kind(&self, device: &Device, link: &Link) -> Option<String> {
        let Some(vxlan) = &link.vxlan else {
            return Some(format!(
                "it is a link of kind {}",
                link.kind.as_deref().unwrap_or("unknown")
            ));
        };
        let wanted = &device.vxlan;
        if vxlan.vni != wanted.vni {
            return Some(format!(
                "its VNI is {} instead of {}",
                vxlan.vni, wanted.vni
            ));
        }
        let port = if wanted.port == 0 {
            DEFAULT_PORT
        } else {
            wanted.port
        };
        if vxlan.port != port {
            return Some(format!("its port is {} instead of {port}", vxlan.port));
        }
        if vxlan.group.is_some() {
            return Some("it has a multicast group".to_owned());
        }
        if vxlan.gbp != wanted.gbp {
            return Some("its GBP switch is not the configured one".to_owned());
        }
        if vxlan.l2miss != wanted.l2miss || vxlan.l3miss != wanted.l3miss {
            return Some("it announces what it cannot deliver".to_owned());
        }
        if self.observed.unalterable.contains(&link.index) {
            return alterable_differences(device, link).into_iter().next();
        }
        None
    }

    /// Devices of another VNI, family or backend, which a former configuration of this node left. Everything on them goes with
    /// them.
    pub(super) fn leftovers(&mut self) {
        for Leftover { link, addresses } in &self.observed.leftovers {
            let ours = |network: &IpNetwork| self.desired.claims(network.ip());
            let wanted = self.desired.devices.contains_key(&link.name);
            // Another daemon on this host, for another pod network, has devices of the same names.
            if !wanted && is_named_as_ours(link) && addresses.iter().any(ours) {
                let object = Object::Device(link.name.clone());
                let reason = "it is left over from another configuration of this node";
                self.step(object, Change::DeleteLink(link.index), reason);
            }
        }
    }
}

/// Whether flannel or Loden gives such a device this name. Whose it is, its addresses tell.
pub fn is_named_as_ours(link: &Link) -> bool {
    let kind = link.kind.as_deref().unwrap_or_default();
    let numbered = |prefix: &str| {
        let number = link.name.strip_prefix(prefix);
        number.is_some_and(|number| {
            let vni = link.vxlan.as_ref().map(|vxlan| vxlan.vni.to_string());
            Some(number) == vni.as_deref()
        })
    };
    match kind {
        "vxlan" => numbered("flannel.") || numbered("flannel-v6."),
        "wireguard" => matches!(link.name.as_str(), "flannel-wg" | "flannel-wg-v6"),
        "ipip" => link.name == "flannel.ipip",
        _ => false,
    }
}

/// What of the tunnel is wrong and can be altered while it stands.
fn alterable_differences(device: &Device, link: &Link) -> Vec<String> {
    let Some(vxlan) = &link.vxlan else {
        return Vec::new();
    };
    let wanted = &device.vxlan;
    let mut differences = Vec::new();
    if vxlan.lower != wanted.lower {
        let index = |lower: Option<LinkIndex>| {
            lower.map_or_else(|| "no link".to_owned(), |index| format!("link {index}"))
        };
        differences.push(format!(
            "it lies on {} instead of {}",
            index(vxlan.lower),
            index(wanted.lower)
        ));
    }
    if vxlan.local != wanted.local {
        let text = |local: Option<IpAddr>| {
            local.map_or_else(|| "no address".to_owned(), |local| local.to_string())
        };
        differences.push(format!(
            "it sends from {} instead of {}",
            text(vxlan.local),
            text(wanted.local)
        ));
    }
    if vxlan.learning != wanted.learning {
        differences.push("its learning switch is not the configured one".to_owned());
    }
    differences
}
