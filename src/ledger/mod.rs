//! What must outlive the process: the cursor and what was decided up to it, in one SQLite file.
