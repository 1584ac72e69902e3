//! A configuration directory as somebody may write it: it loads, and everything wrong is told in one line with its place.

use std::fs;
use std::path::Path;

use banish::config::{Layout, load};

/// The files' texts, in this order, with a zero byte between them.
const FILES: [&str; 4] = ["banish.toml", "jail.d/a.toml", "filter.d/f.toml", "banish.toml.d/b.toml"];

thread_local! {
    static ROOT: tempfile::TempDir = {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for folder in ["jail.d", "filter.d", "banish.toml.d"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        root
    };
}

pub fn run(data: &[u8]) {
    ROOT.with(|root| {
        let texts: Vec<&[u8]> = data.splitn(FILES.len(), |byte| *byte == 0).collect();
        for (at, name) in FILES.iter().enumerate() {
            fs::write(root.path().join(name), texts.get(at).copied().unwrap_or_default()).unwrap();
        }
        let layout = Layout::Directory(root.path().into());
        let loaded = load(&layout);
        for problem in &loaded.problems {
            let shown = problem.to_string();
            assert!(!problem.text.is_empty() && !shown.contains(char::is_control), "{shown:?}");
            if let Some(place) = &problem.place {
                let name = place.file.strip_prefix(root.path()).unwrap().to_str().unwrap();
                let text = FILES.iter().position(|file| *file == name).and_then(|at| texts.get(at)).copied();
                let lines = text.unwrap_or_default().split(|byte| *byte == b'\n').count();
                assert!(place.line as usize <= lines, "{shown}");
            }
        }
        for jail in &loaded.settings.jails {
            assert!((1..=1000).contains(&jail.rules.maxretry) && (1..=128).contains(&jail.rules.ipv6_prefix));
            assert!(!loaded.left_out.iter().any(|left_out| left_out.jail == jail.name.as_str()));
        }
        assert_eq!(load(&layout).problems, loaded.problems);
    });
}
