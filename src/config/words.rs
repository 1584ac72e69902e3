//! Keys that are none of ours: what was meant, and what became of fail2ban's.

pub(super) use crate::engine::near::nearest;

/// Keys that somebody may look for in a place, and what to say about them there.
pub(super) type Elsewhere = [(&'static [&'static str], &'static str)];

/// What to say about `key`, which is none of `known`.
pub(super) fn about_unknown(key: &str, known: &[&str], elsewhere: &Elsewhere) -> String {
    if let Some((_, text)) = elsewhere.iter().find(|(keys, _)| keys.contains(&key)) {
        return (*text).into();
    }
    match nearest(key, known) {
        Some(meant) => format!("unknown key; did you mean {meant}?"),
        None => "unknown key".into(),
    }
}

const JOURNAL: &str =
    "not needed: entries come from the journal with their times; what is read is said by journalmatch";
const LATER: &str = "not supported by this version";

/// In settings and jails: what fail2ban has there, and what a later manual may speak of.
pub(super) const SETTINGS: &Elsewhere = &[
    (&["bantime-increment", "subnet", "recidive", "ignorecommand", "ignorecache", "maxmatches"], LATER),
    (&["logpath", "backend", "logencoding", "logtimezone", "datepattern", "maxlines", "skip_if_nologs"], JOURNAL),
    (&["failregex", "ignoreregex", "prefregex"], "belongs into the filter's file, filter.d/NAME.toml"),
    (
        &["banaction", "banaction_allports", "chain"],
        "not needed: bans go straight into nftables; action says \"drop\", \"reject\" or \"log\"",
    ),
    (&["dbpurgeage"], "here called history"),
    (&["dbfile", "dbmaxmatches", "loglevel", "logtarget", "socket", "pidfile"], "has no counterpart here"),
    (&["DEFAULT"], "here written [default]"),
];

/// In filters and their modes.
pub(super) const FILTERS: &Elsewhere = &[
    (&["datepattern", "maxlines", "logtype"], JOURNAL),
    (&["prefregex", "session", "address"], "belongs to the whole filter: write it before the modes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fail2ban_calls_otherwise_is_explained() {
        assert_eq!(about_unknown("dbpurgeage", &[], SETTINGS), "here called history");
        assert_eq!(about_unknown("recidive", &["enabled"], SETTINGS), "not supported by this version");
        assert_eq!(about_unknown("enable", &["enabled"], SETTINGS), "unknown key; did you mean enabled?");
    }
}
