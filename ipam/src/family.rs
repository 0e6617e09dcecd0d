//! A value for each address family, since a node may have either or both.

use crate::cidr::{Ipv4Cidr, Ipv6Cidr};

/// What there is for IPv4 and for IPv6. A family that is not in use has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerFamily<A, B> {
    /// For IPv4.
    pub v4: Option<A>,
    /// For IPv6.
    pub v6: Option<B>,
}

/// The subnets of a node, at most one of each family.
pub type Subnets = PerFamily<Ipv4Cidr, Ipv6Cidr>;

impl<A, B> PerFamily<A, B> {
    /// Only IPv4.
    pub const fn v4(value: A) -> Self {
        Self {
            v4: Some(value),
            v6: None,
        }
    }

    /// Only IPv6.
    pub const fn v6(value: B) -> Self {
        Self {
            v4: None,
            v6: Some(value),
        }
    }

    /// Dual stack.
    pub const fn both(v4: A, v6: B) -> Self {
        Self {
            v4: Some(v4),
            v6: Some(v6),
        }
    }

    /// Whether neither family has a value.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The same with references.
    pub const fn as_ref(&self) -> PerFamily<&A, &B> {
        PerFamily {
            v4: self.v4.as_ref(),
            v6: self.v6.as_ref(),
        }
    }

    /// Both values as one type, IPv4 first.
    pub fn each<T>(self) -> impl Iterator<Item = T>
    where
        A: Into<T>,
        B: Into<T>,
    {
        self.v4
            .map(Into::into)
            .into_iter()
            .chain(self.v6.map(Into::into))
    }
}

impl<A, B> Default for PerFamily<A, B> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl Subnets {
    /// Whether a subnet of the one shares an address with one of the other.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        let v4 = self.v4.zip(other.v4).is_some_and(|(a, b)| a.overlaps(b));
        let v6 = self.v6.zip(other.v6).is_some_and(|(a, b)| a.overlaps(b));
        v4 || v6
    }
}

impl std::fmt::Display for Subnets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4} and {v6}"),
            (Some(v4), None) => v4.fmt(f),
            (None, Some(v6)) => v6.fmt(f),
            (None, None) => f.write_str("no subnet"),
        }
    }
}
