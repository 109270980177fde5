//! One command's writes, readable by itself before they are written.
