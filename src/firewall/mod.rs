//! The kernel: the table of bans as a value, its elements, and who else changed it.
