//! nf_tables over netlink: rulesets as data, written in one transaction, without the `nft` program.
