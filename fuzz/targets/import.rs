//! A configuration of fail2ban's as anybody may write it: it comes over or is refused, and what comes over loads.

use std::fs;
use std::path::Path;

use banish::config::import::{Preference, filter, import};
use banish::config::{Layout, any_error, load};

/// The files' texts, in this order, with a zero byte between them.
const FILES: [&str; 6] = [
    "jail.conf",
    "jail.local",
    "filter.d/x.conf",
    "filter.d/x.local",
    "filter.d/common.conf",
    "action.d/iptables.conf",
];

thread_local! {
    static ROOT: tempfile::TempDir = {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for folder in ["from/filter.d", "from/action.d", "to/jail.d", "to/filter.d", "to/banish.toml.d"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        root
    };
}

pub fn run(data: &[u8]) {
    ROOT.with(|root| {
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let texts: Vec<&[u8]> = data.splitn(FILES.len(), |byte| *byte == 0).collect();
        for (at, name) in FILES.iter().enumerate() {
            let path = from.join(name);
            match texts.get(at).filter(|text| !text.is_empty()) {
                Some(text) => fs::write(path, text).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        }
        match filter(&from, "x", &[("mode".into(), "more".into())]) {
            Ok(imported) => assert!(imported.notes.iter().all(|note| !note.is_empty())),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
        }
        let Ok(imported) = import(&from, &Layout::Layers(Vec::new()), Preference::Unchanged) else { return };
        for (path, text) in &imported.files {
            fs::write(to.join(path), text).unwrap();
        }
        let loaded = load(&Layout::Directory(to.clone()));
        for path in imported.files.keys() {
            fs::remove_file(to.join(path)).unwrap();
        }
        assert!(!any_error(&loaded.problems), "{:?}", loaded.problems);
        let running = loaded.settings.jails.iter().filter(|jail| jail.enabled).count();
        assert_eq!(running, imported.jails.iter().filter(|jail| jail.enabled).count());
    });
}
