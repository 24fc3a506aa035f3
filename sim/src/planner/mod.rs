//! The ladder of searchers.
