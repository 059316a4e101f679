"""CRIU's messages: what is encoded here protocol buffers' own library reads, and the other way."""

from __future__ import annotations

import pytest

from pyrunc.checkpoint import messages

SAMPLE = {
    "type": messages.DUMP,
    "opts": {
        "images_dir_fd": 5,
        "pid": 1 << 20,
        "leave_running": True,
        "root": "/a/ä",
        "ps": {"address": "::1", "port": 65535},
        "ext_mnt": [{"key": "/a", "val": "/b"}, {"key": "/c", "val": ""}],
        "external": ["net[4026531840]:extRootNetNS", ""],
        "inherit_fd": [{"key": "pipe:[1]", "fd": -1}],
        "manage_cgroups_mode": 3,
        "status_fd": -1,
    },
    "keep_open": True,
}


def test_what_is_encoded_is_decoded():
    assert messages.decode(messages.REQUEST, messages.encode(messages.REQUEST, SAMPLE)) == SAMPLE


@pytest.mark.parametrize(
    ("number", "wire"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (-1, "ffffffffffffffffff01")],
)
def test_varints(number, wire):
    assert messages.encode({"n": (1, int)}, {"n": number}).hex() == "08" + wire
    assert messages.decode({"n": (1, int)}, bytes.fromhex("08" + wire)) == {"n": number}


@pytest.mark.parametrize("wire", ["08", "0880", "1205", "0b", "08ffffffffffffffffffffff01"])
def test_what_is_no_message_is_an_error(wire):
    with pytest.raises(ValueError):
        messages.decode({"n": (1, int), "s": (2, str)}, bytes.fromhex(wire))


def test_unknown_fields_are_passed_over():
    wire = bytes.fromhex("280132036162633d010203044101020304050607080807")
    assert messages.decode({"n": (1, int)}, wire) == {"n": 7}


def test_the_library_of_protocol_buffers_agrees():
    """The messages' definitions are built from the tables: names, numbers, types, repetition."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="criu.proto", package="criu", syntax="proto2")

    def define(name, table):
        message = file.message_type.add(name=name)
        for field, (number, declared) in table.items():
            repeated = isinstance(declared, list)
            kind = declared[0] if repeated else declared
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, dict):
                define(f"{name}_{field}", kind)
                made.type, made.type_name = 11, f".criu.{name}_{field}"
            else:
                made.type = {int: 3, str: 9, bytes: 12}[kind]

    define("request", messages.REQUEST)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request = message_factory.GetMessageClass(pool.FindMessageTypeByName("criu.request"))
    theirs = request(**_without_booleans(SAMPLE))
    assert request.FromString(messages.encode(messages.REQUEST, SAMPLE)) == theirs
    assert messages.decode(messages.REQUEST, theirs.SerializeToString()) == SAMPLE


def _without_booleans(message):
    """The definitions say int of all that is a varint, and the library will insist on it."""
    if isinstance(message, dict):
        return {name: _without_booleans(value) for name, value in message.items()}
    return int(message) if isinstance(message, bool) else message
