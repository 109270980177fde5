//! Request bodies: decoded, verified and digested as they stream.
