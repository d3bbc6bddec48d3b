"""The bytes of a ``CheckRequest``, in one pass: read as protobuf's library reads them, or left to it."""

from authz_service._pb.external_auth_pb2 import CheckRequest
from authz_service.transport.check_fields import Unusual, read_fields

MAX_LENGTH = 8192


def fuzz(data: bytes) -> bool:
    """Accepted is what is read in one pass."""
    try:
        own_id, method, path, host, headers = read_fields(data)
    except Unusual:
        return False
    http = CheckRequest.FromString(data).attributes.request.http
    assert (own_id, method, path, host) == (http.id, http.method, http.path, http.host)
    assert sorted(headers) == sorted(http.headers.items())
    assert not http.HasField("header_map")
    return True
