//! The parts of a benchmark, small enough for a process each.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::leases::Store;
use crate::options::Group;
use crate::progress::Teller;
use crate::{addresses, answers, api_server, attach, converge, footprint, micro, packets};

/// One part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Attach(attach::Scene),
    Converge(converge::Scene),
    Footprint(footprint::Scene),
    Programs(footprint::Programs),
    Answers(answers::Scene),
    Ipam(addresses::Scene),
    Micro(micro::Scene),
    Packets(packets::Scene),
}

impl Job {
    /// The parts of a group, each measured so often; `quick` is their smallest form.
    pub(crate) fn of(group: Group, quick: bool, rounds: usize) -> Result<Vec<Self>> {
        Ok(match group {
            Group::Attach => attach_scenes(quick, rounds)
                .into_iter()
                .map(Self::Attach)
                .collect(),
            Group::Converge => converge_scenes(quick, rounds, &stores()?)
                .into_iter()
                .map(Self::Converge)
                .collect(),
            Group::Footprint => footprint_parts(quick, rounds),
            Group::Ipam => ipam_scenes(quick, rounds)
                .into_iter()
                .map(Self::Ipam)
                .collect(),
            Group::Micro => vec![Self::Micro(micro::Scene {
                leases: if quick { 50 } else { 10_000 },
                rounds,
                milliseconds: if quick { 1 } else { 300 },
            })],
            Group::Packets => packets_scenes(quick, rounds)
                .into_iter()
                .map(Self::Packets)
                .collect(),
        })
    }

    pub(crate) fn title(&self) -> String {
        match self {
            Self::Attach(scene) => format!("attach, {}", scene.title()),
            Self::Converge(scene) => format!("converge, {}", scene.title()),
            Self::Footprint(scene) => format!("footprint, {}", scene.title()),
            Self::Programs(_) => "footprint, programs".to_owned(),
            Self::Answers(scene) => format!("footprint, {}", scene.title()),
            Self::Ipam(scene) => format!("ipam, {}", scene.title()),
            Self::Micro(scene) => format!("micro, {}", scene.title()),
            Self::Packets(scene) => format!("packets, {}", scene.title()),
        }
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        match self {
            Self::Attach(scene) => scene.run(tell),
            Self::Converge(scene) => scene.run(tell),
            Self::Footprint(scene) => scene.run(tell),
            Self::Programs(programs) => programs.run(tell),
            Self::Answers(scene) => scene.run(tell),
            Self::Ipam(scene) => scene.run(tell),
            Self::Micro(scene) => scene.run(tell),
            Self::Packets(scene) => scene.run(tell),
        }
    }
}

fn attach_scenes(quick: bool, rounds: usize) -> Vec<attach::Scene> {
    let scene = |dual, existing, levels: &[(usize, usize)]| attach::Scene {
        dual,
        existing,
        levels: levels.to_vec(),
        rounds,
    };
    if quick {
        return vec![
            scene(false, 0, &[(1, 2), (3, 6)]),
            scene(true, 0, &[(1, 2)]),
            scene(false, 3, &[(1, 2)]),
        ];
    }
    let all = [(1, 50), (8, 120), (30, 120), (100, 200)];
    let some = [(1, 30), (30, 120)];
    vec![
        scene(false, 0, &all),
        scene(true, 0, &some),
        scene(false, 250, &some),
        scene(false, 5000, &some),
    ]
}

/// Where leases can lie on this machine.
fn stores() -> Result<Vec<Store>> {
    let mut stores = vec![Store::Etcd];
    stores.extend(api_server::find()?.map(|_| Store::Kubernetes));
    Ok(stores)
}

fn converge_scenes(quick: bool, rounds: usize, stores: &[Store]) -> Vec<converge::Scene> {
    let scene = |store, leases, renewals| converge::Scene {
        store,
        leases,
        rounds,
        changes: if quick { 2 } else { 200 },
        renewals,
    };
    let leases: &[(u32, bool)] = if quick {
        &[(20, true)]
    } else {
        &[(100, false), (1000, false), (5000, true), (10_000, false)]
    };
    let in_store = |&store| {
        let scenes = leases.iter();
        scenes.map(move |&(leases, renewals)| scene(store, leases, renewals))
    };
    stores.iter().flat_map(in_store).collect()
}

fn footprint_parts(quick: bool, rounds: usize) -> Vec<Job> {
    let scene = |peers, seconds| Job::Footprint(footprint::Scene { peers, seconds });
    let programs = |starts| Job::Programs(footprint::Programs { rounds, starts });
    let asked = |peers| Job::Answers(answers::Scene { peers, rounds });
    if quick {
        return vec![programs(1), asked(3), scene(3, 1)];
    }
    let mut parts = vec![programs(40)];
    parts.extend([3, 1000, 5000].map(asked));
    parts.extend([3, 1000, 5000, 10_000].map(|peers| scene(peers, 60)));
    parts
}

fn ipam_scenes(quick: bool, rounds: usize) -> Vec<addresses::Scene> {
    let scene = |taken| addresses::Scene {
        taken,
        rounds,
        calls: if quick { 2 } else { 10 },
    };
    let taken: &[u32] = if quick {
        &[0, 30]
    } else {
        &[0, 1000, 4000, 20_000, 60_000]
    };
    taken.iter().map(|&taken| scene(taken)).collect()
}

fn packets_scenes(quick: bool, rounds: usize) -> Vec<packets::Scene> {
    let scene = |mtu| packets::Scene {
        mtu,
        services: if quick { 100 } else { 10_000 },
        rounds,
        seconds: 1,
        milliseconds: if quick { 50 } else { 500 },
    };
    let mtus: &[u32] = if quick { &[1500] } else { &[1500, 9000] };
    mtus.iter().map(|&mtu| scene(mtu)).collect()
}
