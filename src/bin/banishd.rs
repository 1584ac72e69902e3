//! The banishd binary.

fn main() {}
