"""The trimmed protos are Envoy's API as far as they go, and the committed stubs are what they give."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from authz_service.transport.check_service import METHOD
from tests.support.envoy_types import envoy_type
from tools.protos import differences, main

SERVICE, _, CALL = METHOD.strip("/").rpartition("/")
ENVOYS_PACKAGES = {"HeaderValue": "envoy.config.core.v3", "HeaderMap": "envoy.config.core.v3",
                   "HeaderValueOption": "envoy.config.core.v3", "HttpStatus": "envoy.type.v3",
                   "Status": "google.rpc"}  # fmt: skip
TYPES = {kind: name[5:].lower() for name, kind in vars(FieldDescriptor).items() if name.startswith("TYPE_")}


def method() -> Any:
    return descriptor_pool.Default().FindServiceByName(SERVICE).methods_by_name[CALL]


def messages(descriptor: Descriptor) -> Iterator[Descriptor]:
    """A message of ours and all that it is made of."""
    if descriptor.file.name.startswith("google/") or descriptor.GetOptions().map_entry:
        return
    yield descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            yield from messages(field.message_type)


OURS = {
    message.full_name: message for root in (method().input_type, method().output_type) for message in messages(root)
}


def envoys(descriptor: Descriptor) -> Any:
    """envoy-data-plane's class: nested names are run together."""
    package = ENVOYS_PACKAGES.get(descriptor.name, descriptor.file.package)
    name = descriptor.full_name.removeprefix(f"{descriptor.file.package}.").replace(".", "")
    return envoy_type(f"{package}.{name}")


def wire_type(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "map"
    return TYPES[field.type]


@pytest.mark.parametrize("name", OURS)
def test_each_field_has_envoys_number_and_type(name: str) -> None:
    theirs = {field.name: field.metadata["betterproto"] for field in dataclasses.fields(envoys(OURS[name]))}
    for field in OURS[name].fields:
        their_type = theirs[field.name].proto_type
        if field.full_name == "authz_service.messages.HttpStatus.code":
            assert their_type == "enum"  # the same on the wire
            their_type = "int32"
        assert (field.number, wire_type(field)) == (theirs[field.name].number, their_type)
        assert field.is_repeated == theirs[field.name].repeated or wire_type(field) == "map"


def test_append_actions_have_envoys_numbers() -> None:
    ours: EnumDescriptor = OURS["authz_service.messages.HeaderValueOption"].enum_types_by_name["HeaderAppendAction"]
    theirs = envoy_type("envoy.config.core.v3.HeaderValueOptionHeaderAppendAction")
    assert {value.name: value.number for value in ours.values} == {value.name: value.value for value in theirs}


@pytest.mark.parametrize("name", OURS)
def test_no_name_is_registered_that_a_library_registers_too(name: str) -> None:
    assert name.startswith(("envoy.service.auth.v3.", "authz_service."))


def test_the_stubs_are_what_the_protos_give() -> None:
    assert main(["--check"]) == 0


def test_each_kind_of_difference_is_named() -> None:
    fresh, committed = {"a": b"1", "b": b"1", "c": b"1"}, {"b": b"2", "c": b"1", "d": b"1"}
    assert [line.partition("_pb/")[2] for line in differences(fresh, committed)] == [
        "a: missing", "b: differs", "d: left over",
    ]  # fmt: skip
