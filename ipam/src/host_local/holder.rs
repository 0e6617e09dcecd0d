//! What stands in a reservation of host-local.

use std::fmt;

use crate::cidr::shortened;
use crate::pool::Owner;

/// The kernel hands no program a longer variable than this (`MAX_ARG_STRLEN`), so no container ID is longer either; the
/// rest is for the interface.
pub(super) const LONGEST: usize = (128 << 10) + 64;

/// Who has an address, in the words of the plugin: not all of them are names that CNI allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    container_id: String,
    ifname: Option<String>,
}

impl Holder {
    /// Reads a file; `None` if it does not say a name, which an empty one does not.
    ///
    /// White space around the names is passed over, as the plugin does.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
        if content.len() > LONGEST {
            return None;
        }
        let text = std::str::from_utf8(content).ok()?.trim();
        let (container_id, ifname) = match text.split_once('\n') {
            Some((container_id, ifname)) => (container_id.trim_end(), Some(ifname.trim_start())),
            None => (text, None),
        };
        let is_name = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
        if !is_name(container_id) || !ifname.is_none_or(is_name) {
            return None;
        }
        Some(Self {
            container_id: container_id.to_owned(),
            ifname: ifname.map(str::to_owned),
        })
    }

    /// The container.
    #[must_use]
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The interface; very old versions of the plugin did not note it.
    #[must_use]
    pub fn ifname(&self) -> Option<&str> {
        self.ifname.as_deref()
    }

    /// Whether this is that interface of that container.
    #[must_use]
    pub fn is(&self, owner: &Owner) -> bool {
        self.container_id == owner.container_id() && self.ifname.as_deref() == Some(owner.ifname())
    }

    /// Whether this is that container, and no interface is known.
    #[must_use]
    pub fn is_container_of(&self, owner: &Owner) -> bool {
        self.container_id == owner.container_id() && self.ifname.is_none()
    }

    /// The owner, if the file names container and interface as CNI allows.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        Owner::new(&self.container_id, self.ifname.as_deref()?).ok()
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ifname) = &self.ifname {
            write!(f, "{} of ", shortened(ifname))?;
        }
        write!(f, "container {}", shortened(&self.container_id))
    }
}

impl From<&Owner> for Holder {
    fn from(owner: &Owner) -> Self {
        Self {
            container_id: owner.container_id().to_owned(),
            ifname: Some(owner.ifname().to_owned()),
        }
    }
}

/// The content of the file as the plugin writes it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.container_id)?;
        match &self.ifname {
            Some(ifname) => write!(f, "\r\n{ifname}"),
            None => Ok(()),
        }
    }
}
