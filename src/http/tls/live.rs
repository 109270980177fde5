//! The certificate that is shown now.
//!
//! A program that renews a certificate replaces its files and knows nothing of this process. The
//! files are therefore read again every [`PERIOD`] and compared by their bytes; on SIGHUP at once.
//! Watching files for events would miss what matters: certbot and Kubernetes swap symbolic links on
//! the way to them.
//!
//! Files that can't be used change nothing: the pair before stays, and log, metrics and status
//! tell of it. New connections are shown the new certificate, those that stand go on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drystone_store::lock::RwLock;
use drystone_store::measure::Measure;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use super::{ALPN, Error, Files, Pair};

/// Between two looks at the files.
const PERIOD: Duration = Duration::from_secs(10);
/// A certificate that ends within this time is told of; one that lives for days or hours only is
/// when a third of its life is left, as it is renewed by a program that works until then.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const ENDS_SOON_DIVISOR: u32 = 3;

pub struct Live {
    files: Files,
    provider: Arc<CryptoProvider>,
    state: RwLock<State>,
}

struct State {
    pair: Pair,
    /// The content of the files when they were read last.
    seen: Seen,
    /// Why that can't be used.
    failure: Option<String>,
    /// The state of the pair that was logged last.
    told: Standing,
}

#[derive(PartialEq, Eq)]
enum Seen {
    Bytes([u8; 32]),
    /// They could not be read.
    Not(String),
}

/// How a certificate stands to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    EndsSoon,
    Ended,
}

impl Standing {
    fn of(valid: Option<&Range<SystemTime>>, now: SystemTime) -> Standing {
        let Some(valid) = valid else {
            return Standing::Good;
        };
        let life = valid.end.duration_since(valid.start).unwrap_or_default();
        match valid.end.duration_since(now) {
            Err(_) => Standing::Ended,
            Ok(left) if left < ENDS_SOON.min(life / ENDS_SOON_DIVISOR) => Standing::EndsSoon,
            Ok(_) => Standing::Good,
        }
    }
}

impl Live {
    /// Reads the files for the first time.
    pub fn open(files: Files) -> Result<Arc<Live>, Error> {
        let provider = super::provider();
        let content = files.read()?;
        let pair = Pair::parse(&files, &content, &provider)?;
        if files.key_is_public() {
            tracing::warn!(path = %files.key.display(), "TLS key is readable by others");
        }
        tracing::info!(path = %files.certificate.display(), ends = pair.end(), "certificate");
        let live = Live {
            state: RwLock::new(State {
                pair,
                seen: Seen::Bytes(content.digest()),
                failure: None,
                told: Standing::Good,
            }),
            files,
            provider,
        };
        live.tell_standing(SystemTime::now());
        Ok(Arc::new(live))
    }

    /// Returns the acceptor that makes TLS connections with the current certificate.
    pub fn acceptor(self: &Arc<Live>) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Looks at the files again and again. Never ends.
    pub async fn watch(self: Arc<Live>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.clone().look().await;
            self.tell_standing(SystemTime::now());
        }
    }

    /// Looks at the files now, because somebody asked for it.
    pub async fn reload(self: Arc<Live>) {
        if !self.clone().look().await {
            tracing::info!("certificate and key are as they were");
        }
        self.tell_standing(SystemTime::now());
    }

    /// Tells whether something had changed.
    async fn look(self: Arc<Live>) -> bool {
        // A panic there is a bug that was told already.
        spawn_blocking(move || self.read_again())
            .await
            .unwrap_or(false)
    }

    fn read_again(&self) -> bool {
        let read = self.files.read();
        let seen = match &read {
            Ok(content) => Seen::Bytes(content.digest()),
            Err(error) => Seen::Not(error.to_string()),
        };
        if self.read_state(|state| state.seen == seen) {
            return false;
        }
        let pair = read.and_then(|content| Pair::parse(&self.files, &content, &self.provider));
        let mut state = self.state.write();
        state.seen = seen;
        match pair {
            Ok(pair) => {
                let path = self.files.certificate.display();
                tracing::info!(%path, ends = pair.end(), "certificate was read again");
                state.pair = pair;
                state.failure = None;
                state.told = Standing::Good;
            }
            Err(error) => {
                tracing::error!(%error, "changed certificate can't be used; the old one stays");
                state.failure = Some(error.to_string());
            }
        }
        true
    }

    /// Into the log, once for each certificate and standing.
    fn tell_standing(&self, now: SystemTime) {
        let mut state = self.state.write();
        let standing = Standing::of(state.pair.valid.as_ref(), now);
        if standing != state.told {
            state.told = standing;
            let (path, ends) = (self.files.certificate.display(), state.pair.end());
            match standing {
                Standing::Good => {}
                Standing::EndsSoon => tracing::warn!(%path, ends, "certificate expires soon"),
                Standing::Ended => tracing::error!(%path, ends, "certificate has expired"),
            }
        }
    }

    /// Returns what an operator should do, in sentences.
    pub fn advice(&self) -> Vec<String> {
        self.advice_at(SystemTime::now())
    }

    fn advice_at(&self, now: SystemTime) -> Vec<String> {
        let path = self.files.certificate.display();
        self.read_state(|state| {
            let failure = state.failure.as_ref().map(|why| {
                format!(
                    "the changed TLS certificate and key can't be used, so the server keeps the \
                     old ones: {why}"
                )
            });
            let ends = state.pair.end();
            let standing = match Standing::of(state.pair.valid.as_ref(), now) {
                Standing::Good => None,
                Standing::EndsSoon => Some(format!("the TLS certificate expires on {ends}")),
                Standing::Ended => Some(format!(
                    "the TLS certificate expired on {ends} and clients reject it"
                )),
            };
            let replace =
                |what| format!("{what}: replace {path} and its key; the server reads them again");
            failure.into_iter().chain(standing.map(replace)).collect()
        })
    }

    pub fn measures(&self) -> Vec<Measure> {
        let (valid, failed) =
            self.read_state(|state| (state.pair.valid.clone(), state.failure.is_some()));
        let help = "1 when the changed certificate files can't be used.";
        let failed = f64::from(u8::from(failed));
        let mut measures = vec![Measure::gauge("tls_certificate_unusable", help, failed)];
        let end = valid.and_then(|of| of.end.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(end) = end {
            let help = "When the certificate expires, in Unix time.";
            let seconds = end.as_secs() as f64;
            measures.push(Measure::gauge(
                "tls_certificate_ends_seconds",
                help,
                seconds,
            ));
        }
        measures
    }

    fn read_state<T>(&self, of: impl FnOnce(&State) -> T) -> T {
        of(&self.state.read())
    }
}

/// One for every name; a second certificate would be chosen here, by the name that is asked for.
impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read_state(|state| state.pair.certified.clone()))
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("files", &self.files).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use drystone_authority::Authority;

    fn shown(live: &Live) -> Vec<u8> {
        live.read_state(|state| state.pair.certified.cert[0].to_vec())
    }

    fn value(live: &Live, name: &str) -> f64 {
        let measures = live.measures();
        let found = measures.iter().find(|measure| measure.name == name);
        match found.unwrap().value {
            drystone_store::measure::Value::Gauge(value) => value,
            _ => panic!("not a gauge"),
        }
    }

    #[test]
    fn s_59_a_bad_pair_keeps_the_old_and_a_good_one_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.issue_into(folder.path(), &["localhost"], 90);
        let files = Files { certificate, key };
        let live = Live::open(files.clone()).unwrap();
        let first = shown(&live);
        assert!(!live.read_again(), "nothing has changed");
        assert_eq!(live.advice(), [""; 0]);

        let (_, stranger) = authority.issue(&["localhost"], 90);
        let key = std::fs::read(&files.key).unwrap();
        std::fs::write(&files.key, stranger).unwrap();
        assert!(live.read_again());
        assert!(!live.read_again(), "told once");
        assert_eq!(shown(&live), first);
        assert_eq!(value(&live, "tls_certificate_unusable"), 1.0);
        assert!(
            live.advice()[0].contains("does not belong"),
            "{:?}",
            live.advice()
        );

        std::fs::remove_file(&files.key).unwrap();
        assert!(live.read_again());
        assert_eq!(shown(&live), first);
        std::fs::write(&files.key, key).unwrap();
        assert!(live.read_again(), "the old pair is back");
        assert_eq!(value(&live, "tls_certificate_unusable"), 0.0);

        authority.issue_into(folder.path(), &["localhost"], 90);
        assert!(live.read_again());
        assert_ne!(shown(&live), first);
        assert_eq!(live.advice(), [""; 0]);
    }

    /// As certbot and Kubernetes do: the name stays, what it leads to is another.
    #[test]
    fn s_59_a_swapped_link_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let version = |name: &str| {
            let at = folder.path().join(name);
            std::fs::create_dir(&at).unwrap();
            authority.issue_into(&at, &["localhost"], 90);
            at
        };
        let (first, second) = (version("first"), version("second"));
        let link = folder.path().join("now");
        std::os::unix::fs::symlink(first, &link).unwrap();
        let files = Files {
            certificate: link.join("certificate.pem"),
            key: link.join("key.pem"),
        };
        let live = Live::open(files).unwrap();
        let before = shown(&live);
        let new = folder.path().join("new");
        std::os::unix::fs::symlink(second, &new).unwrap();
        std::fs::rename(new, link).unwrap();
        assert!(live.read_again());
        assert_ne!(shown(&live), before);
    }

    #[test]
    fn s_59_a_certificate_that_lives_for_hours_is_not_always_about_to_end() {
        let begin = SystemTime::now();
        let after = |hours: u64| begin + Duration::from_secs(hours * 3600);
        let valid = begin..after(24);
        let standing = |hours| Standing::of(Some(&valid), after(hours));
        assert_eq!(standing(0), Standing::Good);
        assert_eq!(standing(15), Standing::Good);
        assert_eq!(standing(17), Standing::EndsSoon);
        assert_eq!(standing(25), Standing::Ended);
        assert_eq!(Standing::of(None, begin), Standing::Good);
    }

    #[test]
    fn s_59_an_end_that_is_near_or_past_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = Authority::new().issue_into(folder.path(), &["localhost"], 90);
        let files = Files { certificate, key };
        let live = Live::open(files).unwrap();
        let now = SystemTime::now();
        let after = |days: u64| now + Duration::from_secs(days * 86_400);
        assert_eq!(live.advice_at(after(75)), [""; 0]);
        assert!(live.advice_at(after(80))[0].contains("expires on"));
        assert!(live.advice_at(after(91))[0].contains("expired on"));
        let ends = value(&live, "tls_certificate_ends_seconds");
        let days = ends
            - now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs_f64();
        assert!((89.5..90.5).contains(&(days / 86_400.0)), "{days}");
    }
}
