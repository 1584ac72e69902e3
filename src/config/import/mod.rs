//! fail2ban's configuration in our words: read in its whole language, written as our files, and what is lost told.
//!
//! Nothing outside of fail2ban's directory is read, nothing in it is executed or evaluated, and every expansion is
//! bounded. What a stranger could forge is never made to count: a `journalmatch` that pins nothing attested is left out.

mod definition;
mod draft;
mod error;
mod ini;
mod prefix;
mod sections;
mod toml;
mod translate;
mod tree;
mod words;

use std::path::Path;

pub use error::ImportError;

use sections::{Overrides, Value};
use translate::Translator;
use tree::Tree;

use super::problem::Place;

/// No value is larger when it is expanded, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// Stands for the place of what comes from a filter of ours.
const SHIPPED_PLACE: &str = "of the shipped filter";

/// A filter of fail2ban's, brought over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFilter {
    /// What `filter.d/NAME.toml` would say. A `journalmatch` that pins nothing attested is not in it.
    pub text: String,
    /// What was left out or changed, and why.
    pub notes: Vec<String>,
}

/// Brings one filter over: `filter.d/NAME.conf` below `from`, fail2ban's configuration directory, with these parameters.
///
/// # Errors
/// The filter is not there, cannot be read or expanded, or nothing of it can be used.
pub fn filter(from: &Path, name: &str, options: &[(String, String)]) -> Result<ImportedFilter, ImportError> {
    let mut tree = Tree::open(from)?;
    let place = Place::whole(from);
    let value = |text: &String| Value { text: text.clone(), place: place.clone() };
    let parameters: Vec<(String, Value)> = options.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    let (draft, notes) =
        Translator { tree: &mut tree, shipped: &[] }.translate(name, &parameters, &Overrides::new())?;
    Ok(ImportedFilter { text: draft.text(), notes })
}
