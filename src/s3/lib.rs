//! S3, as a service over HTTP.

pub mod body;
pub mod context;
pub mod digest;
pub mod form;
pub mod late;
pub mod operation;
pub mod ops;
pub mod patience;
pub mod request;
pub mod rights;
pub mod route;
pub mod row;
pub mod service;
pub mod values;
pub mod weight;
