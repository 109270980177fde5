//! The actions that rights are about, as policies name them.

use std::fmt;

/// Writes the list once: a variant, and its name with the prefix of its service.
macro_rules! actions {
    ($($service:literal: $($action:ident)+;)+) => {
        /// An action. A name that is not in the list does not compile.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action {
            $($($action,)+)+
        }

        impl Action {
            pub const ALL: &'static [Action] = &[$($(Action::$action,)+)+];

            /// The name as policies have it: `s3:GetObject`.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Action::$action => concat!($service, ":", stringify!($action)),)+)+
                }
            }
        }
    };
}

actions! {
    "s3":
        AbortMultipartUpload BypassGovernanceRetention CreateBucket
        CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration
        DeleteBucketPolicy DeleteBucketWebsite DeleteObject DeleteObjectTagging DeleteObjectVersion
        DeleteObjectVersionTagging GetAccelerateConfiguration GetAnalyticsConfiguration
        GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging
        GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration
        GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus
        GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning
        GetBucketWebsite GetEncryptionConfiguration GetIntelligentTieringConfiguration
        GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration GetObject
        GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging
        GetObjectTorrent GetObjectVersion GetObjectVersionAcl GetObjectVersionAttributes
        GetObjectVersionTagging GetReplicationConfiguration ListAllMyBuckets ListBucket
        ListBucketMultipartUploads ListBucketVersions ListMultipartUploadParts
        ListenBucketNotification PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAbac
        PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification
        PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy
        PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning
        PutBucketWebsite PutEncryptionConfiguration PutIntelligentTieringConfiguration
        PutInventoryConfiguration PutLifecycleConfiguration PutMetricsConfiguration PutObject
        PutObjectAcl PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
        PutObjectVersionTagging PutReplicationConfiguration RestoreObject
        UpdateBucketMetadataInventoryTableConfiguration
        UpdateBucketMetadataJournalTableConfiguration UpdateObjectEncryption;
    "s3express":
        CreateSession;
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Action;

    #[test]
    fn a_32_an_action_has_the_name_that_policies_use() {
        assert_eq!(Action::GetObject.name(), "s3:GetObject");
        assert_eq!(Action::GetBucketCORS.to_string(), "s3:GetBucketCORS");
        assert_eq!(Action::CreateSession.name(), "s3express:CreateSession");
        let names: HashSet<_> = Action::ALL.iter().map(|action| action.name()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
