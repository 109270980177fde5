//! `admin`: questions and orders of the operator to a server.

mod ask;
mod buckets;
mod metadata;
mod metrics_token;
mod operate;
mod show;
mod workers;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::arguments::ConfigArguments;
use crate::config::Environment;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Show health and recommended actions
    Status(operate::Reach),
    /// List, replace and remove disks
    #[command(subcommand)]
    Disk(operate::DiskVerb),
    /// Control healing, which rebuilds lost and damaged shards
    #[command(subcommand)]
    Heal(operate::HealVerb),
    /// Control scrubbing, which reads every shard again to find damage
    #[command(subcommand)]
    Scrub(operate::ScrubVerb),
    /// List the work beside requests: its state, failures, panics and when it is due
    Workers(operate::Reach),
    /// List buckets with their usage and quotas
    #[command(subcommand)]
    Bucket(buckets::BucketVerb),
    /// Show, set or remove a bucket's quota
    #[command(subcommand)]
    Quota(buckets::QuotaVerb),
    /// List and lift the marks by which the disks of a stopped store distrust each other's metadata
    #[command(subcommand)]
    Metadata(metadata::MetadataVerb),
    /// Print the bearer token for `GET /metrics`; needs no running server
    MetricsToken(ConfigArguments),
}

pub(super) fn run(verb: Verb, environment: &Environment) -> ExitCode {
    match verb {
        Verb::Status(reach) => operate::status(&reach, environment),
        Verb::Disk(verb) => operate::disk(&verb, environment),
        Verb::Heal(verb) => operate::heal(&verb, environment),
        Verb::Scrub(verb) => operate::scrub(&verb, environment),
        Verb::Workers(reach) => operate::workers(&reach, environment),
        Verb::Bucket(verb) => buckets::bucket(&verb, environment),
        Verb::Quota(verb) => buckets::quota(&verb, environment),
        Verb::Metadata(verb) => metadata::run(&verb),
        Verb::MetricsToken(arguments) => metrics_token::run(arguments, environment),
    }
}
