//! What an entry must look like to count as a failure, and whose failure it is.
