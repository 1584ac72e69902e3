//! The daemon: introduces journal, engine, firewall, ledger and bus to each other.
