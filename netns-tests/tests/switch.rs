//! The switch in place: a host as flannel leaves it, pods talking, and Loden takes over; then Loden goes.
//!
//! The host is built with `ip`, `bridge`, `nft`, `iptables-restore` and `etcdctl`, in `netns_tests::flannel`, as flannel's own programs leave it; nothing of ours has
//! touched it but the CNI program, which attached the pods. `scene` lets pods talk a hundred times a second meanwhile.

#[path = "switch/scene.rs"]
mod scene;

use anyhow::Result;
use netns_tests::flannel::{self, Rules};
use netns_tests::{Families, NetConf};

use scene::switch;

netns_tests::tests![
    from_flannel_with_nf_tables,
    from_flannel_0_9,
    from_flannel_0_16,
    from_flannel_0_20,
    from_flannel_0_28,
    from_flannel_0_28_and_iptables_stay,
    from_flannel_with_both_families,
    from_flannel_with_ipv6_alone,
    from_flannel_with_direct_routing,
    from_flannel_with_host_gw,
    from_flannel_with_host_gw_and_both_families,
];

fn from_flannel_with_nf_tables() -> Result<()> {
    let conf = NetConf::new("vxlan", Families::Ipv4).and("EnableNFTables", true);
    switch(conf, Rules::NfTables)
}

fn from_flannel_0_9() -> Result<()> {
    switch(
        NetConf::new("vxlan", Families::Ipv4),
        Rules::Iptables(flannel::V0_9),
    )
}

fn from_flannel_0_16() -> Result<()> {
    switch(
        NetConf::new("vxlan", Families::Ipv4),
        Rules::Iptables(flannel::V0_16),
    )
}

fn from_flannel_0_20() -> Result<()> {
    switch(
        NetConf::new("vxlan", Families::Ipv4),
        Rules::Iptables(flannel::V0_20),
    )
}

fn from_flannel_0_28() -> Result<()> {
    switch(
        NetConf::new("vxlan", Families::Ipv4),
        Rules::Iptables(flannel::V0_28),
    )
}

fn from_flannel_0_28_and_iptables_stay() -> Result<()> {
    let conf = NetConf::new("vxlan", Families::Ipv4).and("EnableNFTables", false);
    switch(conf, Rules::Iptables(flannel::V0_28))
}

fn from_flannel_with_both_families() -> Result<()> {
    switch(NetConf::new("vxlan", Families::Dual), Rules::NfTables)
}

fn from_flannel_with_ipv6_alone() -> Result<()> {
    switch(NetConf::new("vxlan", Families::Ipv6), Rules::NfTables)
}

fn from_flannel_with_direct_routing() -> Result<()> {
    let conf = NetConf::new("vxlan", Families::Ipv4).with("DirectRouting", true);
    switch(conf, Rules::NfTables)
}

fn from_flannel_with_host_gw() -> Result<()> {
    switch(NetConf::new("host-gw", Families::Ipv4), Rules::NfTables)
}

fn from_flannel_with_host_gw_and_both_families() -> Result<()> {
    switch(NetConf::new("host-gw", Families::Dual), Rules::NfTables)
}
