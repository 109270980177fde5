//! Removes what no version names.
