//! Addresses and their meaning: network configuration, subnets, leases in their wire forms, and the pool of pod addresses.
