//! Connections, limits and the order of a request.
