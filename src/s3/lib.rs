//! S3, as a service over HTTP.

pub mod body;
pub mod context;
pub mod digest;
pub mod form;
pub mod keep_alive;
pub mod keep_alive_interval;
pub mod operation;
pub mod ops;
pub mod request;
pub mod rights;
pub mod route;
pub mod row;
pub mod service;
pub mod settings;
pub mod values;
pub mod weight;
