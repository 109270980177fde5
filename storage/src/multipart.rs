//! Uploads: parts, completion, abort, their listings.
