//! A host fit for a runtime: programs in `/opt/cni/bin`, a conflist, an image, and no control groups, which belong to the
//! whole machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ipam::pool::{Options, RangeSpec};
use ipam::{Cidr, Pool};
use netns_tests::{Endpoint, Host, Snapshot, programs, skip};

/// The name of the image.
pub(crate) const IMAGE: &str = "loden.test/web:1";

/// What a host without a daemon has for a subnet.
const SUBNET: &str = "10.244.1.0/24";
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n\
    FLANNEL_IPMASQ=true\n";

/// Where the runtimes keep what is their own, fresh on each host.
pub(crate) const STATE: &str = "/var/lib/containers";

/// Where this boot has its name.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Files that are the runtimes' own affair.
const NOT_OURS: [&str; 4] = [
    "file /run/containerd",
    "file /run/crun",
    "file /run/libpod",
    "file /run/lock",
];

/// Runs as the OCI runtime. Control groups would be made on the machine itself, where nobody takes them away after a kill.
const OCI_RUNTIME: &str = "#!/bin/sh\nexec crun --cgroup-manager=disabled \"$@\"\n";

/// Skips the test unless these programs are there and this is the machine's root: in a user namespace of one user,
/// runtimes cannot give files and terminals to the groups they want.
pub(crate) fn require(programs: &[&str]) -> Result<()> {
    if fs::read_to_string("/proc/self/uid_map")?
        .split_whitespace()
        .nth(2)
        == Some("1")
    {
        return skip("container runtimes need root");
    }
    let busybox = which("busybox").map(fs::read).transpose()?;
    if busybox.is_some_and(|program| program.windows(9).any(|bytes| bytes == b"/ld-linux")) {
        return skip("busybox is not linked statically");
    }
    for program in programs.iter().chain(&["crun", "busybox"]) {
        if which(program).is_none() {
            return skip(format!("there is no {program}"));
        }
    }
    Ok(())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Makes the host fit for a runtime.
pub(crate) fn furnish(host: &Host, conflist: &str) -> Result<()> {
    // Read here: on the host, what is mounted next may hide them.
    let plugins = plugins()?;
    host.sh(&format!(
        "mkdir -p /opt {STATE}\n\
         for directory in /opt {STATE} /sys/fs/cgroup; do mount -t tmpfs tmpfs $directory; done\n\
         mkdir -p /opt/cni/bin"
    ))?;
    host.run(|| -> Result<()> {
        for (name, program) in &plugins {
            executable(&Path::new("/opt/cni/bin").join(name), program)?;
        }
        executable(&oci_runtime(), OCI_RUNTIME.as_bytes())
    })??;
    fs::write(host.path("/etc/cni/net.d/10-flannel.conflist"), conflist)?;
    make_image(host)
}

/// The OCI runtime's path on a host.
pub(crate) fn oci_runtime() -> PathBuf {
    Path::new(STATE).join("crun")
}

/// The image's archive on a host.
pub(crate) fn archive() -> String {
    format!("{STATE}/image.tar")
}

/// Ours, and those that may stand behind it in a conflist.
fn plugins() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let ours = programs::find("flannel")?;
    let mut plugins = vec![("flannel", fs::read(&ours)?)];
    for name in ["loopback", "portmap"] {
        let reference = Path::new("/usr/lib/cni").join(name);
        plugins.push((
            name,
            fs::read(&reference).with_context(|| reference.display().to_string())?,
        ));
    }
    Ok(plugins)
}

fn executable(path: &Path, content: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    fs::write(path, content)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// An image of a single static program, as `docker save` would write it.
fn make_image(host: &Host) -> Result<()> {
    host.sh(&format!(
        r#"cd {STATE}
        mkdir -p image/root/bin image/root/tmp
        cp "$(command -v busybox)" image/root/bin/busybox
        for name in sh sleep; do ln -s busybox image/root/bin/$name; done
        cd image
        tar -C root -cf layer.tar bin tmp
        digest=$(sha256sum layer.tar | cut -d ' ' -f 1)
        cat > config.json <<END
        {{"architecture": "amd64", "os": "linux", "config": {{"Cmd": ["/bin/sleep", "1000"]}},
          "rootfs": {{"type": "layers", "diff_ids": ["sha256:$digest"]}}}}
END
        echo '[{{"Config": "config.json", "RepoTags": ["{IMAGE}"], "Layers": ["layer.tar"]}}]' > manifest.json
        tar -cf ../image.tar manifest.json config.json layer.tar
        "#
    ))
    .map(drop)
}

/// Writes what a daemon would, which is not needed for pods of one host.
pub(crate) fn give_subnet(host: &Host) -> Result<()> {
    let path = host.path("/run/flannel/subnet.env");
    fs::create_dir_all(path.parent().context("no directory")?)?;
    Ok(fs::write(path, SUBNET_ENV)?)
}

/// How many addresses a pool of the host holds to be in use.
pub(crate) fn addresses_in_use(host: &Host, directory: &str) -> Result<u64> {
    let range = RangeSpec::whole(SUBNET.parse::<Cidr>()?).shared_link()?;
    // Asked on the host, which may have another boot ID than the test.
    host.run(|| {
        Ok(
            Pool::open(Path::new(directory), "cbr0", Options::default())?
                .usage(&range)?
                .used,
        )
    })?
}

/// An error that shows what differs, if anything of ours does, or libcni's memory of results; but the index of our pool
/// grows with use.
pub(crate) fn nothing_left(host: &Host, before: &Snapshot) -> Result<()> {
    let mut difference = host.snapshot()?.diff(before);
    for lines in [&mut difference.gone, &mut difference.new] {
        lines.retain(|line| {
            let index = line.contains("/cbr0/slots-");
            !index && !NOT_OURS.iter().any(|own| line.starts_with(own))
        });
    }
    ensure!(difference.is_empty(), "the host changed:\n{difference}");
    Ok(())
}

/// What a reboot does to a host, as far as anything of ours can tell: every process is killed, here and on every other host
/// of the lab, `/run` is empty, no pod has a link any more, and this boot has another name.
pub(crate) fn reboot(host: &Host, name: &str) -> Result<()> {
    // From the first process of a pid namespace this reaches everything in it but itself.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(-1),
        nix::sys::signal::Signal::SIGKILL,
    )
    .context("the processes cannot be killed")?;
    host.sh(&format!(
        "for mounted in $(awk '$5 ~ \"^/run/.\" || $5 ~ \"^{STATE}/.\" {{print $5}}' /proc/self/mountinfo); do\n\
         \tumount -l $mounted 2>/dev/null || true\n\
         done\n\
         find /run -mindepth 1 -delete 2>/dev/null || true\n\
         mkdir -p /run/netns /run/lock\n\
         echo {name} > {STATE}/boot_id\n\
         mount --bind {STATE}/boot_id {BOOT_ID}\n\
         for link in $(ip -o link show type veth | sed -n 's/^[0-9]*: \\(veth[^@:]*\\)[@:].*/\\1/p'); do\n\
         \tip link delete dev $link 2>/dev/null || true\n\
         done\n\
         ip link delete dev cni0 2>/dev/null || true"
    ))?;
    give_subnet(host)
}
