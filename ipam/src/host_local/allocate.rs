//! Choosing addresses as the plugin chooses them, so that it and this program can take turns in one directory.
//!
//! One address comes from each range set: the one asked for, or the first free one behind the address that was last given,
//! round the set's ranges in their order. The plugin's gateway is the first address of a subnet unless the configuration names
//! another, and is never given.

use std::collections::HashSet;
use std::iter;
use std::net::IpAddr;
use std::time::SystemTime;

use super::{Holder, HostLocal, HostLocalError, Locked, Reservation};
use crate::cidr::Cidr;
use crate::pool::{Owner, Range, RangeError, RangeSpec, check_ranges, from_bits, to_bits};

/// A range of a configuration by the plugin's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PluginRange {
    range: Range,
    gateway: IpAddr,
}

/// The ranges from which an interface gets its addresses, one from each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRanges(Vec<Vec<PluginRange>>);

/// An address that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The address.
    pub address: IpAddr,
    /// The subnet it is of, which has the prefix it is used with.
    pub subnet: Cidr,
    /// The gateway of that subnet.
    pub gateway: IpAddr,
}

impl PluginRange {
    /// The range a configuration means. Unlike the pool, the plugin takes a gateway from anywhere.
    fn new(spec: RangeSpec) -> Result<Self, RangeError> {
        let subnet = spec.subnet;
        let gateway = spec
            .gateway
            .unwrap_or(subnet.first_address())
            .to_canonical();
        let longest = subnet.address_bits() - 2;
        if subnet.prefix() > longest {
            return Err(RangeError::TooSmall { subnet, longest });
        }
        let within = Some(gateway).filter(|&gateway| subnet.contains(gateway));
        let spec = RangeSpec {
            gateway: within,
            ..spec
        };
        let range = spec.routed()?;
        Ok(Self { range, gateway })
    }

    /// How many addresses can be given at all.
    fn count(&self) -> u128 {
        let (start, end) = self.range.bits();
        let gateway = u128::from(self.range.contains(self.gateway));
        (end - start).saturating_add(1) - gateway
    }

    fn given(&self, address: IpAddr) -> Given {
        Given {
            address,
            subnet: self.range.subnet(),
            gateway: self.gateway,
        }
    }
}

impl PluginRanges {
    /// The range sets of a configuration.
    ///
    /// # Errors
    ///
    /// [`RangeError`] for ranges that are too small, empty, of mixed families or in each other's way.
    pub fn new(sets: &[Vec<RangeSpec>]) -> Result<Self, RangeError> {
        let set = |specs: &Vec<RangeSpec>| specs.iter().copied().map(PluginRange::new).collect();
        let sets: Vec<Vec<PluginRange>> = sets.iter().map(set).collect::<Result<_, _>>()?;
        let plain: Vec<Vec<Range>> = sets
            .iter()
            .map(|set| set.iter().map(|range| range.range).collect())
            .collect();
        check_ranges(&plain)?;
        Ok(Self(sets))
    }

    /// How many sets there are of each family: IPv4, IPv6.
    #[must_use]
    pub fn families(&self) -> (usize, usize) {
        let of_v4 = |set: &&Vec<PluginRange>| set[0].range.subnet().is_v4();
        let v4 = self.0.iter().filter(of_v4).count();
        (v4, self.0.len() - v4)
    }

    /// The subnets of all ranges.
    pub fn subnets(&self) -> impl Iterator<Item = Cidr> {
        self.0.iter().flatten().map(|range| range.range.subnet())
    }
}

impl HostLocal {
    /// Gives back all that an owner has, and tells what it was.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Busy`], [`HostLocalError::Io`].
    pub fn release_all(&self, owner: &Owner) -> Result<Vec<Reservation>, HostLocalError> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        self.lock()?.release_all(owner)
    }

    /// Gives back what was reserved before `young` by others than the owners named; a reservation that names nobody stays.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Busy`], [`HostLocalError::Io`].
    pub fn release_others(
        &self,
        owners: &[Owner],
        young: SystemTime,
    ) -> Result<(), HostLocalError> {
        if !self.exists() {
            return Ok(());
        }
        let locked = self.lock()?;
        for reservation in self.reservations()? {
            let named = |holder: &Holder| {
                let is = |owner: &Owner| holder.is(owner) || holder.is_container_of(owner);
                owners.iter().any(is)
            };
            let stays = reservation.holder.as_ref().is_none_or(named);
            if !stays && self.is_older(&reservation, young) {
                locked.remove(&reservation)?;
            }
        }
        Ok(())
    }

    /// Gives the owner an address from each set, all of them or none. `requested` are addresses that it must have.
    ///
    /// Reservations made before `since` are of no living container (a reboot ended it): they are no duplicates, and their
    /// addresses are given when no others are left.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Exhausted`], [`HostLocalError::Duplicate`], [`HostLocalError::Unavailable`],
    /// [`HostLocalError::IsGateway`], [`HostLocalError::Unused`], [`HostLocalError::Busy`], [`HostLocalError::Io`].
    pub fn allocate(
        &self,
        owner: &Owner,
        ranges: &PluginRanges,
        requested: &[IpAddr],
        since: SystemTime,
    ) -> Result<Vec<Given>, HostLocalError> {
        let locked = self.lock()?;
        let mut taking = Taking::new(&locked, owner, since)?;
        let mut requested: Vec<_> = requested.iter().map(IpAddr::to_canonical).collect();
        match taking.all(ranges, &mut requested) {
            Ok(()) => Ok(taking.given),
            Err(error) => {
                taking.undo();
                Err(error)
            }
        }
    }

    /// How many addresses of the set that has fewest can still be given, and how many it has.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn room(
        &self,
        ranges: &PluginRanges,
        since: SystemTime,
    ) -> Result<(u128, u128), HostLocalError> {
        let held = self.reservations_since(since)?;
        let of_set = |set: &Vec<PluginRange>| {
            let total: u128 = set.iter().map(PluginRange::count).sum();
            let used = held.iter().filter(|held| {
                let gives = |range: &PluginRange| {
                    range.range.contains(held.address) && range.gateway != held.address
                };
                set.iter().any(gives)
            });
            (total.saturating_sub(used.count() as u128), total)
        };
        Ok(ranges.0.iter().map(of_set).min().unwrap_or_default())
    }
}

/// An allocation under way.
struct Taking<'a> {
    locked: &'a Locked<'a>,
    owner: &'a Owner,
    /// Those of living containers.
    held: Vec<Reservation>,
    /// Those of dead ones.
    stale: Vec<Reservation>,
    given: Vec<Given>,
}

impl<'a> Taking<'a> {
    fn new(
        locked: &'a Locked<'a>,
        owner: &'a Owner,
        since: SystemTime,
    ) -> Result<Self, HostLocalError> {
        let all = locked.store.reservations()?;
        let (stale, held) = all
            .into_iter()
            .partition(|reservation| locked.store.is_older(reservation, since));
        Ok(Self {
            locked,
            owner,
            held,
            stale,
            given: Vec::new(),
        })
    }

    fn all(
        &mut self,
        ranges: &PluginRanges,
        requested: &mut Vec<IpAddr>,
    ) -> Result<(), HostLocalError> {
        for (number, set) in ranges.0.iter().enumerate() {
            self.refuse_second(set)?;
            let wish = requested
                .iter()
                .position(|address| set.iter().any(|range| range.range.contains(*address)));
            let given = match wish {
                Some(wish) => self.take_requested(set, number, requested.remove(wish))?,
                None => self.take_next(set, number)?,
            };
            self.given.push(given);
        }
        if requested.is_empty() {
            return Ok(());
        }
        Err(HostLocalError::Unused {
            addresses: requested.clone(),
        })
    }

    /// An interface has one address of a set. A second ADD is a runtime's mistake, which the first must not suffer from.
    fn refuse_second(&self, set: &[PluginRange]) -> Result<(), HostLocalError> {
        let of_set = |held: &&Reservation| {
            let holder = held.holder.as_ref();
            holder.is_some_and(|holder| holder.is(self.owner) || holder.is_container_of(self.owner))
                && set.iter().any(|range| range.range.contains(held.address))
        };
        match self.held.iter().find(of_set) {
            Some(held) => Err(HostLocalError::Duplicate {
                address: held.address,
                container_id: self.owner.container_id().to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn take_requested(
        &mut self,
        set: &[PluginRange],
        number: usize,
        address: IpAddr,
    ) -> Result<Given, HostLocalError> {
        let range = set.iter().find(|range| range.range.contains(address));
        let range = range.filter(|range| range.gateway != address);
        let range = range.ok_or(HostLocalError::IsGateway { address })?;
        self.clear_stale(address)?;
        if self.take(address, number)? {
            return Ok(range.given(address));
        }
        Err(HostLocalError::Unavailable {
            address,
            set: describe(set),
        })
    }

    fn take_next(&mut self, set: &[PluginRange], number: usize) -> Result<Given, HostLocalError> {
        let last = self.locked.store.last_reserved(number)?;
        let last = last.map(|address| address.to_canonical());
        let held: HashSet<IpAddr> = self.held.iter().map(|held| held.address).collect();
        let stale: HashSet<IpAddr> = self.stale.iter().map(|stale| stale.address).collect();
        for leftovers in [false, true] {
            if leftovers && stale.is_empty() {
                continue;
            }
            for (range, address) in round(set, last) {
                let free = !held.contains(&address) && range.gateway != address;
                if !free || (!leftovers && stale.contains(&address)) {
                    continue;
                }
                if leftovers {
                    self.clear_stale(address)?;
                }
                // Whoever reserves without the lock may have been quicker.
                if self.take(address, number)? {
                    return Ok(range.given(address));
                }
            }
        }
        Err(HostLocalError::Exhausted { set: describe(set) })
    }

    fn take(&self, address: IpAddr, number: usize) -> Result<bool, HostLocalError> {
        match self.locked.reserve(address, self.owner, number) {
            Ok(()) => Ok(true),
            Err(HostLocalError::Taken { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn clear_stale(&self, address: IpAddr) -> Result<(), HostLocalError> {
        for stale in self.stale.iter().filter(|stale| stale.address == address) {
            self.locked.remove(stale)?;
        }
        Ok(())
    }

    /// Gives back what this allocation took, and only that.
    fn undo(&self) {
        for given in &self.given {
            // What cannot be removed is found by the DEL that follows a failed ADD.
            let _ = self.locked.release(given.address, self.owner);
        }
    }
}

/// All addresses of a set, those behind `last` first and `last` itself at the end.
fn round(set: &[PluginRange], last: Option<IpAddr>) -> impl Iterator<Item = (PluginRange, IpAddr)> {
    let whole = |range: &PluginRange| {
        let (start, end) = range.range.bits();
        (*range, start, end)
    };
    let within = last.and_then(|last| {
        let number = set.iter().position(|range| range.range.contains(last))?;
        Some((number, to_bits(last)))
    });
    let parts: Vec<_> = match within {
        None => set.iter().map(whole).collect(),
        Some((number, last)) => {
            let (range, start, end) = whole(&set[number]);
            let behind = iter::once((range, last + 1, end));
            let others = set[number + 1..].iter().chain(&set[..number]).map(whole);
            behind.chain(others).chain([(range, start, last)]).collect()
        }
    };
    parts.into_iter().flat_map(|(range, start, end)| {
        let v4 = range.range.subnet().is_v4();
        (start..=end).map(move |bits| (range, from_bits(v4, bits)))
    })
}

fn describe(set: &[PluginRange]) -> String {
    let ranges: Vec<_> = set
        .iter()
        .map(|range| format!("{}-{}", range.range.start(), range.range.end()))
        .collect();
    ranges.join(",")
}

#[cfg(test)]
mod tests;
