//! The lab and its harness, tried on themselves.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use netns_tests::skip;

fn a_fresh_namespace_has_one_link() -> Result<()> {
    let links = fs::read_dir("/sys/class/net")?.count();
    ensure!(links == 1, "{links} links");
    Ok(())
}

fn a_test_is_the_first_process() -> Result<()> {
    ensure!(std::process::id() == 1);
    let numbers = fs::read_dir("/proc")?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok())
        })
        .count();
    ensure!(numbers == 1, "{numbers} processes in /proc");
    Ok(())
}

fn directories_of_the_network_software_are_empty() -> Result<()> {
    for directory in ["/run/netns", "/var/lib/cni", "/etc/cni/net.d"] {
        ensure!(
            fs::read_dir(directory)?.next().is_none(),
            "{directory} is not empty"
        );
        fs::write(Path::new(directory).join("probe"), "x")?;
    }
    ensure!(Path::new("/etc/passwd").exists());
    Ok(())
}

fn skips_are_counted() -> Result<()> {
    skip("shows how a skip looks")
}

netns_tests::tests![
    a_fresh_namespace_has_one_link,
    a_test_is_the_first_process,
    directories_of_the_network_software_are_empty,
    skips_are_counted,
];
