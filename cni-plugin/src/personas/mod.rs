//! The program under other names: the reference plugins (containernetworking/plugins) that a host needs beside `flannel`, so that
//! one file does for all of them.
//!
//! A plugin is known by the name it was started with, as runtimes start the file that a config's `type` names. Each has the
//! config, the result and the state on disk of the plugin whose name it bears; what is foreign to `flannel` is here, what they
//! share with it is not.

mod addresses;
mod conf;
pub mod host_local;
pub mod loopback;
pub mod portmap;
mod resolv_conf;
mod stations;
pub mod veth;

use std::ffi::OsStr;
use std::path::Path;

/// Which plugin this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persona {
    /// The plugin this program is named after, and the one it is under any name that is none of the others.
    Flannel,
    /// `bridge`
    Bridge,
    /// `host-local`
    HostLocal,
    /// `loopback`
    Loopback,
    /// `portmap`
    Portmap,
    /// `ptp`
    Ptp,
}

impl Persona {
    const ALL: [Self; 6] = [
        Self::Flannel,
        Self::Bridge,
        Self::HostLocal,
        Self::Loopback,
        Self::Portmap,
        Self::Ptp,
    ];

    /// The plugin of the name that the process was started with (`argv[0]`).
    pub fn of(program: Option<&OsStr>) -> Self {
        let name = program.and_then(|path| Path::new(path).file_name()?.to_str());
        let known = Self::ALL
            .into_iter()
            .find(|known| Some(known.name()) == name);
        known.unwrap_or(Self::Flannel)
    }

    /// The name of the plugin, which is that of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flannel => "flannel",
            Self::Bridge => "bridge",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
            Self::Portmap => "portmap",
            Self::Ptp => "ptp",
        }
    }

    /// What the program calls itself when asked without a command. Nomad reads the version out of it.
    pub fn banner(self) -> String {
        let (name, version) = (self.name(), env!("CARGO_PKG_VERSION"));
        format!("CNI {name} plugin v{version} (Loden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started_as(program: &str) -> Persona {
        Persona::of(Some(OsStr::new(program)))
    }

    #[test]
    fn the_last_part_of_the_path_decides() {
        for persona in Persona::ALL {
            assert_eq!(started_as(persona.name()), persona);
            let path = format!("/opt/cni/bin/{}", persona.name());
            assert_eq!(started_as(&path), persona);
        }
    }

    #[test]
    fn any_other_name_is_flannel() {
        for program in [
            "",
            "/",
            "/opt/loopback/flannel",
            "bridges",
            "Bridge",
            "bridge.old",
        ] {
            assert_eq!(started_as(program), Persona::Flannel, "{program}");
        }
        assert_eq!(Persona::of(None), Persona::Flannel);
    }

    #[test]
    fn the_banner_names_plugin_and_version() {
        let version = env!("CARGO_PKG_VERSION");
        let banner = Persona::Loopback.banner();
        assert_eq!(banner, format!("CNI loopback plugin v{version} (Loden)"));
    }
}
