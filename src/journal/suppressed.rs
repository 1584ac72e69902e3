//! journald's own word that it threw messages of a unit away: a failed login may have been among them.

use systemd::journal::JournalRef;

use super::sys;

/// The field that marks such a notice, `SD_MESSAGE_JOURNAL_DROPPED` of `sd-messages.h`. Anybody can send it.
pub const MARK: &str = "MESSAGE_ID";
/// … and its value.
pub const MARK_VALUE: &str = "a596d6fe7bfa4994828e72309e95d61e";

/// How many messages of a unit went over journald's rate limit and are in no journal.
///
/// journald says so only with the unit's next message after the limit's interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// The unit, as journald names it.
    pub unit: String,
    /// How many of its messages.
    pub count: u64,
}

/// Is this field the mark of a notice?
pub fn is_mark(data: &[u8]) -> bool {
    data.len() == MARK.len() + 1 + MARK_VALUE.len()
        && data.ends_with(MARK_VALUE.as_bytes())
        && data.starts_with(MARK.as_bytes())
}

/// The notice in the current entry, if it is journald's own.
pub fn read(journal: &mut JournalRef) -> Result<Option<Suppressed>, systemd::Error> {
    let (mut own, mut count, mut unit) = (false, None, None);
    journal.restart_data();
    while let Some(data) = sys::next_field(journal)? {
        // No sender can set a transport.
        own |= data == b"_TRANSPORT=driver";
        let Ok(text) = std::str::from_utf8(data) else { continue };
        if let Some(value) = text.strip_prefix("N_DROPPED=") {
            count = value.parse().ok();
        } else if let Some(message) = text.strip_prefix("MESSAGE=Suppressed ") {
            unit = message.split_once(" messages from ").map(|(_, unit)| unit.to_owned());
        }
    }
    Ok(match (own, unit, count) {
        (true, Some(unit), Some(count)) => Some(Suppressed { unit, count }),
        _ => None,
    })
}
