//! The banishctl binary.

fn main() {}
