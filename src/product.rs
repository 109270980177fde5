//! The product's name, once.
