//! fail2ban's configuration brought over.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

use std::path::Path;

#[test]
fn dump() {
    let from = Path::new("/tmp/import-f2b/root/etc/fail2ban");
    let _ = std::fs::create_dir_all("/tmp/import-out");
    let mut names: Vec<_> = std::fs::read_dir(from.join("filter.d")).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names {
        if path.extension().is_none_or(|e| e != "conf") { continue }
        let name = path.file_stem().unwrap().to_str().unwrap();
        match banish::config::import::filter(from, name, &[]) {
            Ok(f) => {
                println!("{name}: ok, {} notes", f.notes.len());
                for n in &f.notes { println!("     {n}"); }
                std::fs::write(format!("/tmp/import-out/{name}.toml"), f.text).unwrap();
            }
            Err(e) => println!("{name}: ERROR {e}"),
        }
    }
}
