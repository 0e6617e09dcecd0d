//! `macspoofchk`: a frame of a pod enters its bridge only with the pod's own MAC as its source.
//!
//! Each pod has a table of its own in the bridge family, named after the host's end of its link. The kernel keeps a table when the link
//! goes, so a DEL takes it away, and GC looks for those whose link is gone.

use hostnet::nft::{
    BaseHook, Chain, ChainKind, Expr, Family, Hook, InterfacePattern, Nftables, Policy, Rule, Table,
};
use hostnet::{Mac, Netlink};

use crate::protocol::Error;

/// Begins the name of each table.
const PREFIX: &str = "loden-mac-";

/// Before anything else looks at a frame; the reference plugin has the same.
const PRIORITY: i32 = -300;

/// Holds pods to their MACs. The connection stays with the namespace it was opened in.
pub(super) struct Stations {
    nftables: Nftables,
}

impl Stations {
    /// Connects to the firewall of this namespace.
    pub(super) fn open() -> Result<Self, Error> {
        let nftables = Nftables::open().map_err(Error::Stations)?;
        Ok(Self { nftables })
    }

    /// Lets nothing but this MAC in by this port.
    pub(super) fn hold(&mut self, port: &str, mac: Mac) -> Result<(), Error> {
        let table = table(port, mac)?;
        self.nftables.replace(&[table]).map_err(Error::Stations)
    }

    /// No longer does so; fine if it did not.
    pub(super) fn release(&mut self, port: &str) -> Result<(), Error> {
        let name = name(port);
        let tables = [(Family::Bridge, name.as_str())];
        self.nftables.delete(&tables).map_err(Error::Stations)
    }

    /// Releases the ports that are gone.
    pub(super) fn collect(&mut self, host: &mut Netlink) -> Result<(), Error> {
        let chains = self.nftables.chains(Family::Bridge);
        for chain in chains.map_err(Error::Stations)? {
            let Some(port) = chain.table.strip_prefix(PREFIX) else {
                continue;
            };
            let link = host.link_by_name(port).map_err(Error::Netlink)?;
            if link.is_none() {
                self.release(port)?;
            }
        }
        Ok(())
    }
}

fn name(port: &str) -> String {
    format!("{PREFIX}{port}")
}

fn table(port: &str, mac: Mac) -> Result<Table, Error> {
    let port_pattern: InterfacePattern = port.parse().map_err(Error::Stations)?;
    let rule = Rule::new([
        Expr::InterfaceIn(port_pattern),
        Expr::EtherSourceNot(mac),
        Expr::Drop,
    ]);
    Ok(Table {
        family: Family::Bridge,
        name: name(port),
        comment: None,
        sets: Vec::new(),
        ports: Vec::new(),
        chains: vec![Chain {
            name: "prerouting".to_owned(),
            hook: Some(BaseHook {
                kind: ChainKind::Filter,
                hook: Hook::Prerouting,
                priority: PRIORITY,
                policy: Policy::Accept,
            }),
            rules: vec![rule],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let text = table("vethabc", Mac([2, 0, 0, 0, 0, 1]))
            .unwrap()
            .to_string();
        let rule = "iifname \"vethabc\" ether saddr != 02:00:00:00:00:01 drop";
        assert!(
            text.starts_with("table bridge loden-mac-vethabc {"),
            "{text}"
        );
        assert!(text.contains(rule), "{text}");
        assert!(
            text.contains("type filter hook prerouting priority"),
            "{text}"
        );
    }
}
