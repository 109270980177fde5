//! May they: the one call that decides.
