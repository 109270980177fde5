//! One suite for every `ObjectStore`: the contract of `store.rs` as tests.
//!
//! Each test is a function that takes a store under test; `suite!` below runs all of them on each
//! store. `random` drives a store and the model with the same random operations and compares
//! every answer.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "the suite damages files, waits and spawns past the environment"
)]

mod body;
mod buckets;
mod completion;
mod conditions;
mod contests;
mod damage;
mod listing;
mod losses;
mod moving;
mod multipart;
mod objects;
mod patience;
mod quotas;
mod races;
mod random;
mod replaced;
mod subject;
mod undersized;
mod versions;

macro_rules! suite {
    ($($module:ident { $($test:ident)+ })+) => {
        mod on_model {
            use crate::subject::Subject as _;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let subject = crate::subject::model().await;
                    crate::$module::$test(subject.store()).await;
                }
            )+)+
        }
        mod on_engine {
            use crate::subject::Subject as _;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let subject = crate::subject::engine().await;
                    crate::$module::$test(subject.store()).await;
                }
            )+)+
        }
    };
}

suite! {
    buckets {
        s_02_a_name_is_taken_once
        s_03_buckets_are_listed_by_name_in_pages
        s_03_a_bucket_with_a_version_in_it_is_not_deleted
        s_03_unfinished_uploads_go_with_their_bucket
        s_03_what_was_in_a_deleted_bucket_is_not_in_its_namesake
        s_06_settings_and_accounts_are_kept_as_given
    }
    objects {
        s_10_what_is_put_is_what_is_got
        s_10_an_interrupted_body_leaves_nothing
        s_11_what_is_not_there_is_refused_by_its_kind
        s_11_an_open_object_stays_as_it_was
        s_12_a_link_shares_bytes_and_outlives_its_source
        s_13_delete_is_idempotent
        s_13_delete_objects_decides_each_key_alone
        s_16_tags_are_replaced_and_nothing_else
        f_33_zero_bytes
        f_35_sizes_at_every_boundary
    }
    conditions {
        s_17_conditions_on_writes
        s_17_conditions_on_deletes
        b_31_of_racing_writers_the_last_is_the_latest_everywhere
    }
    contests {
        b_30_of_racing_creators_one_wins_and_its_bytes_are_read
        b_30_of_racing_changes_to_one_state_one_wins
        b_31_no_increment_of_a_counter_is_lost
    }
    versions {
        s_30_versions_stack_up_and_are_promoted
        s_30_null_versions_in_every_order
        s_30_a_delete_marker_hides_and_its_removal_restores
        s_30_suspended_markers_take_the_null_versions_place
        b_32_removing_the_latest_version_uncovers_the_one_before
        b_33_racing_deletes_leave_nothing_behind
    }
    listing {
        s_14_prefix_delimiter_and_after
        s_14_odd_keys_come_in_byte_order
        s_14_pages_add_up_to_the_whole
        b_34_markers_between_the_keys_end_no_page_early
        s_30_version_listings_go_on_after_any_marker
        s_20_upload_listings_go_on_after_any_marker
    }
    moving {
        s_14_what_stays_is_listed_once_whatever_is_written
        s_30_versions_that_stay_are_listed_once_whatever_is_written
        b_36_uploads_of_another_bucket_are_not_listed
    }
    multipart {
        s_20_parts_become_an_object
        s_20_an_upload_is_there_only_under_its_key
        s_20_parts_are_listed_in_pages
        b_27_the_part_that_was_acknowledged_last_is_the_one
    }
    completion {
        s_11_an_open_multipart_object_stays_as_it_was
        s_20_completion_is_refused_for_the_first_reason
        s_20_completion_asked_twice_answers_alike
        s_21_what_is_set_at_create_holds_at_completion
        s_18_checksums_of_the_whole
        s_18_a_copy_of_parts_has_a_checksum_of_all_bytes
        b_42_a_read_that_is_aborted_and_repeated_leaves_nothing_out
        f_35_ranges_across_parts
    }
    quotas {
        s_06_a_write_beyond_the_hard_quota_is_refused_and_leaves_nothing
        s_06_what_shrinks_or_stays_goes_on
        s_06_parts_count_and_a_completion_moves_their_bytes
        s_06_versions_count_and_markers_do_not
        s_06_racing_writers_never_pass_the_quota
    }
    races {
        b_27_a_part_sent_again_while_its_upload_is_completed
        b_28_completions_with_different_parts_and_an_abort
        s_20_parts_in_parallel
    }
}
