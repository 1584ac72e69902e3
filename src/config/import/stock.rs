//! Which files of a filter are as fail2ban ships them, and which somebody has changed.

use super::ini::Ini;
use super::tree::Tree;

/// Hashes of what fail2ban's releases say in `filter.d`, a line for each: the hash and the file's name.
const KNOWN: &str = include_str!("stock.txt");

/// Is the filter called `name`, with all that it includes, as fail2ban ships it?
pub(super) fn is_stock(tree: &mut Tree, name: &str) -> bool {
    let Ok(files) = tree.closure(&format!("filter.d/{name}")) else { return false };
    !files.is_empty()
        && files.iter().all(|(file, ini)| {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let plain = file.extension().is_some_and(|ending| ending == "conf");
            plain && is_known(&stem, hash(ini))
        })
}

fn is_known(name: &str, hash: u64) -> bool {
    let hash = format!("{hash:016x}");
    KNOWN.lines().filter_map(|line| line.split_once(' ')).any(|(known, stem)| stem == name && known == hash)
}

/// FNV-1a of all sections, options and values: comments and blanks between them do not count.
fn hash(ini: &Ini) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (section, options) in &ini.sections {
        add(section);
        for (name, raw) in options {
            add(name);
            add(&raw.value);
        }
        add("");
    }
    hash
}
