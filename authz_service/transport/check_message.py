"""A ``CheckRequest`` in whatever encoding, read by protobuf's library. The only user of the stubs.

Loaded for the first message that :mod:`.check_fields` leaves to it, which under ``envoy/envoy.yaml`` takes a header of
more than 16 KiB: the library takes memory in every process that has it.
"""

from typing import Final

from google.protobuf.message import DecodeError

from authz_service._pb.attribute_context_pb2 import AttributeContext
from authz_service._pb.external_auth_pb2 import CheckRequest
from authz_service.model import Headers
from authz_service.transport.check_fields import Fields, malformed

MAX_HEADERS: Final = 4096
"""Envoy lets a client have a hundred, unless told otherwise; :mod:`.check_fields` reads no message that can hold more.
Each becomes some objects, so that a message of empty ones would take many times its size."""


def read_message(message: bytes) -> Fields:
    """Of ``attributes.request.http``, like :func:`.read_fields`; the headers in either encoding.

    :raises RequestRefused: ``request_malformed``
    """
    try:
        http = CheckRequest.FromString(message).attributes.request.http
    except DecodeError:
        raise malformed() from None
    if len(http.headers) + len(http.header_map.headers) > MAX_HEADERS:
        raise malformed()
    headers = list(http.headers.items())
    if http.HasField("header_map"):
        # Envoy fills one of the two. Should both be there, every header counts: nothing hides behind the other list.
        headers.extend(_raw_headers(http))
    return http.id, http.method, http.path, http.host, headers


def _raw_headers(http: AttributeContext.HttpRequest) -> Headers:
    r"""The headers under ``encode_raw_headers``.

    Bytes are read as ISO 8859-1, RFC 9110 section 5.5: each byte is one character and no two values become equal;
    ASCII stays itself and no other byte becomes ASCII, not even after ``lower()``. UTF-8 with a second guess for what
    is not UTF-8 would make ``\xc3\xa9`` and ``\xe9`` the same text.
    """
    entries = http.header_map.headers
    if any(entry.value and entry.raw_value for entry in entries):
        raise malformed()  # envoy.config.core.v3.HeaderValue: only one of them
    return tuple((entry.key, entry.value or entry.raw_value.decode("latin-1")) for entry in entries)
