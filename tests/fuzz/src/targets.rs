//! What is fed, and what is promised of it.

use std::fmt::Display;

use crate::Target;

mod cni;
mod doctor;
mod flanneld;
mod host_local;
mod ipam;
mod pool;

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target {
        name: "attachment",
        run: pool::attachment,
        dictionary: pool::ATTACHMENT,
        cost: 1,
    },
    Target {
        name: "cni_alias",
        run: cni::alias,
        dictionary: cni::ALIAS,
        cost: 1,
    },
    Target {
        name: "cni_args",
        run: cni::args,
        dictionary: cni::ARGS,
        cost: 1,
    },
    Target {
        name: "cni_environment",
        run: cni::environment,
        dictionary: cni::ENVIRONMENT,
        cost: 1,
    },
    Target {
        name: "cni_result",
        run: cni::result,
        dictionary: cni::RESULT,
        cost: 4,
    },
    Target {
        name: "cni_scratch",
        run: cni::scratch,
        dictionary: cni::SCRATCH,
        cost: 2,
    },
    Target {
        name: "cni_stdin",
        run: cni::stdin,
        dictionary: cni::STDIN,
        cost: 4,
    },
    Target {
        name: "doctor_foreign",
        run: doctor::foreign,
        dictionary: doctor::FOREIGN,
        cost: 1,
    },
    Target {
        name: "flanneld_flags",
        run: flanneld::flags,
        dictionary: flanneld::FLAGS,
        cost: 40,
    },
    Target {
        name: "host_local",
        run: host_local::directory,
        dictionary: host_local::FILES,
        cost: 20,
    },
    Target {
        name: "iptables_save",
        run: flanneld::iptables_save,
        dictionary: flanneld::IPTABLES_SAVE,
        cost: 4,
    },
    Target {
        name: "lease_key",
        run: ipam::lease_key,
        dictionary: ipam::LEASE_KEY,
        cost: 1,
    },
    Target {
        name: "lease_record",
        run: ipam::lease_record,
        dictionary: ipam::LEASE_RECORD,
        cost: 1,
    },
    Target {
        name: "net_conf",
        run: ipam::net_conf,
        dictionary: ipam::NET_CONF,
        cost: 1,
    },
    Target {
        name: "nf_tables",
        run: hostnet::fuzzing::nf_tables,
        dictionary: &[
            "flannel-ipv4",
            "cmp\0",
            "payload\0",
            "immediate\0",
            "lookup\0",
        ],
        cost: 1,
    },
    Target {
        name: "node_annotations",
        run: ipam::node_annotations,
        dictionary: ipam::NODE_ANNOTATIONS,
        cost: 1,
    },
    Target {
        name: "pool_directory",
        run: pool::directory,
        dictionary: pool::DIRECTORY,
        cost: 40,
    },
    Target {
        name: "pool_slots",
        run: pool::slots,
        dictionary: &["LodenIP1"],
        cost: 1,
    },
    Target {
        name: "probe_packets",
        run: doctor::packets,
        dictionary: doctor::PACKETS,
        cost: 1,
    },
    Target {
        name: "rtnetlink",
        run: hostnet::fuzzing::rtnetlink,
        dictionary: &["vxlan\0", "veth\0", "bridge\0", "lo\0"],
        cost: 1,
    },
    Target {
        name: "subnet",
        run: ipam::subnet,
        dictionary: &[
            "/",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::ffff:",
            "/0",
            "/32",
            "/128",
        ],
        cost: 1,
    },
    Target {
        name: "subnet_env",
        run: ipam::subnet_env,
        dictionary: ipam::SUBNET_ENV,
        cost: 1,
    },
];

/// What is promised of every error: one sentence for one line of a log, however long and strange the input.
fn sentence(error: &impl Display) {
    let text = error.to_string();
    assert!(!text.is_empty(), "an error without words");
    assert!(
        text.len() <= 2000,
        "an error of {} bytes: {text}",
        text.len()
    );
    assert!(
        !text.chars().any(char::is_control),
        "an error that is not one line: {text:?}"
    );
}

/// Files as one input: each with its name, a line feed and its content, one behind the other with a byte 0x1e between.
/// Names that lead out of the directory are left out.
fn files(input: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    input.split(|byte| *byte == 0x1e).filter_map(|file| {
        let end = file.iter().position(|byte| *byte == b'\n')?;
        let name = std::str::from_utf8(&file[..end]).ok()?;
        let plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() < 256;
        let fits = name.split('/').all(plain) && !name.contains('\0');
        fits.then(|| (name, &file[end + 1..]))
    })
}
