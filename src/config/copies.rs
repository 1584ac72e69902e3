//! A copy of all that a configuration was read from, to be read again where its files have been changed since.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::layers::Files;
use super::problem::{Place, Problem};

/// The files of a configuration, and the texts that were read of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// In the order in which they are merged.
    settings: Vec<PathBuf>,
    /// Those of each filter in the order in which they are merged, by the filters' names.
    filters: BTreeMap<String, Vec<PathBuf>>,
    /// A filter that no enabled jail uses has none.
    texts: BTreeMap<PathBuf, String>,
}

/// Bytes that are no copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged")]
pub struct Damaged;

impl Copies {
    /// Copies of these files with these texts.
    pub(super) fn new(files: &Files, texts: BTreeMap<PathBuf, String>) -> Copies {
        Copies { settings: files.settings.clone(), filters: files.filters.clone(), texts }
    }

    /// The files as they would be found.
    pub(super) fn files(&self) -> Files {
        Files { settings: self.settings.clone(), hidden: None, filters: self.filters.clone() }
    }

    /// The text of the file at `path`, if it was kept.
    pub(super) fn text(&self, path: &Path) -> Result<String, Problem> {
        let text = self.texts.get(path).cloned();
        text.ok_or_else(|| Problem::about_file(Place::whole(path), "was not kept"))
    }

    /// The copies as bytes, which [`Copies::decode`] takes.
    ///
    /// Each file, and each text, is a line `KIND NAME LENGTH LENGTH`, the path and the text; a file has an empty one.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |kind: &str, name: &str, path: &Path, text: &str| {
            let path = path.as_os_str().as_bytes();
            out.extend(format!("{kind} {name} {} {}\n", path.len(), text.len()).into_bytes());
            for part in [path, text.as_bytes()] {
                out.extend(part);
                out.push(b'\n');
            }
        };
        for path in &self.settings {
            put("settings", "-", path, "");
        }
        for (name, paths) in &self.filters {
            paths.iter().for_each(|path| put("filter", name, path, ""));
        }
        for (path, text) in &self.texts {
            put("text", "-", path, text);
        }
        out
    }

    /// The copies that `bytes` are.
    ///
    /// # Errors
    /// Where they are none.
    pub fn decode(mut bytes: &[u8]) -> Result<Copies, Damaged> {
        let mut copies = Copies::default();
        while !bytes.is_empty() {
            let line = take_line(&mut bytes)?;
            let mut words = line.split(' ');
            let mut word = || words.next().ok_or(Damaged);
            let (kind, name) = (word()?, word()?);
            let path = PathBuf::from(OsString::from_vec(take(&mut bytes, word()?)?));
            let text = String::from_utf8(take(&mut bytes, word()?)?).map_err(|_| Damaged)?;
            match kind {
                "settings" => copies.settings.push(path),
                "filter" => copies.filters.entry(name.to_owned()).or_default().push(path),
                "text" => drop(copies.texts.insert(path, text)),
                _ => return Err(Damaged),
            }
        }
        Ok(copies)
    }
}

fn take_line<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Damaged> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Damaged)?;
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| Damaged)?;
    *bytes = &bytes[end + 1..];
    Ok(line)
}

/// So many bytes as `length` says, and the line's end behind them.
fn take(bytes: &mut &[u8], length: &str) -> Result<Vec<u8>, Damaged> {
    let length: usize = length.parse().map_err(|_| Damaged)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Damaged)?;
    *bytes = rest.strip_prefix(b"\n").ok_or(Damaged)?;
    Ok(taken.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn copies() -> Copies {
        let filter = |files: &[&str]| files.iter().map(PathBuf::from).collect::<Vec<_>>();
        let files = Files {
            settings: vec!["/usr/lib/x/banish.toml".into(), "/etc/x/jail.d/a\nb.toml".into()],
            hidden: None,
            filters: BTreeMap::from([
                ("a".into(), filter(&["/usr/lib/x/filter.d/a.toml", "/etc/x/filter.d/a.toml"])),
                ("b".into(), filter(&["/usr/lib/x/filter.d/b.toml"])),
            ]),
        };
        let texts = [
            ("/etc/services", "ssh 22/tcp\n"),
            ("/usr/lib/x/banish.toml", ""),
            ("/etc/x/jail.d/a\nb.toml", "[jail.a]\n# ä\n"),
            ("/usr/lib/x/filter.d/a.toml", "failregex = []"),
            ("/etc/x/filter.d/a.toml", "maxlines = 1"),
        ];
        Copies::new(&files, texts.map(|(path, text)| (path.into(), text.into())).into())
    }

    #[test]
    fn what_was_copied_comes_back() {
        let copies = copies();
        let again = Copies::decode(&copies.encode()).unwrap();
        assert_eq!(again, copies);
        assert_eq!(again.text(Path::new("/etc/x/jail.d/a\nb.toml")).unwrap(), "[jail.a]\n# ä\n");
        assert_eq!(again.text(Path::new("/etc/services")).unwrap(), "ssh 22/tcp\n");
        assert!(again.text(Path::new("/usr/lib/x/filter.d/b.toml")).is_err());
        assert_eq!(again.files().filters["a"].len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400, any in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = copies().encode();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let _ = Copies::decode(&bytes);
            let _ = Copies::decode(&any);
        }
    }
}
