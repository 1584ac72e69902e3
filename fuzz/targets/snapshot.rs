//! What an earlier run left of its counts and sessions: any bytes read or are refused, and what reads is written the same
//! again.

use banish::engine::snapshot::{WindowsWriter, decode_sessions, decode_windows, encode_sessions};

pub fn run(data: &[u8]) {
    if let Ok(windows) = decode_windows(data) {
        let mut writer = WindowsWriter::default();
        windows.iter().for_each(|(subject, failures)| writer.add(*subject, failures));
        assert_eq!(decode_windows(&writer.finish()), Ok(windows));
    }
    if let Ok(sessions) = decode_sessions(data) {
        let again = encode_sessions(&sessions);
        assert_eq!(decode_sessions(&again).map(|sessions| encode_sessions(&sessions)), Ok(again));
    }
}
