"""linux.netDevices: interfaces of the host that the container gets (config-linux.md)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

IP = shutil.which("ip") or "/usr/sbin/ip"


class Network:
    """A network namespace that stands for the host's."""

    def __init__(self, pid):
        self.path = f"/proc/{pid}/ns/net"
        self.enter = ["nsenter", f"--net={self.path}"]

    def ip(self, *words):
        done = subprocess.run(
            [*self.enter, IP, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    def make(self, name):
        """Make an interface, one of a pair whose other end stays."""
        self.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
        self.ip("link", "set", f"{name}-peer", "up")

    def links(self):
        """Return the interfaces by name."""
        return {link["ifname"]: link for link in json.loads(self.ip("-j", "addr"))}

    def addresses(self, name):
        """Return what was set by hand."""
        return {
            (entry["local"], entry["prefixlen"])
            for entry in self.links()[name]["addr_info"]
            if entry["scope"] == "global"
        }

    def routes(self, name):
        """Return destinations and gateways of what was set by hand."""
        return {
            (route["dst"], route.get("gateway", ""))
            for family in ("-4", "-6")
            for route in json.loads(self.ip("-j", family, "route", "show", "dev", name))
            if route.get("protocol") != "kernel"
        }


def new_network():
    """Make a network namespace, and remove it afterwards."""
    if not Path(IP).exists():
        pytest.skip("needs ip (package iproute2)")
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as holder:
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.001)
        yield Network(holder.pid)
        holder.kill()


#: One stands for the host's, one is there to be joined.
host = pytest.fixture(new_network, name="host")
other = pytest.fixture(new_network, name="other")


@pytest.fixture
def runtime(pyrunc, host):
    """The command, called from the host's network."""
    pyrunc.command[:0] = host.enter
    yield pyrunc
    # While the host's network is there.
    pyrunc.remove_all()


@pytest.fixture
def device(host):
    """An interface that is up, with addresses and routes of both families."""
    host.make("dev0")
    host.ip("link", "set", "dev0", "mtu", "1357", "address", "02:00:00:00:00:07", "up")
    host.ip("addr", "add", "192.0.2.5/24", "dev", "dev0")
    host.ip("addr", "add", "192.0.2.6/24", "dev", "dev0")
    lifetime = ("valid_lft", "500", "preferred_lft", "400")
    host.ip("addr", "add", "198.51.100.9/24", "dev", "dev0", *lifetime)
    host.ip("-6", "addr", "add", "2001:db8::5/64", "dev", "dev0", "nodad")
    host.ip("route", "add", "203.0.113.0/24", "via", "192.0.2.1", "dev", "dev0")
    host.ip("route", "add", "198.18.0.0/15", "dev", "dev0")
    host.ip("-6", "route", "add", "default", "via", "2001:db8::1", "dev", "dev0")
    return "dev0"


ADDRESSES = {("192.0.2.5", 24), ("192.0.2.6", 24), ("2001:db8::5", 64)}
#: It has a lifetime, and is none that an administrator has set for ever.
TEMPORARY = ("198.51.100.9", 24)
ROUTES = {
    ("203.0.113.0/24", "192.0.2.1"),
    ("198.18.0.0/15", ""),
    ("default", "2001:db8::1"),
}


def inside(runtime, container):
    return Network(runtime.state(container)["pid"])


def test_moved_with_addresses_and_routes(make_bundle, runtime, host, device):
    bundle = make_bundle(args=["sleep", "100"], linux={"netDevices": {device: {}}})
    network = inside(runtime, runtime.start(bundle))
    assert device not in host.links()
    link = network.links()[device]
    assert link["mtu"] == 1357
    assert link["address"] == "02:00:00:00:00:07"
    assert "UP" in link["flags"]
    assert network.addresses(device) == ADDRESSES
    assert network.routes(device) == ROUTES


def test_what_is_inside_is_not_touched_any_more(make_bundle, runtime, host, other, device):
    """Neither while the container runs nor when it is deleted."""
    bundle = make_bundle(args=["sleep", "100"], linux={"netDevices": {device: {}}})
    bundle.namespace("network", other.path)
    container = runtime.start(bundle)
    other.ip("link", "set", device, "down")
    other.ip("addr", "flush", "dev", device)
    assert runtime.exec(container, "true").code == 0
    assert runtime("update", "--pids-limit", "50", container.id).code == 0
    assert "UP" not in other.links()[device]["flags"]
    assert runtime("delete", "--force", container.id).code == 0
    assert device in other.links()
    assert device not in host.links()
    assert other.addresses(device) == set()


def test_renamed(make_bundle, runtime, host, device):
    devices = {device: {"name": "eth7"}}
    bundle = make_bundle(args=["ls", "/sys/class/net"], linux={"netDevices": devices})
    result = runtime.run(bundle)
    assert (result.code, result.stdout) == (0, "eth7\nlo\n"), result


def test_one_that_is_down_comes_up(make_bundle, runtime, host):
    host.make("quiet")
    bundle = make_bundle(args=["sleep", "100"], linux={"netDevices": {"quiet": {}}})
    network = inside(runtime, runtime.start(bundle))
    assert "UP" in network.links()["quiet"]["flags"]


def test_the_kernel_chooses_a_name_for_a_template(make_bundle, runtime, host):
    for name in ("one", "two"):
        host.make(name)
    devices = {"one": {"name": "eth%d"}, "two": {"name": "eth%d"}}
    bundle = make_bundle(args=["ls", "/sys/class/net"], linux={"netDevices": devices})
    result = runtime.run(bundle)
    assert result.stdout == "eth0\neth1\nlo\n", result


def test_into_a_network_that_exists(make_bundle, runtime, host, device, other):
    # Its name is taken there; with the name that it gets it may go.
    other.make(device)
    bundle = make_bundle(linux={"netDevices": {device: {"name": "eth0"}}})
    bundle.namespace("network", other.path)
    assert runtime.run(bundle).code == 0
    # The network is there after the container, and what was moved with it.
    assert other.addresses("eth0") == ADDRESSES
    assert other.addresses(device) == set()


def test_in_a_user_namespace(make_bundle, runtime, host, device, public_path):
    bundle = make_bundle(
        args=["ls", "/sys/class/net"], at=public_path / "b", linux={"netDevices": {device: {}}}
    )
    bundle.user_namespace(100000)
    bundle.give_to(100000)
    result = runtime.run(bundle)
    assert result.stdout == "dev0\nlo\n", result


def test_hooks_find_it_inside(make_bundle, runtime, host, device, tmp_path):
    hook = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"grep -q dev0: /proc/net/dev && exit 1; touch {tmp_path}/moved"],
    }
    bundle = make_bundle(linux={"netDevices": {device: {}}}, hooks={"createRuntime": [hook]})
    assert runtime.run(bundle).code == 0
    assert (tmp_path / "moved").exists()


def test_sysctls_find_it_inside(make_bundle, runtime, host, device):
    name = "net.ipv4.conf.eth7.rp_filter"
    bundle = make_bundle(
        args=["cat", "/proc/sys/net/ipv4/conf/eth7/rp_filter"],
        linux={"netDevices": {device: {"name": "eth7"}}, "sysctl": {name: "2"}},
    )
    assert runtime.run(bundle).stdout == "2\n"


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ({"dev0": {}, "none9": {}}, "cannot find network device none9"),
        ({"dev0": {"name": "lo"}}, "cannot move network device dev0 into the container: the "
         "container has a device named lo already"),
        ({"dev0": {}, "lo": {"name": "lo5"}}, "cannot move network device lo into the container: "),
    ],
)  # fmt: skip
def test_failures_bring_everything_back(make_bundle, runtime, host, device, devices, said):
    bundle = make_bundle(linux={"netDevices": devices})
    result = runtime.create(bundle)
    assert result.code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert_as_before(host, device)


def test_a_later_failure_brings_it_back(make_bundle, runtime, host, device):
    bundle = make_bundle(
        linux={"netDevices": {device: {"name": "eth%d"}}},
        hooks={"createContainer": [{"path": "/bin/false"}]},
    )
    result = runtime.create(bundle)
    assert "createContainer hook" in result.stderr
    assert_as_before(host, device)


def test_one_that_was_down_is_brought_back_down(make_bundle, runtime, host):
    host.make("quiet")
    host.ip("addr", "add", "192.0.2.5/24", "dev", "quiet")
    bundle = make_bundle(
        linux={"netDevices": {"quiet": {}}}, hooks={"createContainer": [{"path": "/bin/false"}]}
    )
    assert runtime.create(bundle).code == 1
    assert "UP" not in host.links()["quiet"]["flags"]
    assert host.addresses("quiet") == {("192.0.2.5", 24)}


def test_the_host_s_network_is_no_place_to_move_to(make_bundle, runtime, host, device):
    bundle = make_bundle(linux={"netDevices": {device: {"name": "eth7"}}})
    bundle.namespace("network", host.path)
    result = runtime.create(bundle)
    assert "the host's own network namespace" in result.stderr
    assert_as_before(host, device)


def assert_as_before(host, device):
    assert "UP" in host.links()[device]["flags"]
    assert host.addresses(device) == ADDRESSES | {TEMPORARY}
    [entry] = [e for e in host.links()[device]["addr_info"] if e.get("local") == TEMPORARY[0]]
    assert 300 < entry["preferred_life_time"] <= 400 < entry["valid_life_time"] <= 500
    assert host.routes(device) == ROUTES
