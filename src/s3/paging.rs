//! Page parameters and tokens: pure.
