//! Over what a request came: known to whoever answers it, as the connection is.

use http::Extensions;

/// Put into each request by its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    /// Over TLS that ends here. A proxy's word that it took TLS off is no such thing.
    Https,
}

impl Scheme {
    pub fn of(extensions: &Extensions) -> Scheme {
        extensions.get().copied().unwrap_or_default()
    }

    pub fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The one that a URL and a `Host` leave out.
    pub fn default_port(self) -> &'static str {
        match self {
            Scheme::Http => "80",
            Scheme::Https => "443",
        }
    }
}
