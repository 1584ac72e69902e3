//! The reader: owns the journal, runs the filters, hands sightings and its cursor to the loop.
