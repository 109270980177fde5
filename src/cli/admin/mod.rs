//! `admin`: what the operator of a server asks and does.

mod ask;
mod buckets;
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
    /// How the store is, and what is to be done
    Status(operate::Reach),
    /// Its disks
    #[command(subcommand)]
    Disk(operate::DiskVerb),
    /// Making anew what was lost or damaged
    #[command(subcommand)]
    Heal(operate::HealVerb),
    /// Reading every shard again, to find what has rotted
    #[command(subcommand)]
    Scrub(operate::ScrubVerb),
    /// List the work beside requests: its state, failures and when it is due
    Workers(operate::Reach),
    /// Show what buckets hold, and set their quotas
    #[command(subcommand)]
    Bucket(buckets::BucketVerb),
    /// How much a bucket may hold
    #[command(subcommand)]
    Quota(buckets::QuotaVerb),
    /// Print the bearer token that GET /metrics wants; takes the arguments of `server`
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
        Verb::MetricsToken(arguments) => metrics_token::run(arguments, environment),
    }
}
