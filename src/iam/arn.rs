//! The names of resources.

use std::fmt;

/// The only partition.
pub const PARTITION: &str = "aws";

/// The name of a resource: `arn:aws:s3:::bucket/key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    pub partition: &'a str,
    pub resource: Resource<'a>,
}

/// A thing that an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The caller's account as a whole, as for the list of its buckets.
    Account,
    Bucket {
        bucket: &'a str,
    },
    Object {
        bucket: &'a str,
        key: &'a str,
    },
}

impl<'a> Arn<'a> {
    pub fn account() -> Arn<'a> {
        Arn::of(Resource::Account)
    }

    pub fn bucket(bucket: &'a str) -> Arn<'a> {
        Arn::of(Resource::Bucket { bucket })
    }

    pub fn object(bucket: &'a str, key: &'a str) -> Arn<'a> {
        Arn::of(Resource::Object { bucket, key })
    }

    fn of(resource: Resource<'a>) -> Arn<'a> {
        Arn {
            partition: PARTITION,
            resource,
        }
    }
}

impl fmt::Display for Arn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:s3:::", self.partition)?;
        match self.resource {
            Resource::Account => f.write_str("*"),
            Resource::Bucket { bucket } => f.write_str(bucket),
            Resource::Object { bucket, key } => write!(f, "{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arn;

    #[test]
    fn a_32_resources_are_named_as_policies_name_them() {
        assert_eq!(Arn::account().to_string(), "arn:aws:s3:::*");
        assert_eq!(Arn::bucket("b").to_string(), "arn:aws:s3:::b");
        // A key is not encoded, and may have slashes and stars of its own.
        let object = Arn::object("b", "a//b*é/");
        assert_eq!(object.to_string(), "arn:aws:s3:::b/a//b*é/");
    }
}
