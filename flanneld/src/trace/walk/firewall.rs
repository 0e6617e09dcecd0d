//! Through the rules of this host, ours and others'.

use std::net::IpAddr;

use hostnet::Link;
use hostnet::nft::{Hook, Packet};

use super::super::world::{Place, World};
use super::super::{By, End};
use super::{Walk, unknown};

/// The protocol's number.
const TCP: u8 = 6;

impl<W: World> Walk<'_, W> {
    /// What the firewall says. Whether the source becomes another.
    pub(super) fn filter(&mut self, from: IpAddr) -> Option<bool> {
        let rules = self.world.rules(from, self.to);
        match rules.accepted {
            Ok(true) => self.note(
                By::Filter,
                Some(true),
                "a rule of Loden accepts it for forwarding",
            ),
            Ok(false) => self.note(
                By::Filter,
                None,
                "no rule of Loden accepts it for forwarding, nor does one drop it",
            ),
            Err(reason) => self.note(By::Filter, None, reason),
        }
        match rules.masqueraded {
            Ok(true) => Some(true),
            Ok(false) => {
                self.note(
                    By::Masquerade,
                    Some(true),
                    format!("it keeps its source {from}"),
                );
                Some(false)
            }
            Err(reason) => {
                self.note(By::Masquerade, None, reason);
                None
            }
        }
    }

    /// What rules of other programs do with it.
    pub(super) fn others(
        &mut self,
        at: Hook,
        from: IpAddr,
        (input, output): (Option<&Link>, Option<&Link>),
    ) -> Result<(), End> {
        let named = |link: &Link| (link.index, link.name.clone());
        // A connection's first packet; most are of TCP.
        let packet = Packet {
            source: from,
            destination: self.to,
            protocol: TCP,
            port: None,
            input: input.map(named),
            output: output.map(named),
        };
        let others = match self.world.others(at, &packet) {
            Ok(others) => others,
            Err(reason) => {
                self.note(By::Filter, None, reason);
                return Ok(());
            }
        };
        for Place { name, certain } in others.drops {
            if certain {
                return Err(self.stop(By::Filter, format!("{name} drops it")));
            }
            let says = format!("{name} may drop it, by what is not known here, as ports and marks");
            self.note(By::Filter, None, says);
        }
        if at == Hook::Forward {
            for says in others.unread {
                self.note(By::Filter, None, says);
            }
        }
        for Place { name, certain } in others.rewrites {
            self.rewritten(at, &name, certain)?;
        }
        Ok(())
    }

    /// A rule of another program gives it another address.
    fn rewritten(&mut self, at: Hook, name: &str, certain: bool) -> Result<(), End> {
        let may = if certain { "gives" } else { "may give" };
        if at == Hook::Postrouting {
            let says = format!("{name} {may} it another source");
            self.note(By::Masquerade, None, says);
            return Ok(());
        }
        let says = format!("{name} {may} it another destination, as for a service");
        if certain {
            self.note(By::Service, None, says);
            return Err(unknown(
                "where it goes with another destination is not followed; ask for that one",
            ));
        }
        // A rule that goes by a map or by a port fits nearly everything; services have no pods' addresses.
        if !self.world.is_pods_address(self.to) {
            self.note(By::Service, None, says);
        }
        Ok(())
    }
}
