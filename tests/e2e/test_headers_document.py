"""The reader of ``docs/headers.md``, as printed, fed with what chat-api gets through a real Envoy."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from authz_service.policy.grammar import RESERVED_HEADERS
from authz_service.policy.loader import DEFAULT_IDENTITY_HEADERS
from tests.support.gateway import Gateway, gateway

DOCUMENT = Path(__file__).parents[2] / "docs" / "headers.md"
Identity = dict[str, Any]


def reader() -> Callable[[Mapping[str, str]], Identity]:
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - what readers are told to run
    identity: Callable[[Mapping[str, str]], Identity] = names["identity"]
    return identity


@pytest.fixture
async def path() -> AsyncIterator[Gateway]:
    async with gateway() as running:
        yield running


async def read(path: Gateway, **claims: Any) -> Identity:
    """What the reader makes of a token with these claims."""
    token = path.issuer.key.sign(path.issuer.claims("full") | claims)
    reply = await path.get(token=token)
    assert reply.status == 200
    return reader()(reply.body["identity"])


async def test_each_claim_comes_out_as_the_issuer_wrote_it(path: Gateway) -> None:
    odd = ["groups:read", "a,b", "100%", "a%2Cb", "grüße", " at the ends ", "a+b", "\U0001f600", '"quoted"', "=;/?"]
    claims = {"sub": "user,1 %", "username": "Åsa Ö, 5 %+", "email": "a+b@c.d", "permissions": odd, "roles": ["ä,"]}
    who = await read(path, **claims)
    assert {name: who[name] for name in claims} == claims
    assert who["contract"] == "1"


async def test_an_empty_list_is_an_empty_list_and_an_absent_claim_is_absent(path: Gateway) -> None:
    who = await read(path, roles=[], org_id=None, username=None)
    assert who["roles"] == []
    assert not who.keys() & {"org-id", "username"}


async def test_a_public_route_has_a_contract_and_nobody(path: Gateway) -> None:
    reply = await path.get("/healthz", ("x-auth-sub", "root"), ("x-auth-permissions", "groups:read"))
    assert reader()(reply.body["identity"]) == {"contract": "1", "roles": [], "permissions": []}


@pytest.mark.parametrize("headers", [{}, {"x-auth-sub": "root"}, {"x-auth-contract": "2", "x-auth-sub": "root"}])
def test_what_did_not_come_through_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(PermissionError):
        reader()(headers)


def test_every_header_of_the_contract_has_its_row() -> None:
    headers = [header for _, header in DEFAULT_IDENTITY_HEADERS]
    rows = "".join(line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `x-auth-"))
    assert all(f"`{header}`" in rows for header in (*headers, *RESERVED_HEADERS))
