//! iptables' programs: which there are, and what they are asked. The only part of the firewall that starts processes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hostnet::AddressFamily;
use hostnet::nft::{self, ChainHead, Nftables};

use super::process::{name, run};
use super::saved::Saved;
use super::{Place, Restore, Variant, Wanted, plan};

pub use super::process::IptablesError;

/// The tables that can hold rules of ours.
const TABLES: [&str; 3] = ["nat", "filter", "raw"];
/// What a program may wait for iptables' lock.
const LOCK_WAIT: &str = "--wait=5";
/// Where programs are looked for if the environment has no PATH.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs for one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tools {
    save: PathBuf,
    restore: PathBuf,
    version: Version,
}

/// iptables' programs on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    tools: BTreeMap<Place, Tools>,
    /// The variant of the program that is called just `iptables`.
    usual: Option<Variant>,
}

/// What the places hold.
#[derive(Debug, Default)]
pub struct Look {
    /// Those that could be read.
    pub found: BTreeMap<Place, Saved>,
    /// Why the others could not.
    pub failures: BTreeMap<Place, IptablesError>,
}

impl Programs {
    /// Looks through the PATH of this process.
    pub fn find() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
        Self::find_in(&path)
    }

    fn find_in(path: &OsStr) -> Self {
        let mut programs = Self::default();
        for (family, base) in [
            (AddressFamily::Ipv4, "iptables"),
            (AddressFamily::Ipv6, "ip6tables"),
        ] {
            // Names with a variant came with 1.8.
            for (variant, suffix) in [(Variant::Nft, "-nft"), (Variant::Legacy, "-legacy")] {
                let place = Place { family, variant };
                let name = format!("{base}{suffix}");
                programs.add(place, path, &name, Version(1, 8, 0));
            }
            let Some((version, variant)) = find(path, base).and_then(|program| about(&program))
            else {
                continue;
            };
            let place = Place { family, variant };
            if programs.add(place, path, base, version) {
                programs.usual.get_or_insert(variant);
            }
        }
        programs
    }

    /// Whether the programs of that base name were found and will be used.
    fn add(&mut self, place: Place, path: &OsStr, base: &str, version: Version) -> bool {
        let save = find(path, &format!("{base}-save"));
        let restore = find(path, &format!("{base}-restore"));
        let Some((save, restore)) = save.zip(restore) else {
            return false;
        };
        let tools = Tools {
            save,
            restore,
            version,
        };
        self.tools.insert(place, tools);
        true
    }

    /// Whether these families' rules of this variant can be read and written.
    pub fn has(&self, variant: Variant, families: &[AddressFamily]) -> bool {
        families
            .iter()
            .all(|&family| self.tools.contains_key(&Place { family, variant }))
    }

    /// The variant to be used on this host for these families: the one that the kubelet uses, by the chains it leaves there for
    /// others to see; else that of the program called `iptables`; else whichever there is.
    pub fn variant(&self, nftables: &mut Nftables, families: &[AddressFamily]) -> Option<Variant> {
        let there: Vec<Variant> = [Variant::Nft, Variant::Legacy]
            .into_iter()
            .filter(|variant| self.has(*variant, families))
            .collect();
        let mut kubelets = there.iter().copied();
        kubelets
            .find(|variant| self.has_kubelets_chains(*variant, nftables))
            .or(self.usual.filter(|usual| there.contains(usual)))
            .or(there.first().copied())
    }

    /// Kubernetes calls these chains a hint for programs like this one.
    fn has_kubelets_chains(&self, variant: Variant, nftables: &mut Nftables) -> bool {
        let is_hint = |name: &str| matches!(name, "KUBE-IPTABLES-HINT" | "KUBE-KUBELET-CANARY");
        let family = AddressFamily::Ipv4;
        match variant {
            Variant::Nft => nftables.chains(nft::Family::Ip).is_ok_and(|chains| {
                chains
                    .iter()
                    .any(|chain| chain.table == "mangle" && is_hint(&chain.name))
            }),
            Variant::Legacy => {
                legacy_tables(family).iter().any(|table| table == "mangle")
                    && self.save(Place { family, variant }).is_ok_and(|saved| {
                        let mangle = saved.tables.get("mangle");
                        mangle.is_some_and(|mangle| mangle.keys().any(|name| is_hint(name)))
                    })
            }
        }
    }

    /// Whether masquerading can use random ports (`--random-fully`, since 1.6.2) in this variant.
    pub fn can_randomise(&self, variant: Variant) -> bool {
        self.tools
            .iter()
            .filter(|(place, _)| place.variant == variant)
            .all(|(_, tools)| tools.version >= Version::RANDOM_FULLY)
    }

    /// Reads every place that holds anything. Where there is nothing no program is run, and none is needed; reading with iptables-legacy
    /// would make the very tables that are looked for.
    pub fn look(&self, nftables: &mut Nftables) -> Look {
        let mut look = Look::default();
        for place in Place::ALL {
            let readable = self.tools.contains_key(&place);
            let saved = match is_used(place, nftables, readable) {
                Ok(true) => self.save(place),
                Ok(false) => Ok(Saved::default()),
                Err(error) => Err(error),
            };
            match saved {
                Ok(saved) => {
                    look.found.insert(place, saved);
                }
                Err(error) => {
                    look.failures.insert(place, error);
                }
            }
        }
        look
    }

    /// Reads one place.
    ///
    /// # Errors
    /// [`IptablesError`]; half an answer is an error too.
    pub fn save(&self, place: Place) -> Result<Saved, IptablesError> {
        let tools = self.tools(place)?;
        let program = name(&tools.save);
        let listing = run(&mut Command::new(&tools.save), "")?;
        let saved = Saved::parse(&listing)
            .map_err(|reason| IptablesError::Unreadable { program, reason })?;
        match TABLES
            .into_iter()
            .find(|table| saved.unreadable.contains(*table))
        {
            Some(table) => Err(IptablesError::Incompatible {
                table: table.to_owned(),
                place,
            }),
            None => Ok(saved),
        }
    }

    /// Asks the programs of the active variant whether they would take these rules, on a host that has none; nothing is changed.
    ///
    /// # Errors
    /// [`IptablesError`].
    pub fn test(&self, wanted: &Wanted) -> Result<(), IptablesError> {
        let nothing = Place::ALL.map(|place| (place, Saved::default()));
        for restore in plan(wanted, &nothing.into()).active {
            self.feed(&restore, &["--test"])?;
        }
        Ok(())
    }

    /// Writes what was planned. Each table changes at once or not at all.
    ///
    /// # Errors
    /// [`IptablesError`]. Tables before the refused one are written.
    pub fn restore(&self, restore: &Restore) -> Result<(), IptablesError> {
        self.feed(restore, &[])
    }

    fn feed(&self, restore: &Restore, arguments: &[&str]) -> Result<(), IptablesError> {
        let tools = self.tools(restore.place)?;
        let mut command = Command::new(&tools.restore);
        command.arg("--noflush").args(arguments);
        if tools.version >= Version::WAIT {
            command.arg(LOCK_WAIT);
        }
        run(&mut command, &restore.script).map(drop)
    }

    fn tools(&self, place: Place) -> Result<&Tools, IptablesError> {
        self.tools
            .get(&place)
            .ok_or_else(|| IptablesError::NotFound {
                program: format!("{place}-save"),
                place,
            })
    }
}

/// Whether any table there that could hold rules of ours is in use. If it is not `readable` anyway, whether there are signs that it
/// matters: else every host where only others use iptables would be told of programs it lacks.
fn is_used(place: Place, nftables: &mut Nftables, readable: bool) -> Result<bool, IptablesError> {
    let known = |table: &str| TABLES.contains(&table);
    match place.variant {
        Variant::Legacy => Ok(legacy_tables(place.family).iter().any(|table| known(table))),
        Variant::Nft => {
            let family = match place.family {
                AddressFamily::Ipv4 => nft::Family::Ip,
                AddressFamily::Ipv6 => nft::Family::Ip6,
            };
            let uses = |chain: &ChainHead| known(&chain.table) && (readable || matters(chain));
            match nftables.chains(family) {
                Ok(chains) => Ok(chains.iter().any(uses)),
                // A kernel without nf_tables has no rules in it.
                Err(nft::Error::Query { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Whether it is a chain of flannel's, or one that drops what pods send.
fn matters(chain: &ChainHead) -> bool {
    chain.name.starts_with("FLANNEL-")
        || (chain.name == "FORWARD" && chain.policy == Some(nft::Policy::Drop))
}

/// The tables of the old interface that exist in this network namespace.
fn legacy_tables(family: AddressFamily) -> Vec<String> {
    let file = match family {
        AddressFamily::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        AddressFamily::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // The file is absent as long as the kernel's module is.
    let names = fs::read_to_string(file).unwrap_or_default();
    names.lines().map(str::to_owned).collect()
}

fn find(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Version and variant of an `iptables`, by its own word.
fn about(program: &Path) -> Option<(Version, Variant)> {
    let text = run(Command::new(program).arg("--version"), "").ok()?;
    let version = Version::parse(&text)?;
    let variant = if text.contains("(nf_tables)") {
        Variant::Nft
    } else {
        Variant::Legacy
    };
    Some((version, variant))
}

/// A version of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    /// The first whose MASQUERADE takes `--random-fully`.
    const RANDOM_FULLY: Self = Self(1, 6, 2);
    /// The first whose iptables-restore waits for the lock.
    const WAIT: Self = Self(1, 6, 2);

    /// From what `iptables --version` prints: `iptables v1.8.9 (nf_tables)`.
    fn parse(text: &str) -> Option<Self> {
        let number = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix('v'))?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        let mut next = || parts.next().flatten();
        Some(Self(next()?, next()?, next().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests;
