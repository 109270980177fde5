//! THE CODES: every error code that S3 knows, with its status and AWS's message.
//!
//! Whether or not Drystone has the feature yet, so that whoever adds one finds its codes here.
//! QuotaExceeded is none of AWS's: Ceph and others answer so.
//! Left out: SOAP, access points, Outposts, Select and the other services that share the list.

use http::StatusCode;

/// Writes the table once: variant (which is also the text on the wire
/// where none is given), status, AWS's message.
macro_rules! codes {
    (@text $code:ident) => { stringify!($code) };
    (@text $code:ident $text:literal) => { $text };
    ($($code:ident $(= $text:literal)? $status:ident $message:literal;)+) => {
        /// An error code as S3 names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($code,)+
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$code,)+];

            /// The text in `<Code>`.
            pub fn text(self) -> &'static str {
                match self {
                    $(Code::$code => codes!(@text $code $($text)?),)+
                }
            }

            pub fn status(self) -> StatusCode {
                match self {
                    $(Code::$code => StatusCode::$status,)+
                }
            }

            /// Returns AWS's message, where it is always the same.
            pub fn message(self) -> &'static str {
                match self {
                    $(Code::$code => $message,)+
                }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported BAD_REQUEST "The bucket does not allow ACLs";
    AccessDenied FORBIDDEN "Access Denied";
    AccessForbidden FORBIDDEN "CORSResponse: CORS is not enabled for this bucket.";
    AccountProblem FORBIDDEN
        "There is a problem with your account that prevents the operation from completing \
         successfully.";
    AllAccessDisabled FORBIDDEN "All access to this object has been disabled";
    AmbiguousGrantByEmailAddress BAD_REQUEST
        "The e-mail address you provided is associated with more than one account.";
    AuthorizationHeaderMalformed BAD_REQUEST "The authorization header is malformed.";
    AuthorizationQueryParametersError BAD_REQUEST
        "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
         X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";
    BadDigest BAD_REQUEST "The Content-MD5 you specified did not match what we received.";
    BadRequest BAD_REQUEST "Bad Request";
    BucketAlreadyExists CONFLICT
        "The requested bucket name is not available. The bucket namespace is shared by all \
         users of the system. Please select a different name and try again.";
    BucketAlreadyOwnedByYou CONFLICT
        "Your previous request to create the named bucket succeeded and you already own it.";
    BucketNotEmpty CONFLICT "The bucket you tried to delete is not empty";
    ConditionalRequestConflict CONFLICT
        "The conditional request cannot succeed due to a conflicting operation against this \
         resource.";
    ConnectionClosedByRequester BAD_REQUEST
        "The requester closed the connection before the whole body was sent.";
    CredentialsNotSupported BAD_REQUEST "This request does not support credentials.";
    CrossLocationLoggingProhibited FORBIDDEN
        "Cross-location logging not allowed. Buckets in one geographic location cannot log \
         information to a bucket in another location.";
    EndpointNotFound BAD_REQUEST "Direct requests to the correct endpoint.";
    EntityTooLarge BAD_REQUEST "Your proposed upload exceeds the maximum allowed size";
    EntityTooSmall BAD_REQUEST "Your proposed upload is smaller than the minimum allowed size";
    ExpiredToken BAD_REQUEST "The provided token has expired.";
    IllegalLocationConstraintException BAD_REQUEST
        "The unspecified location constraint is incompatible for the region specific endpoint \
         this request was sent to.";
    IllegalVersioningConfigurationException BAD_REQUEST "The Versioning element must be specified";
    IncompleteBody BAD_REQUEST
        "You did not provide the number of bytes specified by the Content-Length HTTP header";
    IncorrectEndpoint BAD_REQUEST
        "The specified bucket exists in another Region. Direct requests to the correct endpoint.";
    IncorrectNumberOfFilesInPostRequest BAD_REQUEST
        "POST requires exactly one file upload per request.";
    InternalError INTERNAL_SERVER_ERROR "We encountered an internal error. Please try again.";
    InvalidAccessKeyId FORBIDDEN
        "The AWS Access Key Id you provided does not exist in our records.";
    InvalidArgument BAD_REQUEST "Invalid Argument";
    InvalidBucketAclWithObjectOwnership BAD_REQUEST
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidBucketName BAD_REQUEST "The specified bucket is not valid.";
    InvalidBucketOwnerAWSAccountID BAD_REQUEST
        "The value of the expected bucket owner parameter must be an AWS account ID.";
    InvalidBucketState CONFLICT "The request is not valid for the current state of the bucket.";
    InvalidChunkSizeError FORBIDDEN
        "Only the last chunk is allowed to have a size less than 8192 bytes";
    InvalidDigest BAD_REQUEST "The Content-MD5 you specified was invalid.";
    InvalidEncryptionAlgorithmError BAD_REQUEST
        "The encryption request you specified is not valid. The valid value is AES256.";
    InvalidHostHeader BAD_REQUEST
        "The host headers provided in the request used the incorrect style addressing.";
    InvalidHttpMethod BAD_REQUEST "The request was made using an unexpected HTTP method.";
    InvalidLocationConstraint BAD_REQUEST "The specified location-constraint is not valid";
    InvalidObjectState FORBIDDEN "The operation is not valid for the object's storage class";
    InvalidPart BAD_REQUEST
        "One or more of the specified parts could not be found.  The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag.";
    InvalidPartNumber RANGE_NOT_SATISFIABLE "The requested partnumber is not satisfiable";
    InvalidPartOrder BAD_REQUEST
        "The list of parts was not in ascending order. Parts must be ordered by part number.";
    InvalidPayer FORBIDDEN "All access to this object has been disabled.";
    InvalidPolicyDocument BAD_REQUEST
        "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange RANGE_NOT_SATISFIABLE "The requested range is not satisfiable";
    InvalidRedirectLocation BAD_REQUEST
        "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    InvalidRequest BAD_REQUEST "Invalid Request";
    InvalidSecurity FORBIDDEN "The provided security credentials are not valid.";
    InvalidSessionException BAD_REQUEST
        "The session does not exist anymore because it timed out or expired.";
    InvalidSignature BAD_REQUEST
        "The request signature that the server calculated does not match the signature that you \
         provided.";
    InvalidStorageClass BAD_REQUEST "The storage class you specified is not valid";
    InvalidTag BAD_REQUEST
        "The tag provided was not a valid tag. This error can occur if the tag did not pass \
         input validation.";
    InvalidTargetBucketForLogging BAD_REQUEST
        "The target bucket for logging does not exist, is not owned by you, or does not have \
         the appropriate grants for the log-delivery group.";
    InvalidToken BAD_REQUEST "The provided token is malformed or otherwise invalid.";
    InvalidURI BAD_REQUEST "Couldn't parse the specified URI.";
    KeyTooLongError BAD_REQUEST "Your key is too long";
    KmsDisabledException = "KMS.DisabledException" BAD_REQUEST
        "The request was rejected because the specified KMS key is not enabled.";
    KmsInvalidKeyUsageException = "KMS.InvalidKeyUsageException" BAD_REQUEST
        "The request was rejected because the KMS key's usage does not fit the operation.";
    KmsInvalidStateException = "KMS.KMSInvalidStateException" BAD_REQUEST
        "The request was rejected because the state of the specified resource is not valid for \
         this request.";
    KmsNotFoundException = "KMS.NotFoundException" BAD_REQUEST
        "The request was rejected because the specified entity or resource could not be found.";
    MalformedACLError BAD_REQUEST
        "The XML you provided was not well-formed or did not validate against our published \
         schema";
    MalformedPOSTRequest BAD_REQUEST
        "The body of your POST request is not well-formed multipart/form-data.";
    MalformedPolicy BAD_REQUEST "Policies must be valid JSON and the first byte must be '{'";
    MalformedTrailerError BAD_REQUEST
        "The request contained trailing data that was not well-formed or did not conform to our \
         published schema.";
    MalformedXML BAD_REQUEST
        "The XML you provided was not well-formed or did not validate against our published \
         schema";
    MaxMessageLengthExceeded BAD_REQUEST "Your request was too big.";
    MaxPostPreDataLengthExceeded BAD_REQUEST
        "Your POST request fields preceeding the upload file was too large.";
    MetadataTooLarge BAD_REQUEST "Your metadata headers exceed the maximum allowed metadata size";
    MethodNotAllowed METHOD_NOT_ALLOWED
        "The specified method is not allowed against this resource.";
    MissingAuthenticationToken FORBIDDEN "The request was not signed.";
    MissingContentLength LENGTH_REQUIRED "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError BAD_REQUEST "Request Body is empty";
    MissingSecurityHeader BAD_REQUEST "Your request was missing a required header";
    NoLoggingStatusForKey BAD_REQUEST
        "There is no such thing as a logging status subresource for a key.";
    NoSuchBucket NOT_FOUND "The specified bucket does not exist";
    NoSuchBucketPolicy NOT_FOUND "The bucket policy does not exist";
    NoSuchCORSConfiguration NOT_FOUND "The CORS configuration does not exist";
    NoSuchConfiguration NOT_FOUND "The specified configuration does not exist.";
    NoSuchKey NOT_FOUND "The specified key does not exist.";
    NoSuchLifecycleConfiguration NOT_FOUND "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration NOT_FOUND
        "The specified object does not have a ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration NOT_FOUND
        "The public access block configuration was not found";
    NoSuchTagSet NOT_FOUND "The TagSet does not exist";
    NoSuchUpload NOT_FOUND
        "The specified upload does not exist. The upload ID may be invalid, or the upload may \
         have been aborted or completed.";
    NoSuchVersion NOT_FOUND "The specified version does not exist.";
    NoSuchWebsiteConfiguration NOT_FOUND
        "The specified bucket does not have a website configuration";
    NotImplemented NOT_IMPLEMENTED
        "A header you provided implies functionality that is not implemented";
    NotModified NOT_MODIFIED "Not Modified";
    NotSignedUp FORBIDDEN "Your account is not signed up for the Amazon S3 service.";
    ObjectLockConfigurationNotFoundError NOT_FOUND
        "Object Lock configuration does not exist for this bucket";
    OperationAborted CONFLICT
        "A conflicting conditional operation is currently in progress against this resource. \
         Please try again.";
    OwnershipControlsNotFoundError NOT_FOUND "The bucket ownership controls were not found";
    PermanentRedirect MOVED_PERMANENTLY
        "The bucket you are attempting to access must be addressed using the specified \
         endpoint. Please send all future requests to this endpoint.";
    PreconditionFailed PRECONDITION_FAILED
        "At least one of the pre-conditions you specified did not hold";
    QuotaExceeded FORBIDDEN "Your request was denied because the bucket's quota is exceeded.";
    Redirect TEMPORARY_REDIRECT
        "Temporary redirect. You are being redirected to the bucket while the DNS server is \
         being updated.";
    ReplicationConfigurationNotFoundError NOT_FOUND "The replication configuration was not found";
    RequestHeaderSectionTooLarge BAD_REQUEST
        "Your request header section exceeds the maximum allowed request header section size.";
    RequestIsNotMultiPartContent BAD_REQUEST
        "Bucket POST must be of the enclosure-type multipart/form-data.";
    RequestTimeTooSkewed FORBIDDEN
        "The difference between the request time and the current time is too large.";
    RequestTimeout BAD_REQUEST
        "Your socket connection to the server was not read from or written to within the \
         timeout period. Idle connections will be closed.";
    ResponseInterrupted BAD_REQUEST
        "Returned when there is a failure to return the whole response.";
    RestoreAlreadyInProgress CONFLICT "Object restore is already in progress";
    ServerSideEncryptionConfigurationNotFoundError NOT_FOUND
        "The server side encryption configuration was not found";
    ServiceUnavailable SERVICE_UNAVAILABLE "Service is unable to handle request.";
    SignatureDoesNotMatch FORBIDDEN
        "The request signature we calculated does not match the signature you provided. Check \
         your key and signing method.";
    SlowDown SERVICE_UNAVAILABLE "Please reduce your request rate.";
    TemporaryRedirect TEMPORARY_REDIRECT
        "Please re-send this request to the specified temporary endpoint. Continue to use the \
         original request endpoint for future requests.";
    TokenCodeInvalidError BAD_REQUEST
        "The serial number and/or token code you provided is not valid.";
    TokenRefreshRequired BAD_REQUEST "The provided token must be refreshed.";
    TooManyBuckets BAD_REQUEST "You have attempted to create more buckets than allowed";
    UnauthorizedAccessError FORBIDDEN "You do not have access to this resource.";
    UnexpectedContent BAD_REQUEST "This request contains unsupported content.";
    UnexpectedIPError FORBIDDEN "This request was rejected because the IP was unexpected.";
    UnresolvableGrantByEmailAddress BAD_REQUEST
        "The e-mail address you provided does not match any account on record.";
    UnsupportedArgument BAD_REQUEST "The request contained an unsupported argument.";
    UnsupportedSignature BAD_REQUEST
        "The provided request is signed with an unsupported STS Token version or the signature \
         version is not supported.";
    UserKeyMustBeSpecified BAD_REQUEST
        "The bucket POST must contain the specified field name. If it is specified, please \
         check the order of the fields.";
    XAmzContentChecksumMismatch BAD_REQUEST
        "The provided 'x-amz-checksum' header does not match what was computed.";
    XAmzContentSHA256Mismatch BAD_REQUEST
        "The provided 'x-amz-content-sha256' header does not match what was computed.";
}
