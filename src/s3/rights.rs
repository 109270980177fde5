//! Decisions about rights, as S3 answers them.

use drystone_iam::authorize::Decision;
use drystone_protocol::error::{Code, S3Error};

/// Turns a denial into S3's error.
pub fn check(decision: Decision) -> Result<(), S3Error> {
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(_) => Err(S3Error::new(Code::AccessDenied)),
    }
}

/// Hides from a caller that may not list the bucket whether a key is there: a missing one is
/// denied, as one that the caller may not read is.
pub fn hide_missing(error: S3Error, may_list: bool) -> S3Error {
    match error.code() {
        Code::NoSuchKey | Code::NoSuchVersion if !may_list => S3Error::new(Code::AccessDenied),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{check, hide_missing};
    use drystone_iam::authorize::{Decision, Denial, Grant};
    use drystone_protocol::error::{Code, S3Error};

    #[test]
    fn a_32_a_missing_key_is_denied_where_the_bucket_may_not_be_listed() {
        let answered = |code, listing: Decision| {
            let error = hide_missing(S3Error::new(code), listing.is_allowed());
            (error.status().as_u16(), error.code())
        };
        let allowed = Decision::Allow(Grant::Account);
        let denied = Decision::Deny(Denial::OtherAccount);
        for code in [Code::NoSuchKey, Code::NoSuchVersion] {
            assert_eq!(answered(code, denied), (403, Code::AccessDenied));
            assert_eq!(answered(code, allowed), (404, code));
        }
        // All else is as it was.
        let busy = answered(Code::SlowDown, denied);
        assert_eq!(busy, (503, Code::SlowDown));
        let upload = answered(Code::NoSuchUpload, denied);
        assert_eq!(upload, (404, Code::NoSuchUpload));
    }

    #[test]
    fn a_32_a_denial_is_access_denied() {
        assert!(check(Decision::Allow(Grant::Operator)).is_ok());
        let refused = check(Decision::Deny(Denial::Anonymous));
        assert_eq!(
            refused.map_err(|error| error.code()),
            Err(Code::AccessDenied)
        );
    }
}
