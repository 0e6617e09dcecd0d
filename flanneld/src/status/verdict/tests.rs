use std::net::Ipv4Addr;

use ipam::{LeaseBackend, LeaseRecord, PerFamily};

use super::*;
use crate::kernel::Contested;
use crate::reconcile::Object;
use crate::status::Board;
use crate::store::{Health, Origin, OwnEvent, OwnLease, PeerEvent};

/// A node of which all is well, with a lease for another hour.
fn well() -> Board {
    let board = Board::new(Health::new("etcd", Vec::new()));
    let now = Instant::now();
    let record = LeaseRecord {
        public: PerFamily::v4(Ipv4Addr::new(192, 0, 2, 1)),
        backend: LeaseBackend::HostGw,
    };
    let mut facts = board.facts();
    facts.take_own(OwnLease {
        key: "10.244.1.0-24".parse().unwrap(),
        record,
        expires: Some((now + Duration::from_secs(3600)).into()),
        origin: Origin::Chosen,
    });
    facts.leases.apply(PeerEvent::Snapshot {
        peers: Vec::new(),
        skipped: Vec::new(),
    });
    facts.subnet_file_written = true;
    drop(facts);
    board
}

fn reason(board: &Board, now: Instant) -> String {
    ready(&board.facts(), now).unwrap_err()
}

#[test]
fn a_node_becomes_ready_step_by_step() {
    let board = Board::new(Health::new("etcd", Vec::new()));
    let now = Instant::now();
    assert!(reason(&board, now).contains("no lease"));
    let board = well();
    assert_eq!(ready(&board.facts(), now), Ok(()));
    board.facts().subnet_file_written = false;
    assert!(reason(&board, now).contains("not ready yet"));
}

#[test]
fn a_node_without_a_lease_says_what_it_waits_for() {
    let health = Health::new("kubernetes", Vec::new());
    let board = Board::new(health.clone());
    let now = Instant::now();
    health.waits(Some("the Node has no podCIDR; give it one".to_owned()));
    assert_eq!(
        reason(&board, now),
        "flanneld is not ready yet, it has no lease: the Node has no podCIDR; give it one"
    );
    health.waits(None);
    assert_eq!(
        reason(&board, now),
        "flanneld is not ready yet: it has no lease"
    );
}

#[test]
fn a_store_that_is_away_costs_nothing_until_the_lease_ends() {
    let board = well();
    let reason_given = "etcd does not answer".to_owned();
    board.facts().on_own(&OwnEvent::Trouble {
        reason: reason_given,
    });
    let now = Instant::now();
    assert_eq!(ready(&board.facts(), now), Ok(()));
    let said = reason(&board, now + Duration::from_secs(3700));
    assert!(
        said.contains("the lease ended") && said.contains("etcd does not answer"),
        "{said}"
    );
    let expires = Some((now + Duration::from_secs(7200)).into());
    board.facts().on_own(&OwnEvent::Renewed { expires });
    assert_eq!(
        ready(&board.facts(), now + Duration::from_secs(3700)),
        Ok(())
    );
}

#[test]
fn a_lost_lease_is_not_ready_until_it_is_back() {
    let board = well();
    let now = Instant::now();
    let lost = OwnEvent::Lost {
        reason: "somebody deleted it".to_owned(),
    };
    board.facts().on_own(&lost);
    assert_eq!(
        reason(&board, now),
        "the lease is lost: somebody deleted it"
    );
    let lease = board.facts().own.as_ref().unwrap().lease.clone();
    board.facts().on_own(&OwnEvent::Reacquired(lease));
    assert_eq!(ready(&board.facts(), now), Ok(()));
}

#[test]
fn the_kernel_may_be_late_for_some_seconds_and_what_is_contested_is_named() {
    let (short, long) = (GRACE / 2, GRACE * 2);
    let mut state = KernelState::default();
    assert_eq!(behind(short, &state), Ok(()));
    assert!(behind(long, &state).unwrap_err().contains("not done yet"));
    state.trouble = Some("the kernel refuses it".to_owned());
    assert!(behind(long, &state).unwrap_err().contains("refuses"));
    let now = Instant::now();
    state.contested.push(Contested {
        object: Object::Firewall,
        repairs: 31,
        since: now,
        next_attempt: now,
    });
    assert!(
        behind(long, &state)
            .unwrap_err()
            .contains("undoing firewall")
    );
}

#[test]
fn only_a_thread_that_has_not_moved_for_long_counts_as_stuck() {
    assert_eq!(stuck(Duration::from_secs(60)), Ok(()));
    assert!(stuck(Duration::from_secs(300)).is_err());
}
