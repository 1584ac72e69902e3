//! One line of the table that `make bench` prints.

/// Prints what was measured, as a row of a Markdown table.
pub fn row(what: &str, measured: impl std::fmt::Display, goal: &str) {
    println!("| {what} | {measured} | {goal} |");
}
