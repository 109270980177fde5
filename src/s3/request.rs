//! A parsed S3 request.
