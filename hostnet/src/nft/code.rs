//! The code of one rule while it is written, instruction by instruction.

use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use nix::libc;

use super::{
    instruction::{Compare, Instruction},
    ports::octets,
    ruleset::{CtState, Family, InterfacePattern, Protocol, SetKind, Transport},
};
use crate::mac::Mac;

/// The instructions of one rule, and what the rule has made sure of so far: `nft` checks a protocol only once too.
#[derive(Debug)]
pub(super) struct Code {
    table: Family,
    network: Option<SetKind>,
    transport: Option<Protocol>,
    instructions: Vec<Instruction>,
}

impl Code {
    pub(super) const fn new(table: Family) -> Self {
        Self {
            table,
            network: None,
            transport: None,
            instructions: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<Instruction> {
        self.instructions
    }

    pub(super) fn add(&mut self, instruction: Instruction) {
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

    pub(super) fn verdict(&mut self, code: i32, chain: Option<&str>) {
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
    pub(super) fn prefix(&mut self, side: Side, op: Compare, prefix: &IpNetwork) {
        let kind = kind_of(prefix);
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

    /// The Ethernet header has the destination first, then the source, six bytes each.
    pub(super) fn ether_source(&mut self, op: Compare, Mac(octets): Mac) {
        self.add(Instruction::Payload {
            base: LINK_HEADER,
            offset: 6,
            length: 6,
        });
        self.compare(op, &octets);
    }

    pub(super) fn lookup(&mut self, side: Side, kind: SetKind, set: &str, invert: bool) {
        self.address(side, kind, address_length(kind));
        self.add(Instruction::Lookup {
            set: set.to_owned(),
            invert,
        });
    }

    /// Loads protocol and destination port, and before them the destination address if its kind is given, into registers in a row.
    ///
    /// The first part is in register 1, which is the first four of the registers of 32 bits; `nft` names a register by the larger
    /// ones where it begins one of them.
    pub(super) fn ports_key(&mut self, address: Option<SetKind>) {
        let (protocol, port) = match address {
            None => (None, NFT_REG32_00 + 1),
            Some(SetKind::Ipv4) => (Some(NFT_REG32_00 + 1), NFT_REG32_00 + 2),
            Some(SetKind::Ipv6) => (Some(NFT_REG_2), NFT_REG32_00 + 5),
        };
        if let Some(kind) = address {
            self.address(Side::Destination, kind, address_length(kind));
        }
        let load = Instruction::Meta(L4PROTO);
        self.add(match protocol {
            None => load,
            Some(register) => Instruction::Also(register, Box::new(load)),
        });
        let load = Instruction::Payload {
            base: TRANSPORT_HEADER,
            offset: 2,
            length: 2,
        };
        self.add(Instruction::Also(port, Box::new(load)));
    }

    /// To the address and port that a map had, one behind the other.
    pub(super) fn dnat(&mut self, kind: SetKind) {
        let (family, port) = match kind {
            SetKind::Ipv4 => (libc::NFPROTO_IPV4, NFT_REG32_00 + 1),
            SetKind::Ipv6 => (libc::NFPROTO_IPV6, NFT_REG_2),
        };
        let family = family.cast_unsigned();
        self.add(Instruction::Nat { family, port });
    }

    pub(super) fn ct_state(&mut self, states: CtState) {
        self.add(Instruction::Ct(CT_STATE));
        self.mask(states.0, 0);
        self.compare(Compare::NotEqual, &[0; 4]);
    }

    pub(super) fn local(&mut self, op: Compare) {
        self.add(Instruction::Fib {
            result: NFT_FIB_RESULT_ADDRTYPE,
            flags: NFTA_FIB_F_DADDR,
        });
        self.compare(op, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    pub(super) fn protocol(&mut self, protocol: Protocol) {
        if self.transport != Some(protocol) {
            self.transport = Some(protocol);
            self.add(Instruction::Meta(L4PROTO));
            self.compare(Compare::Equal, &[protocol.0]);
        }
    }

    pub(super) fn protocol_not(&mut self, protocol: Protocol) {
        self.add(Instruction::Meta(L4PROTO));
        self.compare(Compare::NotEqual, &[protocol.0]);
    }

    /// Both protocols begin with the source port and have the destination port behind it (RFC 768, RFC 9293).
    pub(super) fn ports(&mut self, side: Side, transport: Transport, ports: &RangeInclusive<u16>) {
        self.protocol(transport.into());
        let offset = match side {
            Side::Source => 0,
            Side::Destination => 2,
        };
        self.transport_bytes(offset, 2);
        let (first, last) = (ports.start().to_be_bytes(), ports.end().to_be_bytes());
        if first == last {
            self.compare(Compare::Equal, &first);
        } else {
            self.compare(Compare::GreaterOrEqual, &first);
            self.compare(Compare::LessOrEqual, &last);
        }
    }

    /// Behind the eight bytes of UDP's header comes a flag that says that there is an identifier, and that four bytes later.
    pub(super) fn vxlan(&mut self, vni: u32) {
        const FLAG: u8 = 0x08;
        self.protocol(Protocol::UDP);
        self.transport_bytes(8, 1);
        self.add(Instruction::Bitwise {
            mask: vec![FLAG],
            xor: vec![0],
        });
        self.compare(Compare::Equal, &[FLAG]);
        self.transport_bytes(12, 3);
        let [_, identifier @ ..] = vni.to_be_bytes();
        self.compare(Compare::Equal, &identifier);
    }

    fn transport_bytes(&mut self, offset: u32, length: u32) {
        self.add(Instruction::Payload {
            base: TRANSPORT_HEADER,
            offset,
            length,
        });
    }

    /// The register holds a name padded with zeros to 16 bytes; the beginning of one is a shorter comparison.
    pub(super) fn interface(&mut self, side: Side, op: Compare, pattern: &InterfacePattern) {
        self.add(Instruction::Meta(match side {
            Side::Source => IIFNAME,
            Side::Destination => OIFNAME,
        }));
        let mut name = pattern.name().as_bytes().to_vec();
        if !pattern.is_prefix() {
            name.resize(libc::IFNAMSIZ, 0);
        }
        self.compare(op, &name);
    }

    pub(super) fn mark(&mut self, value: u32, mask: u32, op: Compare) {
        self.add(Instruction::Meta(MARK));
        if mask != u32::MAX {
            self.mask(mask, 0);
        }
        self.compare(op, &value.to_ne_bytes());
    }

    pub(super) fn set_mark(&mut self, value: u32, mask: u32) {
        if mask == u32::MAX {
            self.add(Instruction::Immediate(value.to_ne_bytes().to_vec()));
        } else {
            self.add(Instruction::Meta(MARK));
            self.mask(!mask, value & mask);
        }
        self.add(Instruction::SetMeta(MARK));
    }
}

/// Which of a packet's two addresses, ports or interfaces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Destination,
    Source,
}

pub(super) const fn kind_of(prefix: &IpNetwork) -> SetKind {
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

// linux/netfilter/nf_tables.h
const LINK_HEADER: u32 = libc::NFT_PAYLOAD_LL_HEADER.cast_unsigned();
const NETWORK_HEADER: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER.cast_unsigned();
const TRANSPORT_HEADER: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER.cast_unsigned();
const MARK: u32 = libc::NFT_META_MARK.cast_unsigned();
const CT_STATE: u32 = libc::NFT_CT_STATE.cast_unsigned();
const IIFNAME: u32 = libc::NFT_META_IIFNAME.cast_unsigned();
const OIFNAME: u32 = libc::NFT_META_OIFNAME.cast_unsigned();
const NFPROTO: u32 = libc::NFT_META_NFPROTO.cast_unsigned();
const L4PROTO: u32 = libc::NFT_META_L4PROTO.cast_unsigned();
const NFT_REG_2: u32 = libc::NFT_REG_2.cast_unsigned();
const NFT_REG32_00: u32 = libc::NFT_REG32_00.cast_unsigned();
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 0x2;
