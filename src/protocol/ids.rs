//! The headers that every answer bears: who answered, and which request it was.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_store::env::Env;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::response::{X_AMZ_ID_2, X_AMZ_REQUEST_ID};

/// The `Server` header. The product's name does not go over the wire.
const SERVER: &str = "S3";

/// Gives out the ids of requests, under the id of this process.
pub struct Ids {
    env: Arc<dyn Env>,
    host_id: String,
}

impl Ids {
    pub fn new(env: Arc<dyn Env>) -> Ids {
        Ids {
            host_id: BASE64.encode([env.random(), env.random()].concat()),
            env,
        }
    }

    /// A new request's id.
    pub fn request_id(&self) -> String {
        hex::encode_upper(&self.env.random()[..8])
    }

    pub fn host_id(&self) -> &str {
        &self.host_id
    }

    /// Sets the headers that every response has. `closes`: the connection ends with it.
    pub fn finish(&self, headers: &mut HeaderMap, request_id: &str, closes: bool) {
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(X_AMZ_REQUEST_ID, request_id);
        set(X_AMZ_ID_2, &self.host_id);
        set(header::SERVER, SERVER);
        if closes {
            // What is left of a body would be taken for the next request. And a client that waits
            // for `100 Continue` before an empty body gets none, as there is nothing to go on
            // with; botocore then takes this answer for the next one's on the same connection.
            set(header::CONNECTION, "close");
        }
    }
}
