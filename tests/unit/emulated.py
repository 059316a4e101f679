"""What only a real kernel shows, skipped where qemu-user runs the tests: ``pytest -p emulated``.

`make test-aarch64` does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Whether the kernel hands programs of this processor to qemu-user (binfmt_misc).
EMULATED = Path(f"/proc/sys/fs/binfmt_misc/qemu-{os.uname().machine}").exists()
#: Reason -> tests.
NOT_EMULATED = {
    "qemu-user has no clone(2) but for forks and threads": {
        "test_spawn_goes_on_in_a_sibling",
        "test_the_spawning_process_ends_when_the_other_has_executed",
        "test_a_sibling_tells_by_its_end_what_failed",
        "test_the_page_is_not_the_siblings",
        "test_spawn_into_goes_on_in_the_cgroup",
    },
    "qemu-user has no seccomp(2), by which libseccomp learns what a kernel knows": {
        "test_a_hook_has_the_filter_of_the_program",
        "test_listener_is_told_from_the_section_and_kept_notify",
        "test_a_file_of_another_section_is_not_taken",
        "test_what_belongs_to_another_user_is_not_taken",
        "test_links_are_not_followed",
        "test_action",
        "test_calls_newer_than_a_denying_profile_get_enosys",
        "test_calls_newer_than_an_open_profile_get_its_default",
        "test_flags",
        "test_kernel_answers_with_the_errno_of_the_rule",
        "test_kernel_takes_the_engine_profile",
        "test_kernel_kills",
        "test_kernel_gives_a_listener_for_a_filter_that_notifies",
    },
    "the process is qemu-user's, with its memory": {
        "test_a_working_directory_outside_the_root_is_refused",
        "test_a_waiting_init_takes_next_to_no_memory",
        "test_a_served_program_has_its_standard_streams_and_nothing_else",
        "test_what_is_behind_exe_cannot_be_written",
        "test_content_is_taken_and_long_runs_of_zeros_are_not",
        "test_what_is_wiped_in_forks_is_never_copied",
        "test_what_forks_do_not_have_is_refused",
        "test_code_comes_from_its_files",
        "test_what_can_be_mapped_as_one_is_one",
    },
    "what qemu-user translates is slower": {
        "test_a_hit_takes_a_fraction_of_a_millisecond",
        "test_checking_a_large_seccomp_section_takes_about_a_millisecond",
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for reason, names in NOT_EMULATED.items():
            if getattr(item, "originalname", item.name) in names:
                item.add_marker(pytest.mark.skip(reason=reason))
