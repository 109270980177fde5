//! Who sent this request, and how its body is to be verified.
