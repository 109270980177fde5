//! Values of every table: versioned records.
