//! Which subnets a node takes, given all leases: the decisions, without any I/O.

use ipam::choose::free_subnet;
use ipam::{IpCidr, LeaseBackend, LeaseKey, LeaseRecord, SubnetPlan, SubnetRange, Subnets};

use super::Origin;

/// Up to this many values of an octet are guarded one by one, more by one guard for all values. Etcd takes 128 comparisons in a
/// transaction.
const MOST_OCTETS: u32 = 64;

/// So many records that we wrote are known again in an etcd that was restored from a backup.
const MOST_PAST: usize = 16;

/// An entry of the store whose key is a lease key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The subnets. They are taken whatever the record says.
    pub(crate) key: LeaseKey,
    /// The record, or why it cannot be read.
    pub(crate) record: Result<LeaseRecord, String>,
    /// The store's revision of this version.
    pub(crate) revision: i64,
    /// The store's revision at which the entry came into being.
    pub(crate) created: i64,
    /// The store's time limit on which the entry hangs; 0 for none, which makes it a reservation.
    pub(crate) grant: i64,
}

impl Entry {
    /// Kept by an operator for whoever has the public address in it; it does not expire and is not ours to remove.
    pub(crate) fn is_reservation(&self) -> bool {
        self.grant == 0
    }

    /// Whether it names the same host as `own`. The public IPv4 address decides, as with flannel; the IPv6 address only on
    /// hosts that have no other.
    fn is_of(&self, own: &LeaseRecord) -> bool {
        let Ok(record) = &self.record else {
            return false;
        };
        match (own.public.v4, own.public.v6) {
            (Some(v4), _) => record.public.v4 == Some(v4),
            (None, Some(v6)) => record.public.v4.is_none() && record.public.v6 == Some(v6),
            (None, None) => false,
        }
    }
}

/// What to do for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The lease to take.
    pub(crate) claim: Claim,
    /// Leases of ours that do not fit the network configuration any more: to be removed in the same step.
    pub(crate) withdraw: Vec<Entry>,
    /// Reservations for us that do not fit. They stay; somebody should be told.
    pub(crate) unfit: Vec<Entry>,
}

/// The lease to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// One that stands there for us.
    Reuse(Entry),
    /// A new one.
    Create(LeaseKey, Origin),
}

/// Nothing is free in this range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) String);

/// Decides how the host of `own` comes to its subnets, `entries` being all leases there are and `previous` the subnets it
/// had before.
pub(crate) fn decide(
    plan: &SubnetPlan,
    entries: &[Entry],
    own: &LeaseRecord,
    previous: Option<&Subnets>,
    mut random: impl FnMut() -> u64,
) -> Result<Decision, Full> {
    let (ours, others): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| entry.is_of(own));
    let (fitting, rest): (Vec<&Entry>, Vec<&Entry>) = ours
        .into_iter()
        .partition(|entry| fits(plan, &entry.key.subnets()));
    let (unfit, withdraw): (Vec<&Entry>, Vec<&Entry>) =
        rest.into_iter().partition(|entry| entry.is_reservation());

    let best = fitting.into_iter().min_by_key(|entry| {
        let held_before = previous == Some(&entry.key.subnets());
        (!entry.is_reservation(), !held_before)
    });
    let claim = match best {
        Some(entry) => Claim::Reuse(entry.clone()),
        None => {
            let taken: Vec<Subnets> = others
                .iter()
                .chain(&unfit)
                .map(|entry| entry.key.subnets())
                .collect();
            let wanted: Vec<Subnets> = withdraw
                .iter()
                .map(|entry| entry.key.subnets())
                .chain(previous.copied())
                .collect();
            create(plan, &taken, &wanted, &mut random)?
        }
    };
    Ok(Decision {
        claim,
        withdraw: withdraw.into_iter().cloned().collect(),
        unfit: unfit.into_iter().cloned().collect(),
    })
}

/// Whether the subnets are those of a node under this plan: of the right families, lengths and ranges.
fn fits(plan: &SubnetPlan, subnets: &Subnets) -> bool {
    let v4 = match (&plan.v4, subnets.v4) {
        (Some(range), Some(subnet)) => range.contains(subnet),
        (range, subnet) => range.is_none() && subnet.is_none(),
    };
    let v6 = match (&plan.v6, subnets.v6) {
        (Some(range), Some(subnet)) => range.contains(subnet),
        (range, subnet) => range.is_none() && subnet.is_none(),
    };
    v4 && v6
}

fn create(
    plan: &SubnetPlan,
    taken: &[Subnets],
    wanted: &[Subnets],
    random: &mut impl FnMut() -> u64,
) -> Result<Claim, Full> {
    let taken_v4: Vec<_> = taken.iter().filter_map(|subnets| subnets.v4).collect();
    let taken_v6: Vec<_> = taken.iter().filter_map(|subnets| subnets.v6).collect();
    // Each family by itself: a host that gets its second family keeps the subnet of the first.
    let wanted_v4 = wanted.iter().filter_map(|subnets| subnets.v4);
    let wanted_v6 = wanted.iter().filter_map(|subnets| subnets.v6);
    let v4 = pick(plan.v4.as_ref(), &taken_v4, wanted_v4, random)?;
    let v6 = pick(plan.v6.as_ref(), &taken_v6, wanted_v6, random)?;
    let all_wanted = v4.is_none_or(|(_, wanted)| wanted) && v6.is_none_or(|(_, wanted)| wanted);
    let subnets = Subnets {
        v4: v4.map(|(subnet, _)| subnet),
        v6: v6.map(|(subnet, _)| subnet),
    };
    let key = LeaseKey::new(subnets).ok_or_else(|| Full("no network at all".to_owned()))?;
    let origin = if all_wanted {
        Origin::Previous
    } else {
        Origin::Chosen
    };
    Ok(Claim::Create(key, origin))
}

/// A free subnet of a family that is in use, and whether it is a wanted one.
fn pick<C: IpCidr>(
    range: Option<&SubnetRange<C>>,
    taken: &[C],
    mut wanted: impl Iterator<Item = C>,
    random: &mut impl FnMut() -> u64,
) -> Result<Option<(C, bool)>, Full> {
    let Some(range) = range else {
        return Ok(None);
    };
    let free = |subnet: C| !taken.iter().any(|other| other.overlaps(subnet));
    if let Some(subnet) = wanted.find(|subnet| range.contains(*subnet) && free(*subnet)) {
        return Ok(Some((subnet, true)));
    }
    match free_subnet(range, taken.iter().copied(), random) {
        Some(subnet) => Ok(Some((subnet, false))),
        None => Err(Full(range.network.to_string())),
    }
}

/// The first entry whose subnets overlap `subnets`, other than the entry of exactly these.
pub(crate) fn overlapping<'a>(entries: &'a [Entry], subnets: &Subnets) -> Option<&'a Entry> {
    entries.iter().find(|entry| {
        let other = entry.key.subnets();
        other != *subnets && other.overlap(subnets)
    })
}

/// Beginnings of lease keys such that the key of every lease that overlaps `subnets` has one of them. A new lease is safe
/// when no key with one of these beginnings was created since the listing on which it was chosen.
///
/// With IPv4 alone they name little more than the subnet itself, so hosts that take different subnets do not disturb each
/// other. IPv6 subnets stand behind the IPv4 ones in a key and cannot be found by its beginning: then it is every key.
pub(crate) fn rivals(subnets: &Subnets) -> Vec<String> {
    let (Some(v4), None) = (subnets.v4, subnets.v6) else {
        return vec![String::new()];
    };
    let mut beginnings: Vec<String> = (0..v4.prefix())
        .filter_map(|prefix| ipam::Ipv4Cidr::masked(v4.network(), prefix).ok())
        .map(|around| format!("{}-{}", around.network(), around.prefix()))
        .collect();
    beginnings.extend(within(v4.network().octets(), v4.prefix()));
    beginnings
}

/// Beginnings of the texts of all addresses with this prefix, and of a few others.
fn within(octets: [u8; 4], prefix: u8) -> Vec<String> {
    let whole = usize::from(prefix / 8).min(3);
    let beginning: String = octets[..whole]
        .iter()
        .map(|octet| format!("{octet}."))
        .collect();
    let alternatives = 1u32 << (8 - prefix % 8);
    if whole == 3 || alternatives > MOST_OCTETS {
        return vec![beginning];
    }
    let first = u32::from(octets[whole]);
    (first..first + alternatives)
        .map(|octet| format!("{beginning}{octet}."))
        .collect()
}

/// To whom the entry under our key belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// To us: it says what we wrote or would write, though perhaps another program wrote it.
    Ours,
    /// To nobody.
    Gone,
    /// To another, in words.
    Foreign(String),
}

/// What a host knows of the entry under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// What we wrote, or tried to write without hearing the answer, since that was last made sure of.
    pub(crate) written: Vec<LeaseRecord>,
    /// What we wrote before that, the latest last; not without end.
    pub(crate) past: Vec<LeaseRecord>,
    /// The revision of the entry when we last made sure of it.
    pub(crate) revision: i64,
}

impl Known {
    /// A host that has just come to its lease; the revision is not known yet.
    pub(crate) fn new(record: LeaseRecord) -> Self {
        Self {
            written: vec![record],
            past: Vec::new(),
            revision: i64::MAX,
        }
    }

    /// A write of `record` begins, whose answer may get lost.
    pub(crate) fn attempt(&mut self, record: &LeaseRecord) {
        if !self.written.contains(record) {
            self.written.push(record.clone());
        }
    }

    /// The entry says `record` and has this revision.
    pub(crate) fn confirm(&mut self, record: &LeaseRecord, revision: i64) {
        for before in self.written.drain(..).filter(|before| before != record) {
            self.past.push(before);
        }
        self.past.drain(..self.past.len().saturating_sub(MOST_PAST));
        self.written.push(record.clone());
        self.revision = revision;
    }

    /// Judges the entry under our key; `desired` is what we would write there.
    pub(crate) fn standing(&self, entry: Option<&Entry>, desired: &LeaseRecord) -> Standing {
        let Some(entry) = entry else {
            return Standing::Gone;
        };
        match &entry.record {
            Err(reason) => Standing::Foreign(format!("it cannot be read: {reason}")),
            Ok(record) if self.is_ours(entry, record, desired) => Standing::Ours,
            Ok(record) => Standing::Foreign(format!("it now says {record}")),
        }
    }

    fn is_ours(&self, entry: &Entry, record: &LeaseRecord, desired: &LeaseRecord) -> bool {
        // Of another host only what it says now counts: two hosts with the same public address, by mistake, would otherwise
        // write over each other for ever.
        let of_us = || entry.is_of(desired) || self.written.iter().any(|own| entry.is_of(own));
        // An older version than ours is there: etcd went back to a backup.
        let older = entry.revision < self.revision;
        // As an operator writes it.
        let bare = entry.is_reservation() && record.backend == LeaseBackend::Unnamed;
        self.written.contains(record)
            || record == desired
            || bare && of_us()
            || older && of_us()
            // A lease that an operator made a reservation may say what we said then.
            || (older || entry.is_reservation()) && self.past.contains(record)
    }
}

#[cfg(test)]
mod tests;
