//! From a request line to a row of the table.
