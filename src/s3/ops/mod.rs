//! One file for each operation, named as in the AWS reference.

pub mod delete_object;
pub mod delete_object_tagging;
pub mod delete_objects;
pub mod get_object;
pub mod get_object_tagging;
pub mod head_object;
pub mod missing;
pub mod put_object;
pub mod put_object_tagging;
