//! The firewall rules of a node as data: which packets are masqueraded and which are accepted for forwarding.
