//! The meaning of [`Expr`]: which instructions of the virtual machine each one is.
//!
//! Transcribed from what `nft --debug=netlink` (1.0.6) prints for the text beside each expression, so that `nft list` shows
//! the same text again; the goldens are in the tests of this module.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use nix::libc;

use super::{
    code::{Code, Side, kind_of},
    compiled::{CompiledChain, CompiledHook, CompiledRule, CompiledSet, CompiledTable, Elements},
    error::Error,
    instruction::{Compare, Instruction},
    ports::{Ports, address_type},
    ranges::Ranges,
    ruleset::{
        BaseHook, Chain, ChainKind, Expr, Family, Hook, Masquerade, Policy, Rule, Set, SetKind,
        Table,
    },
};

impl Table {
    /// The table in the form the kernel holds it.
    ///
    /// # Errors
    /// Names and comments that cannot be, names used twice, jumps and lookups that lead nowhere, and prefixes of an address
    /// family the table (or set) never sees.
    pub fn compile(&self) -> Result<CompiledTable, Error> {
        let compiler = Compiler { table: self };
        compiler.text("name", &self.name, MAX_NAME)?;
        compiler.comment(self.comment.as_deref())?;
        let names = self.sets.iter().map(|set| &set.name);
        compiler.unique(
            "set",
            names.chain(self.ports.iter().map(|ports| &ports.name)),
        )?;
        compiler.unique("chain", self.chains.iter().map(|chain| &chain.name))?;
        let sets = self.sets.iter().map(|set| compiler.set(set));
        let sets = sets.chain(self.ports.iter().map(|ports| compiler.ports(ports)));
        let chains = self.chains.iter().map(|chain| compiler.chain(chain));
        Ok(CompiledTable {
            family: self.family,
            name: self.name.clone(),
            comment: self.comment.clone(),
            flags: 0,
            sets: sets.collect::<Result<_, _>>()?,
            chains: chains.collect::<Result<_, _>>()?,
        })
    }

    /// Family and name, as `nft` writes them.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.family, self.name)
    }
}

/// Compiles the parts of one table.
struct Compiler<'a> {
    table: &'a Table,
}

impl Compiler<'_> {
    fn set(&self, set: &Set) -> Result<(String, CompiledSet), Error> {
        if let Some(stray) = set
            .prefixes
            .iter()
            .find(|prefix| kind_of(prefix) != set.kind)
        {
            return Err(Error::WrongFamily {
                what: format!("prefix {stray}"),
                holder: format!("set {} {}", self.table.title(), set.name),
            });
        }
        self.sees(set.kind, || format!("set {}", set.name))?;
        let (key_type, key_length) = address_type(set.kind);
        let compiled = CompiledSet {
            key_type,
            key_length,
            flags: NFT_SET_INTERVAL,
            data: None,
            elements: Elements::Ranges(Ranges::covering(&set.prefixes)),
        };
        Ok((set.name.clone(), compiled))
    }

    fn ports(&self, ports: &Ports) -> Result<(String, CompiledSet), Error> {
        let family = |address: &std::net::IpAddr| kind_of(&(*address).into());
        let addresses = ports.addresses();
        if let Some(stray) = addresses
            .iter()
            .find(|address| family(address) != ports.kind)
        {
            return Err(Error::WrongFamily {
                what: format!("address {stray}"),
                holder: format!("map {} {}", self.table.title(), ports.name),
            });
        }
        let (key_type, key_length) = ports.key();
        let data = ports.data();
        let compiled = CompiledSet {
            key_type,
            key_length,
            flags: data.map_or(0, |_| NFT_SET_MAP),
            data,
            elements: Elements::Exact(ports.elements()),
        };
        Ok((ports.name.clone(), compiled))
    }

    fn chain(&self, chain: &Chain) -> Result<(String, CompiledChain), Error> {
        let rules = chain.rules.iter().map(|rule| self.rule(rule));
        let compiled = CompiledChain {
            hook: chain.hook.map(compile_hook),
            flags: 0,
            rules: rules.collect::<Result<_, _>>()?,
        };
        Ok((chain.name.clone(), compiled))
    }

    fn rule(&self, rule: &Rule) -> Result<CompiledRule, Error> {
        self.comment(rule.comment.as_deref())?;
        let mut code = Code::new(self.table.family);
        for expr in &rule.exprs {
            self.expr(expr, &mut code)?;
        }
        Ok(CompiledRule {
            instructions: code.finish(),
            comment: rule.comment.clone(),
        })
    }

    fn expr(&self, expr: &Expr, code: &mut Code) -> Result<(), Error> {
        use Compare::{Equal, NotEqual};
        use Side::{Destination, Source};
        match expr {
            Expr::Accept => code.verdict(libc::NF_ACCEPT, None),
            Expr::Counter => code.add(Instruction::Counter),
            Expr::CtState(states) => code.ct_state(*states),
            Expr::Destination(prefix) => self.prefix(Destination, Equal, prefix, code)?,
            Expr::DestinationIn(set) => self.lookup(Destination, set, false, code)?,
            Expr::DestinationLocal => code.local(Equal),
            Expr::DestinationNot(prefix) => self.prefix(Destination, NotEqual, prefix, code)?,
            Expr::DestinationNotIn(set) => self.lookup(Destination, set, true, code)?,
            Expr::DestinationNotLocal => code.local(NotEqual),
            Expr::DestinationPort(transport, ports) => code.ports(Destination, *transport, ports),
            Expr::DestinationPortIn(set) => {
                let set = self.known_ports(set, false)?;
                code.ports_key(None);
                code.add(Instruction::Lookup {
                    set: set.name.clone(),
                    invert: false,
                });
            }
            Expr::Dnat(map) => {
                let map = self.known_ports(map, true)?;
                if self.table.family == Family::Inet {
                    return Err(Error::WrongFamily {
                        what: format!("dnat by the map {}", map.name),
                        holder: format!("table {}", self.table.title()),
                    });
                }
                self.sees(map.kind, || format!("map {}", map.name))?;
                code.ports_key(map.by_address().then_some(map.kind));
                code.add(Instruction::MapLookup(map.name.clone()));
                code.dnat(map.kind);
            }
            Expr::Drop => code.verdict(libc::NF_DROP, None),
            Expr::EtherSourceNot(mac) => {
                if self.table.family != Family::Bridge {
                    return Err(Error::WrongFamily {
                        what: format!("ether saddr {mac}"),
                        holder: format!("table {}", self.table.title()),
                    });
                }
                code.ether_source(NotEqual, *mac);
            }
            Expr::Goto(chain) => code.verdict(libc::NFT_GOTO, Some(self.known_chain(chain)?)),
            Expr::InterfaceIn(pattern) => code.interface(Source, Equal, pattern),
            Expr::InterfaceInNot(pattern) => code.interface(Source, NotEqual, pattern),
            Expr::InterfaceOut(pattern) => code.interface(Destination, Equal, pattern),
            Expr::InterfaceOutNot(pattern) => code.interface(Destination, NotEqual, pattern),
            Expr::Jump(chain) => code.verdict(libc::NFT_JUMP, Some(self.known_chain(chain)?)),
            Expr::Mark { value, mask } => code.mark(*value, *mask, Equal),
            Expr::MarkNot { value, mask } => code.mark(*value, *mask, NotEqual),
            Expr::Masquerade(ports) => code.add(Instruction::Masquerade(masquerade_flags(*ports))),
            Expr::Notrack => code.add(Instruction::Notrack),
            Expr::Protocol(protocol) => code.protocol(*protocol),
            Expr::ProtocolNot(protocol) => code.protocol_not(*protocol),
            Expr::Return => code.verdict(libc::NFT_RETURN, None),
            Expr::SetMark { value, mask } => code.set_mark(*value, *mask),
            Expr::Source(prefix) => self.prefix(Source, Equal, prefix, code)?,
            Expr::SourceIn(set) => self.lookup(Source, set, false, code)?,
            Expr::SourceNot(prefix) => self.prefix(Source, NotEqual, prefix, code)?,
            Expr::SourceNotIn(set) => self.lookup(Source, set, true, code)?,
            Expr::SourcePort(transport, ports) => code.ports(Source, *transport, ports),
            Expr::Vxlan(vni) => code.vxlan(*vni),
        }
        Ok(())
    }

    fn prefix(
        &self,
        side: Side,
        op: Compare,
        prefix: &IpNetwork,
        code: &mut Code,
    ) -> Result<(), Error> {
        self.sees(kind_of(prefix), || format!("prefix {prefix}"))?;
        code.prefix(side, op, prefix);
        Ok(())
    }

    fn lookup(&self, side: Side, name: &str, invert: bool, code: &mut Code) -> Result<(), Error> {
        let Some(set) = self.table.sets.iter().find(|set| set.name == name) else {
            return Err(self.unknown("set", name));
        };
        code.lookup(side, set.kind, name, invert);
        Ok(())
    }

    fn known_ports(&self, name: &str, map: bool) -> Result<&Ports, Error> {
        let mut all = self.table.ports.iter();
        all.find(|ports| ports.name == name && ports.is_map() == map)
            .ok_or_else(|| self.unknown(if map { "map" } else { "set" }, name))
    }

    fn known_chain<'a>(&self, name: &'a str) -> Result<&'a str, Error> {
        let known = self.table.chains.iter().any(|chain| chain.name == name);
        known
            .then_some(name)
            .ok_or_else(|| self.unknown("chain", name))
    }

    fn unknown(&self, what: &'static str, name: &str) -> Error {
        Error::Unknown {
            table: self.table.title(),
            what,
            name: name.to_owned(),
        }
    }

    /// Refuses addresses of a family that the table never sees; the kernel would compare them with other bytes.
    fn sees(&self, kind: SetKind, what: impl FnOnce() -> String) -> Result<(), Error> {
        match (self.table.family, kind) {
            (Family::Inet, _) | (Family::Ip, SetKind::Ipv4) | (Family::Ip6, SetKind::Ipv6) => {
                Ok(())
            }
            _ => Err(Error::WrongFamily {
                what: what(),
                holder: format!("table {}", self.table.title()),
            }),
        }
    }

    fn unique<'a>(
        &self,
        what: &'static str,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for name in names {
            self.text(what, name, MAX_NAME)?;
            if !seen.insert(name) {
                return Err(Error::Duplicate {
                    table: self.table.title(),
                    what,
                    name: name.clone(),
                });
            }
        }
        Ok(())
    }

    fn comment(&self, comment: Option<&str>) -> Result<(), Error> {
        comment.map_or(Ok(()), |text| self.text("comment", text, MAX_COMMENT))
    }

    fn text(&self, what: &'static str, text: &str, limit: usize) -> Result<(), Error> {
        let stray = |c: char| c.is_control() || c == '"' || c == '\\';
        if (1..=limit).contains(&text.len()) && !text.contains(stray) {
            return Ok(());
        }
        Err(Error::Text {
            table: self.table.title(),
            what,
            text: text.to_owned(),
            limit,
        })
    }
}

fn compile_hook(hook: BaseHook) -> CompiledHook {
    let kind = match hook.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    };
    let number = match hook.hook {
        Hook::Prerouting => libc::NF_INET_PRE_ROUTING,
        Hook::Input => libc::NF_INET_LOCAL_IN,
        Hook::Forward => libc::NF_INET_FORWARD,
        Hook::Output => libc::NF_INET_LOCAL_OUT,
        Hook::Postrouting => libc::NF_INET_POST_ROUTING,
    };
    let policy = match hook.policy {
        Policy::Accept => libc::NF_ACCEPT,
        Policy::Drop => libc::NF_DROP,
    };
    CompiledHook {
        kind: kind.to_owned(),
        hook: number.cast_unsigned(),
        priority: hook.priority,
        policy: policy.cast_unsigned(),
    }
}

const fn masquerade_flags(ports: Masquerade) -> u32 {
    let random = if ports.random {
        NF_NAT_RANGE_PROTO_RANDOM
    } else {
        0
    };
    let fully = if ports.fully_random {
        NF_NAT_RANGE_PROTO_RANDOM_FULLY
    } else {
        0
    };
    random | fully
}

/// `NFT_NAME_MAXLEN` without the NUL at the end.
const MAX_NAME: usize = 255;
/// What `nft` takes (`NFTNL_UDATA_COMMENT_MAXLEN`).
const MAX_COMMENT: usize = 128;

// linux/netfilter/nf_tables.h
const NFT_SET_INTERVAL: u32 = libc::NFT_SET_INTERVAL.cast_unsigned();
const NFT_SET_MAP: u32 = libc::NFT_SET_MAP.cast_unsigned();
// linux/netfilter/nf_nat.h
const NF_NAT_RANGE_PROTO_RANDOM: u32 = 0x4;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 0x10;

#[cfg(test)]
mod tests;
