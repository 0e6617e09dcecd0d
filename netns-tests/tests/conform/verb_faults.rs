//! Faults in what the verbs of a plugin do; each with the checks that have to catch it.

use crate::faults::Fault;

pub(crate) const RESULTS: &[Fault] = &[
    (
        r#"add() { real | sed 's/"1.0.0"/"0.4.0"/'; }"#,
        &["result.version"],
    ),
    (r#"add() { real | sed 's#/24##'; }"#, &["result.shape"]),
    (
        r#"add() { real | sed 's/"address"/"version": "4", "address"/'; }"#,
        &["result.no-foreign-keys"],
    ),
    (
        r#"add() { real | sed 's#/24#/024#'; }"#,
        &["result.canonical"],
    ),
    (
        r#"add() { real | sed '/"sandbox"/s#/run#/var/run#'; }"#,
        &["result.interface"],
    ),
    (
        r#"add() { real | sed 's/"interface": 1/"interface": 0/'; }"#,
        &["result.interface-index"],
    ),
    (
        r#"add() { real | sed 's/"mac": "[^"]*"/"mac": "02:00:00:00:00:09"/'; }"#,
        &["result.mac"],
    ),
    (
        r#"add() { real | sed 's/"name": "veth[^"]*"/"name": "veth0"/'; }"#,
        &[
            "result.host-interfaces",
            "result.interfaces-exist",
            "chain.bandwidth",
        ],
    ),
    (
        r#"add() { real | sed 's#10.88.0.2/24#10.88.0.9/24#'; }"#,
        &["result.addresses"],
    ),
    (
        r#"add() { real | sed 's#0.0.0.0/0#192.0.2.0/28#'; }"#,
        &["result.routes"],
    ),
    (
        r#"add() { real | sed 's/"nameservers"/"servers"/'; }"#,
        &["result.dns"],
    ),
    (
        r#"add() { real && nsenter --net="$CNI_NETNS" ip -6 address flush dev "$CNI_IFNAME" scope global; }"#,
        &["result.dual-stack"],
    ),
];

pub(crate) const ADD: &[Fault] = &[
    (
        r#"add() { [ ! -s "/run/$CNI_CONTAINERID" ] || { cat "/run/$CNI_CONTAINERID"; exit 0; }; real | tee "/run/$CNI_CONTAINERID"; }"#,
        &["add.twice-refused"],
    ),
    ("add() { refuse 11 later; }", &["add.succeeds"]),
    (
        r#"add() { real && nsenter --net="$CNI_NETNS" ip link set "$CNI_IFNAME" down; }"#,
        &["add.interface"],
    ),
    (
        r#"[ ${#CNI_IFNAME} -lt 15 ] || refuse 4 "CNI_IFNAME is too long""#,
        &["add.longest-ifname"],
    ),
    (
        r#"add() { nsenter --net="$CNI_NETNS" ip link delete "$CNI_IFNAME"; real; } 2>/dev/null"#,
        &[
            "add.existing-ifname-refused",
            "add.existing-ifname-untouched",
            "add.twice-harmless",
        ],
    ),
    (
        r#"add() { real || { code=$?; touch "/run/left.$CNI_CONTAINERID"; exit $code; }; }"#,
        &[
            "add.existing-ifname-leaves-nothing",
            "add.missing-netns-leaves-nothing",
            "add.no-netns-leaves-nothing",
            "add.ipam-fails",
            "add.bad-ipam-config",
            "pool.exhausted-leaves-nothing",
        ],
    ),
    (
        r#"add() { [ -e "$CNI_NETNS" ] || exit 0; real; }"#,
        &["add.missing-netns-refused"],
    ),
    (
        r#"case ${CNI_NETNS:-} in */ordinary) exit 0 ;; esac"#,
        &["add.no-netns-refused"],
    ),
    (
        r#"add() { [ ! -e /run/failed ] || refuse 11 "DEL first"; real || { touch /run/failed; exit 1; }; }"#,
        &["add.retry"],
    ),
    (
        r#"add() { real && nsenter --net="$CNI_NETNS" ip route flush table main; }"#,
        &[
            "add.gateway-answers",
            "add.containers-talk",
            "add.host-reaches",
        ],
    ),
];

pub(crate) const DEL: &[Fault] = &[
    (
        r#"del() { [ -n "${CNI_ARGS+x}" ] || refuse 4 CNI_ARGS; real; }"#,
        &["del.no-args"],
    ),
    (
        "del() { refuse 11 later; }",
        &[
            "del.succeeds",
            "del.before-add",
            "del.empty-netns",
            "del.no-netns",
        ],
    ),
    ("del() { real; echo '{}'; }", &["del.silent"]),
    (
        "del() { :; }",
        &[
            "del.removes-interface",
            "del.leaves-nothing",
            "pool.freed",
            "pool.not-leaked",
        ],
    ),
    (
        r#"del() { [ ! -e /run/deleted ] || refuse 3 "no such container"; touch /run/deleted; real; }"#,
        &["del.twice"],
    ),
    (
        r#"del() { touch "/run/deleted.$CNI_CONTAINERID"; real; }"#,
        &["del.leaves-nothing", "parallel.dels"],
    ),
    (
        r#"del() { [ -e "$CNI_NETNS" ] || refuse 3 "no network namespace"; real; }"#,
        &["del.missing-netns"],
    ),
    (
        r#"del() { [ -n "${CNI_NETNS:-}" ] || exit 0; real; }"#,
        &["del.empty-netns-leaves-nothing", "pool.freed-without-netns"],
    ),
    (
        r#"del() { for path in /run/netns/0*; do nsenter --net="$path" ip link delete eth0; done 2>/dev/null; real; }"#,
        &["del.other-container-stays"],
    ),
    (
        r#"case $verb-$input in DEL-*prevResult*) ;; DEL-*) refuse 7 prevResult ;; esac"#,
        &["del.no-prev-result"],
    ),
    (
        r#"case $verb-$input in DEL-*prevResult*) ;; DEL-*) exit 0 ;; esac"#,
        &["del.no-prev-result-leaves-nothing"],
    ),
    (
        r#"del() { nsenter --net="$CNI_NETNS" ip link show "$CNI_IFNAME" >/dev/null 2>&1 || refuse 999 gone; real; }"#,
        &["del.gone-interface"],
    ),
];

pub(crate) const CHECK: &[Fault] = &[
    ("check() { refuse 999 broken; }", &["check.after-add"]),
    ("check() { real; echo '{}'; }", &["check.silent"]),
    (
        "check() { touch /run/checked; real; }",
        &["check.changes-nothing"],
    ),
    (
        "check() { :; }",
        &[
            "check.interface-gone",
            "check.address-gone",
            "check.route-gone",
            "check.netns-gone",
            "check.host-end-down",
        ],
    ),
    (
        r#"check() { nsenter --net="$CNI_NETNS" ip link show "$CNI_IFNAME" | grep -q 'mtu 1500' || refuse 999 MTU; real; }"#,
        &["check.mtu-changed", "chain.tuning"],
    ),
    (
        r#"check() { ! nsenter --net="$CNI_NETNS" ip link | grep -q 02:aa || refuse 999 MAC; real; }"#,
        &["check.mac-changed"],
    ),
    (
        r#"check() { ! ip link | grep -q 02:aa || refuse 999 MAC; real; }"#,
        &["check.host-mac-changed"],
    ),
    (
        r#"check() { ! nsenter --net="$CNI_NETNS" ip route | grep -q 198.51 || refuse 999 route; real; }"#,
        &["check.route-added"],
    ),
];

pub(crate) const GC_AND_STATUS: &[Fault] = &[
    (
        "gc() { refuse 999 broken; }",
        &["gc.succeeds", "gc.no-container-variables"],
    ),
    (
        "gc() { [ ! -e /run/collected ] || refuse 999 again; touch /run/collected; }",
        &["gc.twice"],
    ),
    ("gc() { echo '{}'; }", &["gc.silent"]),
    ("gc() { :; }", &["gc.stale-removed", "gc.empty-list"]),
    (
        r#"gc() { rm -f "$reservations"/10.*; }"#,
        &["gc.valid-kept", "gc.no-list", "gc.other-network"],
    ),
    (
        r#"gc() { [ -n "${CNI_CONTAINERID:-}" ] || refuse 4 CNI_CONTAINERID; }"#,
        &["gc.no-container-variables"],
    ),
    (
        "status() { refuse 50 never; }",
        &["status.ready", "status.no-container-variables"],
    ),
    ("status() { echo '{}'; }", &["status.silent"]),
    (
        "status() { touch /run/asked; }",
        &["status.changes-nothing"],
    ),
    ("status() { :; }", &["status.exhausted"]),
    (
        "status() { timeout 2 tail -f /dev/null; :; }",
        &["status.quick"],
    ),
];

/// Results that the reference plugins here do not know yet.
pub(crate) const NEW_RESULTS: &[Fault] = &[
    (
        r#"add() { real | sed 's/"sandbox"/"mtu": 99, "sandbox"/'; }"#,
        &["result.mtu"],
    ),
    ("", &["result.mtu-present"]),
];

/// A GC that knows containers only.
pub(crate) const OTHER_GC: &[Fault] = &[(
    r#"gc() { for file in "$reservations"/10.*; do
        case $input in *"$(head -n 1 "$file" | tr -d '\r')"*) ;; *) rm "$file" ;; esac; done; }"#,
    &["gc.interface-matters"],
)];

/// Faults of a plugin that hands out addresses.
pub(crate) const ADDRESSES: &[Fault] = &[
    (
        r#"add() { real || { touch "/run/left.$CNI_CONTAINERID"; exit 1; }; }"#,
        &["request.refusal-leaves-nothing"],
    ),
    (
        r#"add() { real | sed 's/10\.99\.0\.3/10.99.0.2/; s/10\.88\.0\.[0-9]*/10.88.0.2/'; }"#,
        &[
            "pool.whole",
            "add.two-containers",
            "parallel.unique",
            "pool.not-reused-at-once",
        ],
    ),
    (
        r#"add() { output=$(real) || { printf '{"cniVersion":"1.0.0"}'; exit 0; }; echo "$output"; }"#,
        &[
            "pool.exhausted",
            "request.taken",
            "request.outside",
            "request.gateway",
            "request.nonsense",
        ],
    ),
    (
        r#"add() { real || { timeout 6 tail -f /dev/null; exit 1; }; }"#,
        &["pool.exhausted-quick"],
    ),
    (
        "del() { :; }",
        &["pool.freed", "pool.not-leaked", "check.reservation-gone"],
    ),
    ("CNI_ARGS=", &["request.cni-args"]),
    (
        r#"input=$(printf %s "$input" | sed 's/"args"/"xargs"/; s/"runtimeConfig"/"xruntimeConfig"/')"#,
        &[
            "request.args-cni-ips",
            "request.ips-capability",
            "request.ip-ranges",
        ],
    ),
    (
        r#"add() { ip link add "x${CNI_CONTAINERID##*c0f0f0}" type bridge; real; }"#,
        &["add.no-interface-by-ipam"],
    ),
];

pub(crate) const TOGETHER: &[Fault] = &[
    (
        r#"add() { mkdir /run/busy 2>/dev/null || refuse 11 busy; real; timeout 0.2 tail -f /dev/null; rmdir /run/busy; }"#,
        &["parallel.first-adds"],
    ),
    (
        r#"del() { mkdir /run/busy 2>/dev/null || refuse 11 busy; real; timeout 0.2 tail -f /dev/null; rmdir /run/busy; }"#,
        &["parallel.dels", "parallel.mixed", "parallel.same-del"],
    ),
    (
        r#"case $verb-$input in ADD-*prevResult*) refuse 2 prevResult ;; esac"#,
        &["chain.prev-result-accepted"],
    ),
    (
        r#"add() { real | sed 's|"sandbox": "[^"]*"|"sandbox": ""|'; }"#,
        &["chain.portmap-forwards"],
    ),
    (
        "add() { real | sed 's#/24##'; }",
        &["chain.portmap", "chain.bandwidth", "chain.tuning"],
    ),
    (
        r#"del() { touch "/run/left.$CNI_CONTAINERID"; real; }"#,
        &["chain.leaves-nothing"],
    ),
];

/// Faults of a plugin with a bridge.
pub(crate) const OF_A_BRIDGE: &[Fault] = &[(
    r#"add() { real && ip link set dev cni0 address "02:00:00:00:00:$(printf %s "$CNI_CONTAINERID" | tail -c 2)"; }"#,
    &["add.bridge-mac-stays"],
)];

/// Faults of a plugin for the loopback.
pub(crate) const OF_LOOPBACK: &[Fault] = &[("check() { :; }", &["check.loopback-down"])];
