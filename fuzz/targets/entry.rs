//! What the journal hands over: fields, cursors and names, against plain readings of the same.

use std::str::FromStr;

use banish::engine::ban::JailName;
use banish::engine::entry::{Cursor, Field, Page, Text, VALUE_LIMIT, Wanted};
use banish::engine::subject::Subject;
use banish::engine::time::Stamp;

const WANTED: [&str; 6] = ["MESSAGE", "_UID", "_PID", "_SYSTEMD_UNIT", "M", "MESSAGE_ID"];

/// Fields between newlines; the first byte says how often the whole is offered, so that values can be long.
pub fn run(data: &[u8]) {
    let Some((times, data)) = data.split_first() else { return };
    let mut wanted = Wanted::default();
    let slots = WANTED.map(|name| wanted.want(&name.parse().unwrap()));
    let long = data.repeat(usize::from(*times) * 16 + 1);
    let mut page = Page::default();
    page.begin(Stamp::EPOCH, 0);
    let fields: Vec<&[u8]> = long.split(|byte| *byte == b'\n').collect();
    fields.iter().for_each(|field| page.offer(&wanted, field));
    for (name, slot) in WANTED.iter().zip(slots) {
        let expected = fields.iter().filter_map(|field| {
            let at = field.iter().position(|byte| *byte == b'=')?;
            let (found, value) = (&field[..at], &field[at + 1..]);
            let bytes = &value[..value.len().min(VALUE_LIMIT)];
            (found == name.as_bytes()).then_some(Text { bytes, cut: bytes.len() < value.len() })
        });
        assert!(page.entry().values(slot).eq(expected));
    }
    for text in data.split(|byte| *byte == b'\n').filter_map(|field| std::str::from_utf8(field).ok()) {
        words(text);
    }
}

/// What reads is shown so that it reads again as the same.
fn words(text: &str) {
    let _ = reads_back::<Cursor>(text);
    let _ = reads_back::<Subject>(text);
    let _ = reads_back::<JailName>(text);
    if let Ok(field) = reads_back::<Field>(text) {
        assert_eq!(field.is_attested(), text.starts_with('_'));
    }
    if let Ok(length) = banish::config::length::parse(text) {
        let shown = banish::config::length::show(length);
        assert_eq!(banish::config::length::parse(&shown), Ok(length), "{text:?} is shown as {shown:?}");
    }
}

fn reads_back<T: FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) -> Result<T, ()> {
    let read = text.parse::<T>().map_err(drop)?;
    let shown = read.to_string();
    assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&read), "{text:?} is shown as {shown:?}");
    Ok(read)
}
