//! What can happen to what is ours in the kernel, as data: each entry makes a trial for every backend and family it fits.
//!
//! `docs/operations.md` shows the same table to users; `tests/operations.rs` holds the two together.

#[path = "damages.rs"]
mod damages;

pub(crate) use damages::DAMAGES;

/// On which kind of network an object exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// With tunnels only.
    Vxlan,
    /// With and without.
    Both,
}

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is as before, and the log has a line with these words.
    Repaired(&'static str),
    /// It stays, since it is none of ours; this command takes it away again.
    LeftAlone(&'static str),
}

/// One thing that can happen to one object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    /// The object.
    pub(crate) object: &'static str,
    /// What happens to it.
    pub(crate) what: &'static str,
    /// Where.
    pub(crate) on: On,
    /// Whether the object exists once for each family.
    pub(crate) per_family: bool,
    /// The line of shell that does it.
    pub(crate) command: &'static str,
    /// What has to come of it.
    pub(crate) outcome: Outcome,
}

/// A backend with the families of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// `vxlan`.
    Vxlan,
    /// `host-gw`.
    HostGw,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What happens to the uplink; done by the scene, since it takes more than one line.
pub(crate) const UPLINK: [&str; 6] = [
    "down_and_up",
    "mtu_changed",
    "ipv4_address_changed",
    "ipv6_address_changed",
    "replaced",
    "default_route_deleted",
];

impl Backend {
    /// As names of trials begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host_gw",
        }
    }
}

impl Family {
    /// As names of trials have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// Every trial of a backend with its name; uplink trials have no [`Damage`].
pub(crate) fn trials(backend: Backend) -> Vec<(String, Family, Option<Damage>)> {
    let mut trials = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        for damage in DAMAGES {
            let fits = damage.on == On::Both || backend == Backend::Vxlan;
            let name = match (damage.per_family, family) {
                (true, _) => format!(
                    "{}_{}_{}_{}",
                    backend.name(),
                    family.name(),
                    damage.object,
                    damage.what
                ),
                (false, Family::Ipv4) => {
                    format!("{}_{}_{}", backend.name(), damage.object, damage.what)
                }
                (false, Family::Ipv6) => continue,
            };
            if fits {
                trials.push((name, family, Some(damage)));
            }
        }
    }
    for what in UPLINK {
        let name = format!("{}_uplink_{what}", backend.name());
        trials.push((name, Family::Ipv4, None));
    }
    trials
}
