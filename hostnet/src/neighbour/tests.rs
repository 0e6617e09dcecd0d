use proptest::prelude::*;

use super::*;
use crate::change::{Change, tests::only_message};

proptest! {
    #[test]
    fn a_neighbour_reads_as_it_was_written(link: u32, address: IpAddr, mac: Option<[u8; 6]>, state: u16, proxy: bool) {
        let neighbour = Neighbour {
            link: LinkIndex(link),
            address,
            mac: mac.map(Mac),
            state: NeighbourState::from_wire(state),
            proxy,
        };
        let (_, _, payload) = only_message(&Change::ReplaceNeighbour(neighbour.clone()));
        prop_assert_eq!(Neighbour::decode(&payload), Some(neighbour));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Neighbour::decode(&bytes);
    }
}

#[test]
fn a_mixture_with_permanent_is_permanent() {
    const NOARP_AND_PERMANENT: u16 = 0xc0;
    let state = NeighbourState::from_wire(NOARP_AND_PERMANENT);
    assert_eq!(state, NeighbourState::Permanent);
    assert_eq!(NeighbourState::from_wire(0x12), NeighbourState::Other(0x12));
}
