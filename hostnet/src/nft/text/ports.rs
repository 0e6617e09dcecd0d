//! Sets and maps of ports as text.

use std::fmt::{self, Display, Formatter};

use super::super::{
    ports::{Entries, Port, Ports},
    ruleset::SetKind,
};

/// The name `nft` has for the header in which addresses of this kind are.
pub(super) const fn header_name(kind: SetKind) -> &'static str {
    match kind {
        SetKind::Ipv4 => "ip",
        SetKind::Ipv6 => "ip6",
    }
}

/// What is looked up: protocol and port, after an address of this kind.
pub(super) fn key(address: Option<SetKind>) -> String {
    let address = address.map(|kind| format!("{} daddr . ", header_name(kind)));
    let address = address.unwrap_or_default();
    format!("{address}meta l4proto . th dport")
}

impl Display for Ports {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let address = match self.kind {
            SetKind::Ipv4 => "ipv4_addr",
            SetKind::Ipv6 => "ipv6_addr",
        };
        let what = if self.is_map() { "map" } else { "set" };
        let before = if self.by_address() {
            format!("{address} . ")
        } else {
            String::new()
        };
        let behind = if self.is_map() {
            format!(" : {address} . inet_service")
        } else {
            String::new()
        };
        writeln!(f, "\t{what} {} {{", self.name)?;
        writeln!(f, "\t\ttype {before}inet_proto . inet_service{behind}")?;
        let elements = self.texts();
        if !elements.is_empty() {
            writeln!(f, "\t\telements = {{ {} }}", elements.join(", "))?;
        }
        f.write_str("\t}\n")
    }
}

impl Ports {
    fn texts(&self) -> Vec<String> {
        match &self.entries {
            Entries::Set(ports) => ports.iter().map(Port::to_string).collect(),
            Entries::Targets(targets) => targets
                .iter()
                .map(|(port, to)| format!("{port} : {} . {}", to.ip(), to.port()))
                .collect(),
            Entries::TargetsByAddress(targets) => targets
                .iter()
                .map(|((address, port), to)| {
                    format!("{address} . {port} : {} . {}", to.ip(), to.port())
                })
                .collect(),
        }
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.protocol, self.number)
    }
}
