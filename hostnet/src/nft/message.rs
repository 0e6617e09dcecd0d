//! The messages of a transaction: what is changed, in order, and its wire form.
//!
//! A transaction is one datagram: a message that begins the batch, the changes, and one that ends it. The kernel applies
//! all of them or none, and packets see either the old ruleset or the new one.

use std::fmt;

use crate::attr::Writer;

use super::{
    compiled::{CompiledChain, CompiledRule, CompiledSet, CompiledTable, Element},
    ruleset::Family,
};

/// One change of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Change<'a> {
    /// Fine when there is one already, which then stays as it is.
    AddTable(&'a CompiledTable),
    AddTableNamed(Family, &'a str),
    DeleteTable(Family, &'a str),
    AddSet(&'a CompiledTable, &'a str, &'a CompiledSet),
    FlushSet(&'a CompiledTable, &'a str),
    AddElements(&'a CompiledTable, &'a str, Vec<Element>),
    AddChain(&'a CompiledTable, &'a str, &'a CompiledChain),
    /// Deletes the rules of all chains.
    FlushRules(&'a CompiledTable),
    /// Appends; the number is the rule's place in the chain, for the error text.
    AddRule(&'a CompiledTable, &'a str, usize, &'a CompiledRule),
}

/// Names the object in the words of `nft`.
impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable(table) => write!(f, "table {}", table.title()),
            Self::AddTableNamed(family, name) => write!(f, "table {family} {name}"),
            Self::DeleteTable(family, name) => write!(f, "deletion of table {family} {name}"),
            Self::AddSet(table, name, _) => write!(f, "set {} {name}", table.title()),
            Self::FlushSet(table, name) => {
                write!(f, "removal of the elements of set {} {name}", table.title())
            }
            Self::AddElements(table, name, ..) => {
                write!(f, "elements of set {} {name}", table.title())
            }
            Self::AddChain(table, name, _) => write!(f, "chain {} {name}", table.title()),
            Self::FlushRules(table) => write!(f, "removal of the rules of table {}", table.title()),
            Self::AddRule(table, chain, place, rule) => {
                write!(f, "rule {place} of chain {} {chain}", table.title())?;
                match &rule.comment {
                    Some(comment) => write!(f, " (\"{comment}\")"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Change<'_> {
    fn write(&self, writer: &mut Writer, sequence: u32, acknowledge: bool) {
        let (kind, flags, family) = self.header();
        let acknowledge = if acknowledge { NLM_F_ACK } else { 0 };
        writer.message(
            message_type(kind),
            NLM_F_REQUEST | flags | acknowledge,
            sequence,
            &header(family_number(family), 0),
            |body| self.write_body(body),
        );
    }

    const fn header(&self) -> (u8, u16, Family) {
        match self {
            Self::AddTable(table) => (NFT_MSG_NEWTABLE, NLM_F_CREATE, table.family),
            Self::AddTableNamed(family, _) => (NFT_MSG_NEWTABLE, NLM_F_CREATE, *family),
            Self::DeleteTable(family, _) => (NFT_MSG_DELTABLE, 0, *family),
            Self::AddSet(table, ..) => (NFT_MSG_NEWSET, NLM_F_CREATE, table.family),
            Self::FlushSet(table, _) => (NFT_MSG_DELSETELEM, 0, table.family),
            Self::AddElements(table, ..) => (NFT_MSG_NEWSETELEM, NLM_F_CREATE, table.family),
            Self::AddChain(table, ..) => (NFT_MSG_NEWCHAIN, NLM_F_CREATE, table.family),
            Self::FlushRules(table) => (NFT_MSG_DELRULE, 0, table.family),
            Self::AddRule(table, ..) => {
                (NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, table.family)
            }
        }
    }

    fn write_body(&self, body: &mut Writer) {
        match self {
            Self::AddTable(table) => {
                body.put_text(NFTA_TABLE_NAME, &table.name);
                if let Some(comment) = &table.comment {
                    body.put(NFTA_TABLE_USERDATA, &userdata(comment));
                }
            }
            Self::AddTableNamed(_, name) | Self::DeleteTable(_, name) => {
                body.put_text(NFTA_TABLE_NAME, name);
            }
            Self::AddSet(table, name, set) => {
                body.put_text(NFTA_SET_TABLE, &table.name);
                body.put_text(NFTA_SET_NAME, name);
                body.put_be_u32(NFTA_SET_FLAGS, set.flags);
                body.put_be_u32(NFTA_SET_KEY_TYPE, set.key_type);
                body.put_be_u32(NFTA_SET_KEY_LEN, set.key_length);
                if let Some((kind, length)) = set.data {
                    body.put_be_u32(NFTA_SET_DATA_TYPE, kind);
                    body.put_be_u32(NFTA_SET_DATA_LEN, length);
                }
                // Other messages of the batch may name the set by this number; ours use its name.
                body.put_be_u32(NFTA_SET_ID, 1);
                body.put(NFTA_SET_USERDATA, SET_USERDATA);
            }
            Self::FlushSet(table, name) => {
                body.put_text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
                body.put_text(NFTA_SET_ELEM_LIST_SET, name);
            }
            Self::AddElements(table, name, elements) => {
                body.put_text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
                body.put_text(NFTA_SET_ELEM_LIST_SET, name);
                body.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                    for element in elements {
                        list.nest(NFTA_LIST_ELEM, |item| write_element(item, element));
                    }
                });
            }
            Self::AddChain(table, name, chain) => {
                body.put_text(NFTA_CHAIN_TABLE, &table.name);
                body.put_text(NFTA_CHAIN_NAME, name);
                if let Some(hook) = &chain.hook {
                    body.put_text(NFTA_CHAIN_TYPE, &hook.kind);
                    body.put_be_u32(NFTA_CHAIN_POLICY, hook.policy);
                    body.nest(NFTA_CHAIN_HOOK, |nested| {
                        nested.put_be_u32(NFTA_HOOK_HOOKNUM, hook.hook);
                        nested.put_be_u32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
                    });
                }
            }
            Self::FlushRules(table) => body.put_text(NFTA_RULE_TABLE, &table.name),
            Self::AddRule(table, chain, _, rule) => {
                body.put_text(NFTA_RULE_TABLE, &table.name);
                body.put_text(NFTA_RULE_CHAIN, chain);
                body.nest(NFTA_RULE_EXPRESSIONS, |list| {
                    for instruction in &rule.instructions {
                        list.nest(NFTA_LIST_ELEM, |item| instruction.encode(item));
                    }
                });
                if let Some(comment) = &rule.comment {
                    body.put(NFTA_RULE_USERDATA, &userdata(comment));
                }
            }
        }
    }
}

fn write_element(item: &mut Writer, element: &Element) {
    item.nest(NFTA_SET_ELEM_KEY, |key| {
        key.put(NFTA_DATA_VALUE, &element.key);
    });
    if let Some(data) = &element.data {
        item.nest(NFTA_SET_ELEM_DATA, |value| value.put(NFTA_DATA_VALUE, data));
    }
    if element.end {
        item.put_be_u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
    }
}

/// The datagram of a transaction.
///
/// `first` is the first of `changes.len() + 2` sequence numbers. With a `generation` the kernel refuses the transaction
/// (`ERESTART`) when the ruleset is not of that generation any more. The acknowledgement is asked for on the last change:
/// the end of a batch is not acknowledged before Linux 6.10.
pub(super) fn transaction(changes: &[Change<'_>], first: u32, generation: Option<u32>) -> Writer {
    let mut writer = trial(changes, first, generation);
    let end = u32::try_from(changes.len() + 1).unwrap_or(u32::MAX);
    writer.message(
        NFNL_MSG_BATCH_END,
        NLM_F_REQUEST,
        first.wrapping_add(end),
        &header(AF_UNSPEC, NFNL_SUBSYS_NFTABLES),
        |_| {},
    );
    writer
}

/// A transaction without its end: the kernel checks all of it, answers, and then applies nothing.
pub(super) fn trial(changes: &[Change<'_>], first: u32, generation: Option<u32>) -> Writer {
    let mut writer = Writer::new();
    // For batches the field that dumps use otherwise names the subsystem.
    let header = header(AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    writer.message(
        NFNL_MSG_BATCH_BEGIN,
        NLM_F_REQUEST,
        first,
        &header,
        |body| {
            if let Some(generation) = generation {
                body.put_be_u32(NFNL_BATCH_GENID, generation);
            }
        },
    );
    let mut sequence = first;
    for (place, change) in changes.iter().enumerate() {
        sequence = sequence.wrapping_add(1);
        change.write(&mut writer, sequence, place + 1 == changes.len());
    }
    writer
}

/// A question: a table, or the list of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query<'a> {
    /// The chains of all tables of the family; the kernel cannot select.
    Chains(Family),
    /// The elements of one set.
    Elements(Family, &'a str, &'a str),
    /// The number of the ruleset's generation: it changes with every transaction.
    Generation,
    /// The rules of all chains of the table, in their order.
    Rules(Family, &'a str),
    /// The sets of the table.
    Sets(Family, &'a str),
    /// The table itself.
    Table(Family, &'a str),
}

impl fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chains(family) => write!(f, "the {family} chains"),
            Self::Elements(family, table, set) => {
                write!(f, "the elements of set {family} {table} {set}")
            }
            Self::Generation => f.write_str("its generation number"),
            Self::Rules(family, table) => {
                write!(f, "the rules of table {family} {table}")
            }
            Self::Sets(family, table) => write!(f, "the sets of table {family} {table}"),
            Self::Table(family, table) => write!(f, "table {family} {table}"),
        }
    }
}

impl Query<'_> {
    /// Whether the answer is a list, ended by a message of its own.
    pub(super) const fn is_dump(self) -> bool {
        !matches!(self, Self::Generation | Self::Table(..))
    }

    pub(super) fn write(self, sequence: u32) -> Writer {
        let (kind, family) = match self {
            Self::Chains(family) => (NFT_MSG_GETCHAIN, family_number(family)),
            Self::Elements(family, ..) => (NFT_MSG_GETSETELEM, family_number(family)),
            Self::Generation => (NFT_MSG_GETGEN, AF_UNSPEC),
            Self::Rules(family, _) => (NFT_MSG_GETRULE, family_number(family)),
            Self::Sets(family, _) => (NFT_MSG_GETSET, family_number(family)),
            Self::Table(family, _) => (NFT_MSG_GETTABLE, family_number(family)),
        };
        let dump = if self.is_dump() { NLM_F_DUMP } else { 0 };
        let mut writer = Writer::new();
        writer.message(
            message_type(kind),
            NLM_F_REQUEST | dump,
            sequence,
            &header(family, 0),
            |body| match self {
                Self::Chains(_) | Self::Generation => {}
                Self::Elements(_, table, set) => {
                    body.put_text(NFTA_SET_ELEM_LIST_TABLE, table);
                    body.put_text(NFTA_SET_ELEM_LIST_SET, set);
                }
                Self::Rules(_, table) => body.put_text(NFTA_RULE_TABLE, table),
                Self::Sets(_, table) => body.put_text(NFTA_SET_TABLE, table),
                Self::Table(_, table) => body.put_text(NFTA_TABLE_NAME, table),
            },
        );
        writer
    }
}

/// `struct nfgenmsg`
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

const fn message_type(kind: u8) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | kind as u16
}

pub(super) const fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Bridge => 7,
        Family::Ip6 => 10,
    }
}

/// A comment as `nft` keeps it with tables and rules: type 0 (`NFTNL_UDATA_RULE_COMMENT`), length, text, NUL.
fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![UDATA_COMMENT, length];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}

/// What `nft` keeps with a set to know the byte order of its keys: `NFTNL_UDATA_SET_KEYBYTEORDER`, 4 bytes, big-endian.
const SET_USERDATA: &[u8] = &{
    let [a, b, c, d] = 2_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

/// How many elements go into one message: its length must fit into 16 bits.
pub(super) const ELEMENTS_PER_MESSAGE: usize = 500;

pub(super) const UDATA_COMMENT: u8 = 0;

// linux/netlink.h
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const AF_UNSPEC: u8 = 0;

// linux/netfilter/nfnetlink.h
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;

// linux/netfilter/nf_tables.h
const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_GETTABLE: u8 = 1;
const NFT_MSG_DELTABLE: u8 = 2;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_GETCHAIN: u8 = 4;
const NFT_MSG_NEWRULE: u8 = 6;
const NFT_MSG_GETRULE: u8 = 7;
const NFT_MSG_DELRULE: u8 = 8;
const NFT_MSG_NEWSET: u8 = 9;
const NFT_MSG_GETSET: u8 = 10;
const NFT_MSG_NEWSETELEM: u8 = 12;
const NFT_MSG_GETSETELEM: u8 = 13;
const NFT_MSG_DELSETELEM: u8 = 14;
const NFT_MSG_GETGEN: u8 = 16;
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_TABLE_USERDATA: u16 = 6;
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
pub(super) const NFTA_CHAIN_TYPE: u16 = 7;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_RULE_USERDATA: u16 = 7;
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
pub(super) const NFTA_SET_DATA_TYPE: u16 = 6;
pub(super) const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFT_SET_ELEM_INTERVAL_END: u32 = 0x1;

#[cfg(test)]
mod tests;
