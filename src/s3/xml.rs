//! Reading and writing S3's XML, within bounds.
