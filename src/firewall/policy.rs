//! What the table is to do, as one value: jails, allow lists and the operator's choices.

use std::collections::BTreeSet;

use crate::engine::ban::JailName;
use crate::engine::jail::Action;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::Scope;
use crate::engine::subject::Family;

/// Everything the rules depend on. Two equal policies make the same rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The jails; each name once (of doubles the last one counts).
    pub jails: Vec<JailPolicy>,
    /// Who is let through before any ban is looked at.
    pub allow: AllowList,
    /// What becomes of replies to connections that this machine opened to a banned host.
    pub replies: Replies,
    /// Which packets are looked at.
    pub reach: Reach,
    /// Only packets that came in here are looked at; empty = everywhere. A trailing `*` stands for any ending. Names
    /// above 15 bytes match nothing, as no interface has one.
    pub interfaces: Vec<String>,
    /// Is the table to belong to this process, so that nobody else can change it (kernel ≥ 6.9)? Its price: a saved
    /// ruleset that contains it does not load any more.
    pub owner: bool,
}

/// One jail's part of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailPolicy {
    /// Its name.
    pub jail: JailName,
    /// Which packets of a banned subject are meant.
    pub scope: Scope,
    /// What becomes of them; a jail that only logs has no sets and no rules.
    pub action: Action,
    /// Who is let through in this jail only, beyond the common list.
    pub allow: AllowList,
    /// The prefix lengths that it usually bans, whose sets exist from the start. Others appear with the first ban that
    /// needs them. A jail with none here and no ban costs nothing: so the `hosts` chain, and connection tracking with
    /// it, waits for the first ban of all ports.
    pub lengths: BTreeSet<(Family, u8)>,
}

impl JailPolicy {
    /// The lengths of a jail that counts IPv4 by address and IPv6 by `ipv6_prefix` bits.
    pub fn usual_lengths(ipv6_prefix: u8) -> BTreeSet<(Family, u8)> {
        BTreeSet::from([(Family::V4, 32), (Family::V6, ipv6_prefix.clamp(1, 128))])
    }
}

/// What becomes of replies of a banned host, where all its ports are banned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// They arrive: our own connections to it live. Needs connection tracking.
    #[default]
    Accept,
    /// They are dropped like everything else, before connection tracking sees them.
    Drop,
}

/// Which packets are looked at, by where they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// All, those too that are only routed.
    #[default]
    All,
    /// Those to an address of this machine.
    Local,
}
