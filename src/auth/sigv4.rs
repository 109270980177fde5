//! Signature Version 4: canonical request, string to sign, key: pure.
