//! The MESSAGE_ID of every record; `units/banish.catalog` says of each what happened and what to do.

/// The service is up.
pub const STARTED: &str = "bf18aa1515774d6086bd910c7cd92356";

/// Bans are in force before the network is up.
pub const RESTORED: &str = "9247a729e3fd4150b8a34959c0fc880f";

/// The service goes; bans stay.
pub const STOPPED: &str = "7e5e9b012f2d4fba88d01dd3263859dd";

/// The journal's past has been read.
pub const CAUGHT_UP: &str = "6b38cf63062b44189788ca5f500c5ab6";

/// A ban began.
pub const BANNED: &str = "ed0e712a1c4c421eb37a1660a90c105f";

/// A jail that only reports would have banned.
pub const WOULD_BAN: &str = "36eb9e105841414cb69b1b126c4c15c5";

/// A ban that would be over already.
pub const TOO_LATE: &str = "93204cebd6244a1bbdc72694760d3036";

/// A ban ended.
pub const UNBANNED: &str = "8020bd1439884cc48f9298232d553bf0";

/// Counted failures were forgotten at somebody's word.
pub const FORGOT: &str = "d3e4e6a6569e4640b91981bef8b2892a";

/// A jail counts nothing for a while.
pub const PAUSED: &str = "a147413c83b546cc8d9ceec82e9adbb9";

/// A jail counts again.
pub const RESUMED: &str = "59225d565205450aac7b94753675a4b2";

/// Bans of the kernel that the ledger did not know.
pub const ADOPTED: &str = "1c26e8e500d64e52bc7fc30638d5170b";

/// Somebody else changed the table; it was put back.
pub const FIREWALL_REBUILT: &str = "16b0695a0f0a4e9588e48bcf0a4e9a04";

/// The kernel refused a change.
pub const FIREWALL_REFUSED: &str = "d1264022ba454069a479223f230211d0";

/// This kernel cannot do something that the configuration asks for.
pub const FIREWALL_LACKS: &str = "5fc252b210ad4812ac6575afb82eb8e7";

/// The kernel takes changes again.
pub const FIREWALL_RECOVERED: &str = "b6a4b4575b6244ee9881f7b73750eda4";

/// Entries were deleted before they were read.
pub const JOURNAL_GAP: &str = "7ea71edb05b84633a8fbc4fa444c6494";

/// The journal was opened anew at the cursor.
pub const READER_REOPENED: &str = "7b75ab6aa09b455fb52170129c419f7e";

/// The journal cannot be read.
pub const READER_FAILED: &str = "ca74b48e454b4b55960b0cf3a9ba5525";

/// journald dropped messages of a unit.
pub const JOURNAL_SUPPRESSED: &str = "54db36efd3de403e95f28b6e706c0b79";

/// Subjects were forgotten early because there were too many.
pub const EVICTED: &str = "ca2efe573ef54b11b3166219df8c388d";

/// Searches of a pattern ended without an answer.
pub const GAVE_UP: &str = "ca8629c772a7424089cc58d442c8a186";

/// Part of the configuration is in error.
pub const CONFIG_BROKEN: &str = "199038647cc8480d998c5635b6e3691e";

/// Something in the configuration is doubtful; it is in force.
pub const CONFIG_WARNING: &str = "afc86ccde08f4540a260acfd0d3f1ca9";

/// The configuration is in error; the last one that was in force runs.
pub const FORMER_RUNS: &str = "5c23b42c074a4a2fa9fb6dbfc05024c7";

/// The last configuration that was in force cannot be used.
pub const FORMER_UNUSABLE: &str = "abded7cf10b34956a96875de59331135";

/// The configuration in force cannot be kept.
pub const FORMER_UNKEPT: &str = "ffcc0b8d23a04bb7bacab5a1f5e6839b";

/// A jail does not run because the configuration is in error.
pub const JAIL_LEFT_OUT: &str = "84fcd650dd11418284d1ed596e05b2f4";

/// A jail that ran is disabled or gone by the new configuration.
pub const JAIL_GONE: &str = "4de7e07a6bd841d69897777e9095a77a";

/// The configuration was read anew.
pub const RELOADED: &str = "3ca2dee9a97841c09b1dbcbb4c119af9";

/// The new configuration is in error; the old one stays.
pub const RELOAD_FAILED: &str = "ac5afc9ce22f482ebdfad7725966ea40";

/// The ledger cannot be used.
pub const LEDGER_DAMAGED: &str = "97ae92604b624bdeb92ae0284673cfe9";

/// The ledger is written again.
pub const LEDGER_RECOVERED: &str = "c34e27f9bde34d90ba6046e75abf5b30";

/// The message bus is gone.
pub const BUS_LOST: &str = "a838b3a0963b452488d81ae5e00dd159";

/// journald was too slow for these records.
pub const RECORDS_DROPPED: &str = "2c3d159bfa964b10ade19bc2fbe0e2b8";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_catalog_has_each_of_these_and_no_other() {
        let here: BTreeSet<(&str, &str)> = include_str!("ids.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix("\";")?.split_once(": &str = \""))
            .collect();
        let lines: Vec<&str> = include_str!("../../units/banish.catalog").lines().collect();
        let there: BTreeSet<(&str, &str)> = lines
            .windows(2)
            .filter_map(|pair| Some((pair[0].strip_prefix("# ")?, pair[1].strip_prefix("-- ")?)))
            .collect();
        assert!(here.len() > 10);
        assert_eq!(here, there);
    }
}
