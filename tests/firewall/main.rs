//! The firewall against the real kernel, each test in network namespaces of its own; without root they are skipped.

#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod foreign;
mod former;
mod owner;
mod packets;
mod restore;
mod sessions;
mod space;
#[allow(dead_code, reason = "shared with the tests of crashes")]
mod sys;
mod table;
