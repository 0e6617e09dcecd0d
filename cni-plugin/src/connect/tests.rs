use std::net::Ipv4Addr;

use hostnet::{KernelError, Mac};
use nix::errno::Errno;

use super::*;

#[test]
fn a_full_table_of_neighbours_refuses_no_pod() {
    let pod = Neighbour {
        state: NeighbourState::Reachable,
        ..Neighbour::permanent(
            LinkIndex(9),
            Ipv4Addr::new(10, 244, 1, 7).into(),
            Mac([2; 6]),
        )
    };
    let changes = [
        Change::ReplaceNeighbour(pod.clone()),
        Change::ReplaceNeighbour(Neighbour::proxy(LinkIndex(4), pod.address)),
    ];
    let dispensable = |index: usize, errno: Errno| {
        let refused = Refused {
            index,
            change: changes[index].to_string(),
            error: KernelError::new(errno as i32),
        };
        is_dispensable(&refused, &changes)
    };
    assert!(dispensable(0, Errno::ENOBUFS));
    assert!(!dispensable(0, Errno::EPERM));
    assert!(!dispensable(1, Errno::ENOBUFS));
}
