//! What an earlier run left of its windows: any bytes read or are refused, and what reads is written the same again.

use banish::ledger::{decode_windows, encode_windows};

pub fn run(data: &[u8]) {
    let Ok(windows) = decode_windows(data) else { return };
    let again = encode_windows(windows.iter().map(|(subject, failures)| (*subject, &failures[..])));
    assert_eq!(decode_windows(&again), Ok(windows));
}
