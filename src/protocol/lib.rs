//! AWS's words: what S3, IAM and STS share of errors, XML, queries and addresses.
//!
//! Knows neither connections nor signatures nor a single operation.

pub mod address;
pub mod encoded_word;
pub mod error;
pub mod form_fields;
pub mod ids;
pub mod names;
pub mod percent;
pub mod query;
pub mod response;
pub mod xml;
