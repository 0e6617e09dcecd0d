//! The CNI program killed before and after everything it does: whatever comes next leaves nothing behind.
//!
//! `strace` kills it at a system call of choice. `strike` finds the calls that change something and kills there, `scene`
//! sets the stage and judges what is left, and `repair` has what may come next, which are the tests.
//!
//! A run of the tests kills at each change once. With the number of kills wanted in `LODEN_KILLS`, every single
//! system call has its turn, over and over until there were so many.

#[path = "kill/repair.rs"]
mod repair;
#[path = "kill/scene.rs"]
mod scene;
#[path = "kill/strike.rs"]
mod strike;

use std::process::ExitCode;

use repair::*;

fn main() -> ExitCode {
    netns_tests::harness::main(if strike::wanted_kills().is_some() {
        netns_tests::test_list![
            a_del_repairs within 36_000,
            a_del_without_netns_repairs within 36_000,
            the_next_container_repairs within 36_000,
            the_same_container_again_repairs within 36_000,
            a_gc_repairs within 36_000,
            a_daemon_start_repairs within 36_000,
            the_first_container_of_a_host_may_die within 36_000,
        ]
    } else {
        netns_tests::test_list![
            a_del_repairs,
            a_del_without_netns_repairs,
            the_next_container_repairs,
            the_same_container_again_repairs,
            a_gc_repairs,
            a_daemon_start_repairs,
            the_first_container_of_a_host_may_die,
        ]
    })
}
