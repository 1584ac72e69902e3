//! Why something of fail2ban's configuration could not be brought over, and where it stands.

use super::super::problem::{Place, Problem};

/// Why an import, or a part of it, failed. No text of a file is quoted that could not be read as a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Something is wrong at this place.
    #[error("{place}: {reason}")]
    At {
        /// Where.
        place: Place,
        /// What.
        reason: String,
    },
    /// No such filter, directory or jail is there.
    #[error("{0}")]
    Missing(String),
    /// What was expanded became larger or deeper than any configuration is.
    #[error("{place}: {what} expands without an end, or to more than {limit} bytes", limit = super::SIZE_LIMIT)]
    Endless {
        /// Where what was expanded stands.
        place: Place,
        /// Its name.
        what: String,
    },
    /// A filter of which no pattern is left.
    #[error("{place}: nothing of it can be used here: {reason}")]
    Nothing {
        /// The filter's file.
        place: Place,
        /// Why not.
        reason: String,
    },
}

impl ImportError {
    pub(super) fn at(place: &Place, reason: impl Into<String>) -> ImportError {
        ImportError::At { place: place.clone(), reason: reason.into() }
    }
}

impl From<Problem> for ImportError {
    fn from(problem: Problem) -> ImportError {
        match problem.place {
            Some(place) => ImportError::At { place, reason: problem.text },
            None => ImportError::Missing(problem.text),
        }
    }
}
