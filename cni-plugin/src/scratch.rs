//! flannel's scratch files: `<dataDir>/<container ID>` holds the config that flannel's plugin gave its delegate at ADD, by which
//! it has the delegate carry out the DEL.
//!
//! They are read for pods that flannel's plugin attached, and written for ours, so that a node can be switched to that
//! plugin while its pods run. What a DEL of ours needs is in the pool's record. There is one file per container, whatever
//! the number of its networks and interfaces; as with flannel's plugin the last attachment has it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::attachment::conf::Kind;
use crate::protocol::args::is_identifier;
use crate::protocol::json::{Json, Object, Section};
use crate::protocol::{Config, Error, Target};

/// Where they are, unless `dataDir` says otherwise.
const DIRECTORY: &str = "/var/lib/cni/flannel";

/// Longer than any config.
const LONGEST: u64 = 1 << 20;

/// The scratch file of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    path: PathBuf,
    /// Under this name it is written before it is put in place. No container is called like that.
    draft: PathBuf,
    network: String,
}

impl Scratch {
    /// That of the target.
    pub fn of(config: &Config, target: &Target) -> Self {
        let directory = directory(config);
        let Target {
            container_id,
            ifname,
            ..
        } = target;
        Self {
            path: directory.join(container_id),
            draft: directory.join(format!(".{container_id}.{ifname}")),
            network: config.name.clone(),
        }
    }

    /// Those that were written before this time, with their containers.
    pub fn older(config: &Config, time: SystemTime) -> Vec<(String, Self)> {
        let Ok(entries) = fs::read_dir(directory(config)) else {
            return Vec::new();
        };
        let of = |entry: fs::DirEntry| {
            let container_id = entry.file_name().into_string().ok()?;
            let written = entry.metadata().ok()?.modified().ok()?;
            let target = Target {
                container_id,
                ifname: String::new(),
                netns: None,
            };
            let scratch = Self::of(config, &target);
            (is_identifier(&target.container_id) && written < time)
                .then_some((target.container_id, scratch))
        };
        let entries = entries.filter_map(Result::ok);
        entries.filter_map(of).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The delegate's config, if there is one for this network. What cannot be read or understood says nothing.
    pub fn read(&self) -> Option<Object> {
        let metadata = fs::metadata(&self.path).ok()?;
        if !metadata.is_file() || metadata.len() > LONGEST {
            return None;
        }
        let delegate = parse(&fs::read(&self.path).ok()?)?;
        is_of(&delegate, &self.network).then_some(delegate)
    }

    /// Puts the delegate's config in place, in one step.
    ///
    /// # Errors
    ///
    /// [`Error::Scratch`]. Where nothing can be written at all, flannel's plugin never worked either; that is none.
    pub fn write(&self, delegate: &Object) -> Result<(), Error> {
        let text = serde_json::to_vec(delegate).unwrap_or_default();
        let written = self.create().and_then(|mut draft| {
            draft.write_all(&text)?;
            // The process ends in a moment, and the kernel closes everything at once.
            std::mem::forget(draft);
            fs::rename(&self.draft, &self.path)
        });
        match written {
            Err(error) if is_no_place(&error) => Ok(()),
            written => written.map_err(|source| self.refused("cannot be written", source)),
        }
    }

    /// Removes it, if it is of this network or of none.
    ///
    /// # Errors
    ///
    /// [`Error::Scratch`]
    pub fn remove(&self) -> Result<(), Error> {
        let refused = |source| self.refused("cannot be removed", source);
        // Left by an ADD that was killed.
        absent(fs::remove_file(&self.draft)).map_err(refused)?;
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => Vec::new(),
        };
        match parse(&text) {
            Some(delegate) if !is_of(&delegate, &self.network) => Ok(()),
            _ => absent(fs::remove_file(&self.path)).map_err(refused),
        }
    }

    fn create(&self) -> io::Result<fs::File> {
        let open = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&self.draft)
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.draft.parent().unwrap_or(Path::new("/"));
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)?;
                open()
            }
            opened => opened,
        }
    }

    fn refused(&self, what: &'static str, source: io::Error) -> Error {
        Error::Scratch {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

/// A plugin of others that has a part in an attachment of flannel's plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker<'a> {
    /// It attaches the pod.
    Delegate(&'a str),
    /// It gives the addresses.
    Ipam(&'a str),
}

impl<'a> Worker<'a> {
    /// The one that has to be called for a pod that was attached by this config.
    pub fn of(delegate: &'a Object) -> Option<Self> {
        let root = Section::root(delegate);
        let kind = root.string("type").ok().flatten()?;
        if !Kind::is_ours(kind) {
            return Some(Self::Delegate(kind));
        }
        let ipam = root.section("ipam").ok().flatten()?;
        let ipam = ipam.string("type").ok().flatten()?;
        (ipam != "host-local").then_some(Self::Ipam(ipam))
    }

    /// What it is called.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Delegate(name) | Self::Ipam(name) => name,
        }
    }
}

/// Reads what stands in a scratch file.
pub fn parse(text: &[u8]) -> Option<Object> {
    match Json::parse(text) {
        Ok(Json::Object(delegate)) => Some(delegate),
        _ => None,
    }
}

fn is_of(delegate: &Object, network: &str) -> bool {
    let name = Section::root(delegate).string("name");
    name.is_ok_and(|name| name == Some(network))
}

fn directory(config: &Config) -> PathBuf {
    let given = config.root().string("dataDir").ok().flatten();
    given
        .filter(|path| !path.is_empty())
        .unwrap_or(DIRECTORY)
        .into()
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn is_no_place(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::InvalidFilename
    )
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::protocol::Verb;

    fn config(directory: &TempDir, name: &str) -> Config {
        let text = format!(
            r#"{{"name":"{name}","type":"flannel","dataDir":"{}/cni/flannel"}}"#,
            directory.path().display()
        );
        Config::parse(text.as_bytes(), Verb::Add).unwrap()
    }

    fn target(id: &str) -> Target {
        Target {
            container_id: id.to_owned(),
            ifname: "eth0".to_owned(),
            netns: None,
        }
    }

    fn delegate(name: &str) -> Object {
        let mut delegate = Object::default();
        delegate.set("name", name);
        delegate.set("type", "bridge");
        delegate
    }

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let directory = TempDir::new().unwrap();
        let scratch = Scratch::of(&config(&directory, "a"), &target("c1"));
        assert_eq!(scratch.read(), None);
        scratch.remove().unwrap();
        for _ in 0..2 {
            scratch.write(&delegate("a")).unwrap();
            assert_eq!(scratch.read(), Some(delegate("a")));
        }
        let names = || fs::read_dir(directory.path().join("cni/flannel")).unwrap();
        assert_eq!(names().count(), 1);
        fs::write(&scratch.draft, "half").unwrap();
        scratch.remove().unwrap();
        assert_eq!(names().count(), 0);
    }

    #[test]
    fn that_of_another_network_stays() {
        let directory = TempDir::new().unwrap();
        let ours = Scratch::of(&config(&directory, "a"), &target("c1"));
        let theirs = Scratch::of(&config(&directory, "b"), &target("c1"));
        theirs.write(&delegate("b")).unwrap();
        assert_eq!(ours.read(), None);
        ours.remove().unwrap();
        assert_eq!(theirs.read(), Some(delegate("b")));
    }

    #[test]
    fn one_that_makes_no_sense_says_nothing_and_goes() {
        let directory = TempDir::new().unwrap();
        let scratch = Scratch::of(&config(&directory, "a"), &target("c1"));
        for text in ["", "{", "[]", "\u{1}", r#"{"name":7}"#] {
            scratch.write(&delegate("a")).unwrap();
            fs::write(scratch.path(), text).unwrap();
            assert_eq!(scratch.read(), None, "{text}");
        }
        fs::write(scratch.path(), "{").unwrap();
        scratch.remove().unwrap();
        assert!(!scratch.path().exists());
    }

    #[test]
    fn a_name_that_no_file_can_have_is_no_error() {
        let directory = TempDir::new().unwrap();
        let scratch = Scratch::of(&config(&directory, "a"), &target(&"c".repeat(300)));
        scratch.write(&delegate("a")).unwrap();
        assert_eq!(scratch.read(), None);
    }
}
