//! Configuration in three stages: fragments, merged, validated settings.
