//! The bans in force, by place and by the instant they end.
