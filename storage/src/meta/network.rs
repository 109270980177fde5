//! How replicas talk: through memory within one process.
