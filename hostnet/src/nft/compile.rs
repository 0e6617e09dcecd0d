//! The meaning of [`Expr`]: which instructions of the virtual machine each one is.
//!
//! Transcribed from what `nft --debug=netlink` (1.0.6) prints for the text beside each expression, so that `nft list` shows
//! the same text again; the goldens are in the tests of this module.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use ipnetwork::IpNetwork;
use nix::libc;

use super::{
    compiled::{CompiledChain, CompiledHook, CompiledRule, CompiledSet, CompiledTable},
    error::Error,
    instruction::{Compare, Instruction},
    ranges::Ranges,
    ruleset::{
        BaseHook, Chain, ChainKind, Expr, Family, Hook, InterfacePattern, Masquerade, Policy,
        Protocol, Rule, Set, SetKind, Table, Transport,
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
        compiler.unique("set", self.sets.iter().map(|set| &set.name))?;
        compiler.unique("chain", self.chains.iter().map(|chain| &chain.name))?;
        let sets = self.sets.iter().map(|set| compiler.set(set));
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
                what: stray.to_string(),
                holder: format!("set {} {}", self.table.title(), set.name),
            });
        }
        self.sees(set.kind, || format!("set {}", set.name))?;
        let (key_type, key_length) = match set.kind {
            SetKind::Ipv4 => (TYPE_IPADDR, 4),
            SetKind::Ipv6 => (TYPE_IP6ADDR, 16),
        };
        let compiled = CompiledSet {
            key_type,
            key_length,
            flags: NFT_SET_INTERVAL,
            ranges: Ranges::covering(&set.prefixes),
        };
        Ok((set.name.clone(), compiled))
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
        let mut code = Code {
            table: self.table.family,
            network: None,
            transport: None,
            instructions: Vec::new(),
        };
        for expr in &rule.exprs {
            self.expr(expr, &mut code)?;
        }
        Ok(CompiledRule {
            instructions: code.instructions,
            comment: rule.comment.clone(),
        })
    }

    fn expr(&self, expr: &Expr, code: &mut Code) -> Result<(), Error> {
        match expr {
            Expr::Accept => code.verdict(libc::NF_ACCEPT, None),
            Expr::Counter => code.add(Instruction::Counter),
            Expr::CtState(states) => {
                code.add(Instruction::Ct(libc::NFT_CT_STATE.cast_unsigned()));
                code.mask(states.0, 0);
                code.compare(Compare::NotEqual, &[0; 4]);
            }
            Expr::Destination(prefix) => self.prefix(Side::Destination, prefix, true, code)?,
            Expr::DestinationIn(set) => self.lookup(Side::Destination, set, false, code)?,
            Expr::DestinationLocal => code.local(Compare::Equal),
            Expr::DestinationNot(prefix) => self.prefix(Side::Destination, prefix, false, code)?,
            Expr::DestinationNotIn(set) => self.lookup(Side::Destination, set, true, code)?,
            Expr::DestinationNotLocal => code.local(Compare::NotEqual),
            Expr::DestinationPort(transport, ports) => code.ports(2, *transport, ports),
            Expr::Drop => code.verdict(libc::NF_DROP, None),
            Expr::Goto(chain) => code.verdict(libc::NFT_GOTO, Some(self.known_chain(chain)?)),
            Expr::InterfaceIn(pattern) => code.interface(IIFNAME, Compare::Equal, pattern),
            Expr::InterfaceInNot(pattern) => code.interface(IIFNAME, Compare::NotEqual, pattern),
            Expr::InterfaceOut(pattern) => code.interface(OIFNAME, Compare::Equal, pattern),
            Expr::InterfaceOutNot(pattern) => code.interface(OIFNAME, Compare::NotEqual, pattern),
            Expr::Jump(chain) => code.verdict(libc::NFT_JUMP, Some(self.known_chain(chain)?)),
            Expr::Mark { value, mask } => code.mark(*value, *mask, Compare::Equal),
            Expr::MarkNot { value, mask } => code.mark(*value, *mask, Compare::NotEqual),
            Expr::Masquerade(ports) => code.add(Instruction::Masquerade(masquerade_flags(*ports))),
            Expr::Notrack => code.add(Instruction::Notrack),
            Expr::Protocol(protocol) => code.protocol(*protocol),
            Expr::ProtocolNot(protocol) => {
                code.add(Instruction::Meta(L4PROTO));
                code.compare(Compare::NotEqual, &[protocol.0]);
            }
            Expr::Return => code.verdict(libc::NFT_RETURN, None),
            Expr::SetMark { value, mask } => code.set_mark(*value, *mask),
            Expr::Source(prefix) => self.prefix(Side::Source, prefix, true, code)?,
            Expr::SourceIn(set) => self.lookup(Side::Source, set, false, code)?,
            Expr::SourceNot(prefix) => self.prefix(Side::Source, prefix, false, code)?,
            Expr::SourceNotIn(set) => self.lookup(Side::Source, set, true, code)?,
            Expr::SourcePort(transport, ports) => code.ports(0, *transport, ports),
        }
        Ok(())
    }

    fn prefix(
        &self,
        side: Side,
        prefix: &IpNetwork,
        equal: bool,
        code: &mut Code,
    ) -> Result<(), Error> {
        let kind = kind_of(prefix);
        self.sees(kind, || format!("prefix {prefix}"))?;
        code.prefix(side, kind, prefix, equal);
        Ok(())
    }

    fn lookup(&self, side: Side, name: &str, invert: bool, code: &mut Code) -> Result<(), Error> {
        let Some(set) = self.table.sets.iter().find(|set| set.name == name) else {
            return Err(self.unknown("set", name));
        };
        code.address(side, set.kind, address_length(set.kind));
        code.add(Instruction::Lookup {
            set: name.to_owned(),
            invert,
        });
        Ok(())
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

/// The instructions of one rule, and what the rule has made sure of so far: `nft` checks a protocol only once too.
struct Code {
    table: Family,
    network: Option<SetKind>,
    transport: Option<Protocol>,
    instructions: Vec<Instruction>,
}

impl Code {
    fn add(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    fn compare(&mut self, op: Compare, data: &[u8]) {
        self.add(Instruction::Compare {
            op,
            data: data.to_vec(),
        });
    }

    fn mask(&mut self, mask: u32, xor: u32) {
        self.add(Instruction::Bitwise {
            mask: mask.to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.add(Instruction::Verdict {
            code,
            chain: chain.map(str::to_owned),
        });
    }

    /// Loads the first bytes of an address, after making sure that the packet has one of that family.
    fn address(&mut self, side: Side, kind: SetKind, length: u32) {
        if self.table == Family::Inet && self.network != Some(kind) {
            self.network = Some(kind);
            let protocol = match kind {
                SetKind::Ipv4 => libc::NFPROTO_IPV4,
                SetKind::Ipv6 => libc::NFPROTO_IPV6,
            };
            self.add(Instruction::Meta(NFPROTO));
            // One byte, as the register holds it.
            self.compare(
                Compare::Equal,
                &[u8::try_from(protocol).unwrap_or_default()],
            );
        }
        let offset = match (kind, side) {
            (SetKind::Ipv4, Side::Source) => 12,
            (SetKind::Ipv4, Side::Destination) => 16,
            (SetKind::Ipv6, Side::Source) => 8,
            (SetKind::Ipv6, Side::Destination) => 24,
        };
        self.add(Instruction::Payload {
            base: NETWORK_HEADER,
            offset,
            length,
        });
    }

    /// A prefix of whole bytes is a shorter load; any other needs a mask.
    fn prefix(&mut self, side: Side, kind: SetKind, prefix: &IpNetwork, equal: bool) {
        let op = if equal {
            Compare::Equal
        } else {
            Compare::NotEqual
        };
        let address = octets(prefix.network());
        let bits = prefix.prefix();
        if bits > 0 && bits.is_multiple_of(8) {
            let length = bits / 8;
            self.address(side, kind, u32::from(length));
            self.compare(op, address.get(..usize::from(length)).unwrap_or(&address));
            return;
        }
        self.address(side, kind, address_length(kind));
        self.add(Instruction::Bitwise {
            mask: octets(prefix.mask()),
            xor: vec![0; address.len()],
        });
        self.compare(op, &address);
    }

    fn local(&mut self, op: Compare) {
        self.add(Instruction::Fib {
            result: NFT_FIB_RESULT_ADDRTYPE,
            flags: NFTA_FIB_F_DADDR,
        });
        self.compare(op, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    fn protocol(&mut self, protocol: Protocol) {
        if self.transport == Some(protocol) {
            return;
        }
        self.transport = Some(protocol);
        self.add(Instruction::Meta(L4PROTO));
        self.compare(Compare::Equal, &[protocol.0]);
    }

    fn ports(&mut self, offset: u32, transport: Transport, ports: &RangeInclusive<u16>) {
        self.protocol(transport.into());
        self.add(Instruction::Payload {
            base: TRANSPORT_HEADER,
            offset,
            length: 2,
        });
        let (first, last) = (ports.start().to_be_bytes(), ports.end().to_be_bytes());
        if first == last {
            self.compare(Compare::Equal, &first);
        } else {
            self.compare(Compare::GreaterOrEqual, &first);
            self.compare(Compare::LessOrEqual, &last);
        }
    }

    /// The register holds a name padded with zeros to 16 bytes; the beginning of one is a shorter comparison.
    fn interface(&mut self, key: u32, op: Compare, pattern: &InterfacePattern) {
        self.add(Instruction::Meta(key));
        let mut name = pattern.name().as_bytes().to_vec();
        if !pattern.is_prefix() {
            name.resize(libc::IFNAMSIZ, 0);
        }
        self.compare(op, &name);
    }

    fn mark(&mut self, value: u32, mask: u32, op: Compare) {
        self.add(Instruction::Meta(MARK));
        if mask != u32::MAX {
            self.mask(mask, 0);
        }
        self.compare(op, &value.to_ne_bytes());
    }

    fn set_mark(&mut self, value: u32, mask: u32) {
        if mask == u32::MAX {
            self.add(Instruction::Immediate(value.to_ne_bytes().to_vec()));
        } else {
            self.add(Instruction::Meta(MARK));
            self.mask(!mask, value & mask);
        }
        self.add(Instruction::SetMeta(MARK));
    }
}

/// Which of a packet's two addresses.
#[derive(Clone, Copy)]
enum Side {
    Destination,
    Source,
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

const fn kind_of(prefix: &IpNetwork) -> SetKind {
    match prefix {
        IpNetwork::V4(_) => SetKind::Ipv4,
        IpNetwork::V6(_) => SetKind::Ipv6,
    }
}

const fn address_length(kind: SetKind) -> u32 {
    match kind {
        SetKind::Ipv4 => 4,
        SetKind::Ipv6 => 16,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `NFT_NAME_MAXLEN` without the NUL at the end.
const MAX_NAME: usize = 255;
/// What `nft` takes (`NFTNL_UDATA_COMMENT_MAXLEN`).
const MAX_COMMENT: usize = 128;
/// `TYPE_IPADDR` and `TYPE_IP6ADDR` of `nft`: how `nft list` knows to print the elements as addresses.
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;

// linux/netfilter/nf_tables.h
const NFT_SET_INTERVAL: u32 = libc::NFT_SET_INTERVAL.cast_unsigned();
const NETWORK_HEADER: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER.cast_unsigned();
const TRANSPORT_HEADER: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER.cast_unsigned();
const MARK: u32 = libc::NFT_META_MARK.cast_unsigned();
const IIFNAME: u32 = libc::NFT_META_IIFNAME.cast_unsigned();
const OIFNAME: u32 = libc::NFT_META_OIFNAME.cast_unsigned();
const NFPROTO: u32 = libc::NFT_META_NFPROTO.cast_unsigned();
const L4PROTO: u32 = libc::NFT_META_L4PROTO.cast_unsigned();
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 0x2;
// linux/netfilter/nf_nat.h
const NF_NAT_RANGE_PROTO_RANDOM: u32 = 0x4;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 0x10;

#[cfg(test)]
mod tests;
