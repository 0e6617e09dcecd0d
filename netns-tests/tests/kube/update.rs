//! A rolling update.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use netns_tests::traffic::Pings;
use netns_tests::{Endpoint, Host, ROUTED_CONFLIST, Traffic, programs};

use crate::scene::{DUAL, Scene, all_talk};

/// How often the whole cluster is updated.
const ROUNDS: usize = 3;

/// Where each host has its CNI programs.
fn programs_of(host: &Host) -> PathBuf {
    host.path("/run/opt-cni-bin")
}

/// What the init container does.
fn install(host: &Host) -> Result<()> {
    let program = programs::find("flanneld")?;
    let directory = programs_of(host);
    let arguments = [
        program.as_os_str(),
        "install-cni".as_ref(),
        "--cni-bin-dir".as_ref(),
        directory.as_os_str(),
    ];
    host.exec(arguments).map(drop)
}

/// Each host in turn gets its CNI program and its daemon anew, while pods talk and others come and go.
pub(crate) fn a_rolling_update_loses_nothing() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let mut members = scene.members()?;
    for member in &members {
        let path = member.host.path("/etc/kube-flannel/cni-conf.json");
        std::fs::write(path, ROUTED_CONFLIST)?;
        std::fs::create_dir_all(programs_of(&member.host))?;
        install(&member.host)?;
    }
    let hosts = members.each_ref().map(|member| member.host.clone());
    let installed = |host: &Host| {
        let path = host.path("/etc/cni/net.d/10-flannel.conflist");
        std::fs::read_to_string(path).context("no conflist")
    };
    let attach = |host: &Host, name: &str| {
        let path = std::env::join_paths([programs_of(host), "/usr/lib/cni".into()])?;
        host.pod_spec(name)
            .conflist(&installed(host)?)
            .path(path)
            .attach()
    };
    let pods = [
        attach(&hosts[0], "a1")?,
        attach(&hosts[1], "b1")?,
        attach(&hosts[2], "c1")?,
    ];
    let pings = [
        Pings::between(&pods[0], &pods[1])?,
        Pings::between(&pods[1], &pods[2])?,
    ];
    let stream = pods[0].stream(&pods[1])?;

    let (over, attached) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (over, attached, attach) = (&over, &attached, &attach);
        let work = |host: &Host| {
            let host = host.clone();
            scope.spawn(move || -> Result<()> {
                while !over.load(Ordering::Relaxed) {
                    attach(&host, "passing")?.delete()?;
                    attached.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let workers = hosts.each_ref().map(work);
        let mut update = || -> Result<()> {
            for _ in 0..ROUNDS {
                for member in &mut members {
                    install(&member.host)?;
                    let ended = member.daemon.terminate()?;
                    ensure!(ended.success(), "it ended with {ended}");
                    member.daemon.restart()?;
                    install(&member.host)?;
                    member.daemon.wait_ready()?;
                }
            }
            Ok(())
        };
        let updated = update();
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            let worked: Result<()> = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
            worked?;
        }
        updated
    })?;
    stream.finish()?;
    for pings in pings {
        pings.finish()?;
    }
    let attached = attached.into_inner();
    ensure!(attached > ROUNDS * 3, "only {attached} pods came and went");
    all_talk(&pods)
}
