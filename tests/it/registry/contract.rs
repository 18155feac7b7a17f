//! The contract of `registry`, as one suite: every function takes a registry, whichever database it is on.

/// Calls `$each` with a list of all functions of the suite.
macro_rules! every_part {
    ($each:ident) => {
        $each! {
            sites::a_site_is_kept_as_it_joined,
            sites::sites_come_in_parts_in_order,
            sites::a_site_that_joins_again_keeps_what_was_there,
            sites::a_joining_that_comes_late_changes_nothing,
            sites::what_is_added_for_another_account_than_that_of_the_site_changes_nothing,
            sites::a_former_secret_is_valid_until_its_time_and_not_after,
            sites::a_connect_site_is_signed_with_its_shared_secret,
            sites::a_credential_is_renewed_by_one_that_lives_longer,
            sites::states_come_in_any_order,
            sites::a_pause_stands_beside_what_the_site_says,
            sites::a_site_that_is_forgotten_leaves_nothing_and_nothing_comes_back,
            pages::what_is_older_never_overwrites_what_is_newer,
            pages::a_failed_fetch_hides_nothing_that_was_read,
            pages::what_is_on_its_way_raises_the_version_and_is_not_yet_read,
            pages::a_batch_may_name_a_page_twice_and_have_any_length,
            pages::texts_of_every_kind_are_kept,
            pages::pages_come_in_parts_by_space_and_by_sweep,
            pages::rows_of_pages_that_are_gone_go_after_a_while,
            pages::of_eight_writers_at_once_the_newest_wins,
            runs::a_run_is_asked_for_claimed_advanced_and_ended,
            runs::of_eight_that_claim_at_once_each_run_goes_to_one,
            runs::a_run_whose_holder_died_goes_on_where_it_was,
            runs::a_wider_run_takes_the_place_of_a_narrower_one,
            runs::a_run_that_waits_is_claimed_when_its_time_has_come,
            runs::a_site_that_is_not_active_has_no_run_under_way,
            runs::ended_runs_are_kept_and_not_for_ever,
            runs::what_was_read_since_a_moment_counts_only_where_it_left_no_gap,
            runs::the_backlog_is_that_of_active_sites,
        }
    };
}

pub(super) use every_part;
