//! The usage of buckets, and their quotas.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::Server;
use super::operate::{Reach, ask};
use super::show::human;
use crate::cli::exit::{EXIT_USAGE, fail};
use crate::cli::say::say;
use crate::config::{self, Environment};
use drystone_protocol::percent::encode_text;

/// The word that removes a limit; a number sets one.
const NO_LIMIT: &str = "none";

#[derive(Subcommand)]
pub enum BucketVerb {
    /// List all buckets with usage and quota
    Ls {
        /// The beginning of the names of the buckets to list
        #[arg(long, hide_default_value = true, default_value = "")]
        prefix: String,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Subcommand)]
pub enum QuotaVerb {
    /// Show a bucket's usage and quota
    Get {
        /// The bucket's name
        bucket: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Set limits of a bucket; those that are not given stay as they are
    Set {
        /// The bucket's name
        bucket: String,
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        reach: Reach,
    },
    /// Remove all limits of a bucket
    Clear {
        /// The bucket's name
        bucket: String,
        #[command(flatten)]
        reach: Reach,
    },
}

/// The limits that a bucket gets.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct Limits {
    /// Refuse writes beyond this size of all versions and uploaded parts: a number, or one with
    /// KiB, MiB, GiB, TiB or PiB; `none` removes the limit
    #[arg(long, value_name = "BYTES")]
    hard_bytes: Option<String>,

    /// Refuse writes beyond this number of versions without delete markers; `none` removes the
    /// limit
    #[arg(long, value_name = "COUNT")]
    hard_objects: Option<String>,

    /// Report the bucket, and refuse nothing, beyond this size; written as `--hard-bytes`
    #[arg(long, value_name = "BYTES")]
    soft_bytes: Option<String>,

    /// Report the bucket, and refuse nothing, beyond this number; written as `--hard-objects`
    #[arg(long, value_name = "COUNT")]
    soft_objects: Option<String>,
}

impl Limits {
    fn body(&self, bucket: &str) -> Result<Value, String> {
        let mut body = json!({ "bucket": bucket });
        let count = |text: &str| text.parse().ok();
        for (name, given, parse) in [
            (
                "hard_bytes",
                &self.hard_bytes,
                config::bytes as fn(&str) -> Option<u64>,
            ),
            ("hard_objects", &self.hard_objects, count),
            ("soft_bytes", &self.soft_bytes, config::bytes),
            ("soft_objects", &self.soft_objects, count),
        ] {
            let Some(text) = given else { continue };
            body[name] = match parse(text) {
                Some(limit) => json!(limit),
                None if text == NO_LIMIT => Value::Null,
                None => {
                    return Err(format!(
                        "{text:?} is not a limit; for example 10GiB, 1000, none"
                    ));
                }
            };
        }
        Ok(body)
    }
}

pub(super) fn bucket(verb: &BucketVerb, environment: &Environment) -> ExitCode {
    let BucketVerb::Ls { prefix, reach } = verb;
    let show = |answer: &Value| show(answer["buckets"].as_array().into_iter().flatten());
    ask(reach, environment, show, |server| all(server, prefix))
}

/// Returns all pages as one.
fn all(server: &Server, prefix: &str) -> Result<Value, String> {
    let (mut buckets, mut after) = (Vec::new(), String::new());
    loop {
        let (prefix, last) = (encode_text(prefix), encode_text(&after));
        let mut page = server.get(&format!("buckets?prefix={prefix}&after={last}"))?;
        if let Value::Array(more) = page["buckets"].take() {
            buckets.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return Ok(json!({ "buckets": buckets })),
        }
    }
}

pub(super) fn quota(verb: &QuotaVerb, environment: &Environment) -> ExitCode {
    let show = |answer: &Value| show([answer].into_iter());
    let (reach, body) = match verb {
        QuotaVerb::Get { bucket, reach } => {
            let path = format!("quota?bucket={}", encode_text(bucket));
            return ask(reach, environment, show, |server| server.get(&path));
        }
        QuotaVerb::Set {
            bucket,
            limits,
            reach,
        } => match limits.body(bucket) {
            Ok(body) => (reach, body),
            Err(problem) => return fail(EXIT_USAGE, &problem),
        },
        QuotaVerb::Clear { bucket, reach } => {
            let body = json!({
                "bucket": bucket,
                "hard_bytes": null,
                "hard_objects": null,
                "soft_bytes": null,
                "soft_objects": null,
            });
            (reach, body)
        }
    };
    ask(reach, environment, show, |server| {
        server.post("quota", &body)
    })
}

fn show<'a>(buckets: impl Iterator<Item = &'a Value>) {
    say!(
        "{:>11} {:>11}  {:>10} {:>11} {:>10} {:>11}  BUCKET",
        "OBJECTS",
        "SIZE",
        "HARD COUNT",
        "HARD SIZE",
        "SOFT COUNT",
        "SOFT SIZE"
    );
    for bucket in buckets {
        let (usage, quota) = (&bucket["usage"], &bucket["quota"]);
        let count = |value: &Value| value.as_u64().map_or("-".to_owned(), |n| n.to_string());
        let size = |value: &Value| match value.as_u64() {
            None => "-".to_owned(),
            Some(0) => "0".to_owned(),
            Some(bytes) => human(bytes),
        };
        let over = match bucket["over_soft_quota"].as_bool() {
            Some(true) => "  (over its soft quota)",
            _ => "",
        };
        say!(
            "{:>11} {:>11}  {:>10} {:>11} {:>10} {:>11}  {}{over}",
            count(&usage["objects"]),
            size(&usage["bytes"]),
            count(&quota["hard_objects"]),
            size(&quota["hard_bytes"]),
            count(&quota["soft_objects"]),
            size(&quota["soft_bytes"]),
            bucket["name"].as_str().unwrap_or_default(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_06_limits_are_sizes_counts_or_none() {
        let limits = |bytes: &str, objects: &str| Limits {
            hard_bytes: Some(bytes.to_owned()),
            hard_objects: Some(objects.to_owned()),
            soft_bytes: None,
            soft_objects: None,
        };
        let body = limits("10GiB", "none").body("b").ok();
        let expected = json!({ "bucket": "b", "hard_bytes": 10u64 << 30, "hard_objects": null });
        assert_eq!(body, Some(expected));
        for (bytes, objects) in [("10GB", "1"), ("", "1"), ("-1", "1"), ("1", "1KiB")] {
            assert!(
                limits(bytes, objects).body("b").is_err(),
                "{bytes} {objects}"
            );
        }
    }
}
