//! The firewall against the real kernel, each test in network namespaces of its own; without root they are skipped.

#![allow(clippy::disallowed_methods, reason = "tests are an edge")]

mod foreign;
mod owner;
mod packets;
mod space;
mod sys;
mod table;
