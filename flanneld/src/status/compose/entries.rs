//! What of the leases is not used, as the report puts it.

use ipam::Cidr;

use super::texts;
use crate::network::peers::{LeftOut, Unusable};
use crate::status::report::{self, EntryUse, LeftOutCode, LeftOutPart};
use crate::store;

pub(super) fn unreadable(entry: &store::Unreadable) -> report::Unreadable {
    report::Unreadable {
        entry: entry.key.clone(),
        subnets: entry
            .lease
            .map_or_else(Vec::new, |key| texts(key.subnets())),
        later: match &entry.used {
            store::Used::Duplicate { later } => Some(later.clone()),
            _ => None,
        },
        used: match entry.used {
            store::Used::Nothing => EntryUse::Nothing,
            store::Used::InPart => EntryUse::InPart,
            store::Used::Former => EntryUse::Former,
            store::Used::NotOurs => EntryUse::NotOurs,
            store::Used::Duplicate { .. } => EntryUse::Duplicate,
        },
        reason: entry.reason.clone(),
    }
}

pub(super) fn parts(left_out: &LeftOut) -> Vec<LeftOutPart> {
    let part = |(subnet, reason): &(Option<Cidr>, Unusable)| LeftOutPart {
        subnet: subnet.map(|subnet| subnet.to_string()),
        code: code_of(reason),
    };
    left_out.parts.iter().map(part).collect()
}

const fn code_of(reason: &Unusable) -> LeftOutCode {
    match reason {
        Unusable::ForeignBackend { .. } => LeftOutCode::ForeignBackend,
        Unusable::Lacks { .. } => LeftOutCode::Lacks,
        Unusable::NoHostAddress(_) => LeftOutCode::NoHostAddress,
        Unusable::NotANeighbour { .. } => LeftOutCode::NotANeighbour,
        Unusable::OverlapsOurs { .. } => LeftOutCode::OverlapsOurs,
        Unusable::OverlapsPeer { .. } => LeftOutCode::OverlapsPeer,
        Unusable::ClaimsOurs { .. } => LeftOutCode::ClaimsOurs,
        Unusable::ClaimsPeers { .. } => LeftOutCode::ClaimsPeers,
        Unusable::OutsideNetwork { .. } => LeftOutCode::OutsideNetwork,
    }
}
