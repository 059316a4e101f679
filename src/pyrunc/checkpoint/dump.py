"""`checkpoint`: a running container into images, from which `restore` makes it again.

CRIU freezes the container by its cgroup for the moment that it takes to stop its processes one by
one (ptrace(2)), and lets it go on after a failure as it was.
"""

from __future__ import annotations

import posix

from pyrunc.checkpoint import (
    attributes,
    fingerprint,
    manifest,
    messages,
    mounts,
    outside,
    replaced,
    unsavable,
    yard,
)
from pyrunc.checkpoint.criu import Criu
from pyrunc.checkpoint.log import is_saved
from pyrunc.checkpoint.request import Places, common, refuse_rootless, told_by
from pyrunc.container.making.interrupts import Interrupted, Interrupts
from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import Error, WrongStatus, reason
from pyrunc.linux import process_stat
from pyrunc.linux import processes as p
from pyrunc.linux.files import clean_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.checkpoint.mounts import Source
    from pyrunc.checkpoint.options import CheckpointOptions
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.spec.types import Spec

_LOG = "dump.log"
_PREDUMP_LOG = "pre-dump.log"
#: How often to look again for stdin, stdout and stderr that are the container's own at first sight:
#: while descriptors are listed, one may be moved.
_MORE_LOOKS = 2
#: How long CRIU may take to stop the processes, attempt by attempt (seconds; 10 is its default).
#: One that has just called vfork(2), as every posix_spawn(3) does, can be stopped only once its
#: child has executed something, which the child cannot when it was stopped first.
_ATTEMPTS = (2, 3, 10)
#: CRIU's words when it takes longer.
_NOT_STOPPED = "Timeout reached."


def checkpoint(settings: Settings, container_id: str, options: CheckpointOptions) -> dict[str, int]:
    """Save a running container. It is gone afterwards, but for ``leave_running`` and ``pre_dump``.

    :return: with ``stats``, what :func:`pyrunc.checkpoint.statistics.read` tells, else nothing.
    :raises WrongStatus: when it is not running.
    :raises Error: when it cannot be saved; it then goes on as before.
    """
    refuse_rootless(settings, "checkpoint a container")
    entry = Store(settings.root).open(container_id)
    try:
        record, status = states.take(entry)
        if status not in (states.RUNNING, states.PAUSED):
            raise WrongStatus(f"cannot checkpoint a container that is {status}, only a running one")
        dump = _Dump(settings, entry, record, options)
        dump.carry_out()
        settings.trace.mark("dump")
        if not options.leave_running and not options.pre_dump and not options.leave_record:
            from pyrunc.container.delete import remove

            remove(settings, entry, record)
        return dump.statistics
    finally:
        entry.close()


class _Dump:
    """One checkpoint on its way."""

    def __init__(
        self, settings: Settings, entry: Entry, record: Record, options: CheckpointOptions
    ) -> None:
        self.settings = settings
        self.entry = entry
        self.record = record
        self.options = options
        self.pid = record["pid"]
        self.spec: Spec = entry.load_config()
        self.stdio = outside.Stdio()
        self.mounts: dict[str, Source] = {}
        self.statistics: dict[str, int] = {}
        #: Whether all is in the images although the dump failed here.
        self.is_saved = False

    def carry_out(self) -> None:
        """Look, refuse what cannot be saved, have CRIU save the rest."""
        interrupts = Interrupts()
        log = _PREDUMP_LOG if self.options.pre_dump else _LOG
        try:
            asked = self._look()
            places = Places(self.options, log, make=True)
            try:
                before = set(posix.listdir(places.images))
                # That of an earlier dump could be taken for this one's.
                _forget(places.work, log)
                try:
                    self._have_saved(places, {**asked, "images_dir_fd": places.images}, log)
                except BaseException:
                    # An interrupt that comes too late finds all saved, and nothing else left of it.
                    self.is_saved = is_saved(places.work, log)
                    if not self.is_saved:
                        _remove_images(places.images, before)
                    raise
            finally:
                places.close()
        except Interrupted as error:
            # CRIU has found the socket closed and undone all; if that came too late, it is saved.
            what = "was saved before that" if self.is_saved else "goes on"
            raise Error(f"checkpoint of {self.record['id']} was {error}; it {what}") from None
        except OSError as error:
            if process_stat.is_running(self.pid, self.record["startTime"]):
                raise Error(f"cannot look at {self.record['id']}: {reason(error)}") from None
            raise WrongStatus("cannot checkpoint a container that has just ended") from None
        finally:
            interrupts.end()

    def _look(self) -> dict[str, Any]:
        """Find out what is outside and what stands in the way; return what to ask for."""
        from pyrunc.cgroups.driver import from_state

        options = self.options
        driver = from_state(self.record["cgroup"])
        processes = driver.processes() or [self.pid]
        opened = outside.open_files(processes)
        self.stdio.look(self.pid, opened)
        for _ in range(_MORE_LOOKS):
            if "" in self.stdio.names:
                self.stdio.look(self.pid, outside.open_files(processes))
        unsavable.check(self.pid, processes, opened, self.stdio.names, options)
        if manifest.namespaces_of(self.spec).get("mount") == "new":
            self.mounts = mounts.from_outside(self.pid, self.spec)
        external = outside.namespaces_outside(self.pid, self.spec)
        external += [
            name for name in dict.fromkeys(self.stdio.names) if name and name[:4] != "pipe"
        ]
        asked = common(options, self.spec)
        asked |= {
            "pid": self.pid,
            "root": self.record["rootfs"],
            "leave_running": options.leave_running,
            "ext_mnt": [{"key": place, "val": place} for place in self.mounts],
            "external": external,
        }
        for name in ("tcp_skip_in_flight", "link_remap"):
            if getattr(options, name):
                asked[name] = True
        asked |= _cgroups(self.record["cgroup"])
        if options.page_server:
            asked["ps"] = _page_server(options.page_server)
        if options.parent_path:
            asked["parent_img"] = self._parent()
        if options.pre_dump or options.parent_path:
            asked["track_mem"] = True
        return asked

    def _parent(self) -> str:
        """Return the directory of the pre-dump before.

        :raises Error: when it is none that the images can refer to.
        """
        path = self.options.parent_path
        if path.startswith("/"):
            raise Error(f"invalid --parent-path {path}: it must be relative to --image-path")
        # By text, as the directory of the images may not be there yet.
        whole = clean_path(f"{self.options.image_path}/{path}")
        try:
            posix.listdir(whole)
        except OSError as error:
            raise Error(f"invalid --parent-path {path}: {whole}: {reason(error)}") from None
        return path

    def _have_saved(self, places: Places, asked: dict[str, Any], log: str) -> None:
        for seconds in _ATTEMPTS:
            try:
                self._try(places, {**asked, "timeout": seconds}, log)
                break
            except Error as error:
                if _NOT_STOPPED not in str(error) or seconds == _ATTEMPTS[-1]:
                    raise
                self.settings.log.debug(f"some process did not stop in {seconds} s: once more")
        if any(name.startswith("file[") for name in self.stdio.names) and not self.options.pre_dump:
            try:
                replaced.make_replaceable(places.images)
            except Error as error:
                # It is saved all the same.
                self.settings.log.warn(str(error))
        if self.options.stats:
            from pyrunc.checkpoint import statistics

            try:
                self.statistics = statistics.read(places.work)
            except Error as error:
                self.settings.log.warn(str(error))

    def _try(self, places: Places, asked: dict[str, Any], log: str) -> None:
        from pyrunc.cgroups import host

        options = self.options
        passed = []
        if options.status_fd >= 0:
            passed.append(options.status_fd)
            asked["status_fd"] = options.status_fd
        entered = outside.namespaces_to_enter(self.pid, self.spec)
        try:
            criu = Criu(options.criu, passed, entered=entered)
        finally:
            for namespace in entered:
                posix.close(namespace)
        pidfd = p.pidfd_open(self.pid)
        criu.watch(self.pid, pidfd)
        try:
            self._check_features(criu)
            layout = host.detect(required=False)
            if not options.pre_dump:
                # Before CRIU ends the container: should we be killed, the images are whole.
                self._write_manifest(places.images, criu.version)
                if options.keep_config:
                    manifest.write_config(places.images, self.spec)
            kind = messages.PRE_DUMP if options.pre_dump else messages.DUMP

            def notice(script: str, pid: int, descriptor: int) -> None:
                if script == "post-dump" and options.when_saved is not None:
                    options.when_saved(places.images)

            with yard.Link(self.entry, layout, criu.version) as given:
                criu.carry_out(
                    kind,
                    {**asked, **given},
                    notice,
                    work=places.work,
                    log=log,
                    log_path=places.log,
                    tick=told_by(options, places.images),
                )
        finally:
            criu.close()
            posix.close(pidfd)
            if options.progress:
                options.progress(None)

    def _check_features(self, criu: Criu) -> None:
        """:raises Error: when the kernel cannot do what is asked for."""
        options = self.options
        wanted = {}
        if options.pre_dump or options.parent_path:
            wanted["mem_track"] = (
                "the kernel does not track changes of memory (CONFIG_MEM_SOFT_DIRTY), "
                "which --pre-dump and --parent-path need"
            )
        if options.lazy_pages:
            wanted["lazy_pages"] = "the kernel cannot do --lazy-pages (CONFIG_USERFAULTFD)"
        if not wanted:
            return
        there = criu.features(*wanted)
        for name, refusal in wanted.items():
            if name not in there:
                raise Error(refusal)

    def _write_manifest(self, images: int, version: tuple[int, int, int]) -> None:
        told = manifest.Manifest()
        host = posix.uname()
        told.criu, told.kernel, told.machine = version, host.release, host.machine
        told.namespaces = manifest.namespaces_of(self.spec)
        told.config = fingerprint.digests(self.spec)
        told.terminal = manifest.has_terminal(self.spec)
        told.mounts = self.mounts
        told.restrictions = attributes.restrictions(self.pid)
        told.stdio = self.stdio.names
        manifest.write(images, told, self.stdio.links)


def _cgroups(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to ask for about cgroups.

    In a hierarchy in which the container has no cgroup of its own it is in the root, and all
    cgroups of the host are below that: CRIU would save them, and make them again on restore.
    """
    paths = saved.get("paths") or {}
    asked: dict[str, Any] = {}
    if paths:
        asked["cgroup_dump_controller"] = list(paths)
    if freezer := paths.get("" if saved["version"] == 2 else "freezer"):
        asked["freeze_cgroup"] = freezer
    return asked


def _page_server(text: str) -> dict[str, Any]:
    """:raises Error: when it is not ADDRESS:PORT."""
    address, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Error(f"invalid value for --page-server: {text!r} is not ADDRESS:PORT")
    return {"address": address.strip("[]"), "port": int(port)}


def _forget(directory: int, log: str) -> None:
    try:
        posix.unlink(log, dir_fd=directory)
    except FileNotFoundError:
        pass


def _remove_images(directory: int, before: set[str]) -> None:
    """Remove the images of a failed dump: half of them are good for nothing."""
    for name in posix.listdir(directory):
        if name.endswith((".img", ".json")) and name not in before:
            posix.unlink(name, dir_fd=directory)
