//! Where things are in etcd: `<prefix>/config` and `<prefix>/subnets/<lease key>`.

use ipam::LeaseKey;

/// The keys below one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// Cleaned, without a slash at the end; empty for the root without a leading slash.
    prefix: String,
}

impl Keys {
    /// The keys below `prefix`, which is cleaned as flannel cleans it (Go's `path.Join`): doubled slashes, `.` and `..` and
    /// a slash at the end vanish; a missing slash at the front stays missing, for etcd knows no directories.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: clean(prefix),
        }
    }

    /// The key of the network configuration.
    pub(super) fn config(&self) -> String {
        self.join("config")
    }

    /// What every lease key begins with.
    pub(super) fn subnets(&self) -> String {
        self.join("subnets/")
    }

    /// The key of one lease.
    pub(super) fn lease(&self, key: &LeaseKey) -> String {
        format!("{}{key}", self.subnets())
    }

    /// The lease key in an etcd key below [`Keys::subnets`].
    pub(super) fn parse(&self, key: &[u8]) -> Result<LeaseKey, String> {
        let text = std::str::from_utf8(key).map_err(|_| "the key is not UTF-8".to_owned())?;
        let name = text
            .strip_prefix(&self.subnets())
            .ok_or_else(|| format!("the key is not below {}", self.subnets()))?;
        name.parse::<LeaseKey>().map_err(|error| error.to_string())
    }

    fn join(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            "/" => format!("/{name}"),
            prefix => format!("{prefix}/{name}"),
        }
    }
}

/// Go's `path.Clean`, with the empty string for `.`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_cleaned_as_go_cleans_paths() {
        for (prefix, config) in [
            ("/coreos.com/network", "/coreos.com/network/config"),
            ("/coreos.com/network/", "/coreos.com/network/config"),
            ("//coreos.com///network//", "/coreos.com/network/config"),
            ("coreos.com/network", "coreos.com/network/config"),
            ("/a/./b/../c", "/a/c/config"),
            ("/..", "/config"),
            ("../a", "../a/config"),
            ("a/../..", "../config"),
            ("/", "/config"),
            (".", "config"),
            ("", "config"),
        ] {
            assert_eq!(Keys::new(prefix).config(), config, "{prefix:?}");
        }
    }

    #[test]
    fn lease_keys_are_found_again() {
        let keys = Keys::new("/coreos.com/network");
        let key: LeaseKey = "10.5.52.0-24".parse().expect("a lease key");
        assert_eq!(keys.lease(&key), "/coreos.com/network/subnets/10.5.52.0-24");
        assert_eq!(keys.parse(keys.lease(&key).as_bytes()), Ok(key));
    }

    #[test]
    fn foreign_keys_are_refused_with_a_reason() {
        let keys = Keys::new("/n");
        for key in [
            &b"/n/subnets/"[..],
            b"/n/subnets/hello",
            b"/n/config",
            b"/n/subnets/\xff",
        ] {
            assert!(
                keys.parse(key).is_err_and(|reason| !reason.is_empty()),
                "{key:?}"
            );
        }
    }
}
