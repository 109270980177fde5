//! Buckets and accounts: changes over two groups, step by step.
