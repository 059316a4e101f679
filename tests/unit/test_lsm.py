"""AppArmor profiles and SELinux labels: where they are written, and when they are refused."""

from __future__ import annotations

import pathlib

import pytest

from pyrunc.errors import Error
from pyrunc.security.lsm import apparmor_enabled, exec_labels, selinux_enabled

without_apparmor = pytest.mark.skipif(apparmor_enabled(), reason="AppArmor is active here")
with_apparmor = pytest.mark.skipif(not apparmor_enabled(), reason="AppArmor is not active here")
without_selinux = pytest.mark.skipif(selinux_enabled(), reason="SELinux is active here")


def test_nothing_asked_is_nothing_written():
    assert exec_labels("", "") == []


def test_activity_agrees_with_the_list_of_security_modules():
    listed = pathlib.Path("/sys/kernel/security/lsm")
    if not listed.exists():
        pytest.skip("securityfs is not mounted")
    modules = listed.read_text().split(",")
    assert apparmor_enabled() == ("apparmor" in modules)
    assert selinux_enabled() == ("selinux" in modules)


@without_apparmor
def test_profile_without_apparmor_is_refused():
    words = "apparmor failed to apply profile: mine: AppArmor is not enabled"
    with pytest.raises(Error, match=words):
        exec_labels("mine", "")


@without_apparmor
def test_unconfined_without_apparmor_is_what_it_is_anyway():
    assert exec_labels("unconfined", "") == []


@with_apparmor
@pytest.mark.parametrize("profile", ["docker-default", "unconfined"])
def test_profile_is_written_for_the_next_exec(profile):
    ((path, content),) = exec_labels(profile, "")
    assert path in ("attr/apparmor/exec", "attr/exec")
    assert content == b"exec " + profile.encode()


@with_apparmor
@pytest.mark.parametrize("profile", ["a\nb", "a\0b"])
def test_profile_that_would_end_early_is_refused(profile):
    with pytest.raises(Error, match="zero byte or a new line"):
        exec_labels(profile, "")


@without_selinux
def test_label_without_selinux_is_refused():
    with pytest.raises(Error, match="selinux is disabled or not supported"):
        exec_labels("", "system_u:system_r:container_t:s0")
