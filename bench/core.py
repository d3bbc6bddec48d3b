"""``python -m bench.core``: what one decision takes, and how that grows with rules, tokens and their size.

Each of the four has processes of its own, so that none finds the memory of another. Prints one sample a line.
"""

import argparse
import gc
import json
import random
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from authz_service._pb.external_auth_pb2 import CheckResponse
from authz_service.policy.loader import Policy, parse_policy
from bench.credentials import PERMISSIONS, Template, mint
from bench.decision_core import BATCH, DecisionCore, microseconds, with_cores
from bench.es256 import ALGORITHM, EcKey
from bench.machine import rss_bytes
from bench.processes import BenchFailed
from bench.stage import POLICY
from demo.auth_api import SigningKey

KNOWN, NEW, BARE = "allowed, token known", "allowed, token new", "bare RSA verification"
DENIED, NO_TOKEN, FORGED = "denied, permission missing", "denied, no token", "denied, bad signature again"
RULES = (10, 100, 1_000, 10_000)
TOKEN_KIB = (1, 2, 4, 8)
TOKENS = "tokens"
ROOMY = {"AUTHZ_TOKEN_CACHE_ENTRIES": "1000000", "AUTHZ_TOKEN_CACHE_BYTES": str(2**31)}
"""Half of it for each generation."""
ALLOWED = CheckResponse(status={"code": 0}).SerializeToString()
"""How each answer begins that allows."""

TURNS = 20
"""In each repetition: what slows the machine for a second slows all subjects of a ratio."""
Make = Callable[[], bytes]
Subject = tuple[str, Callable[[bytes], object], Make]
"""Its name, what is measured, and what makes a message for it."""


class Effort:
    """How often.

    :param repetitions: of everything, in turn.
    :param calls: in each of them, of what is quick; a tenth of that where a signature is verified.
    """

    def __init__(self, repetitions: int, calls: int, tokens: int) -> None:
        self.repetitions = range(repetitions)
        self.calls = calls
        self.few_calls = max(BATCH, calls // 10)
        self.tokens = tokens

    def in_turns(self, calls: int, subjects: Sequence[Subject]) -> dict[str, float]:
        """Microseconds of one call of each, in one repetition."""
        turns = min(TURNS, calls // BATCH)
        took = dict.fromkeys((name for name, _, _ in subjects), 0.0)
        for _ in range(turns):
            for name, call, make in subjects:
                took[name] += microseconds(call, _batches(calls // turns, make)) / turns
        return took


def decisions(template: Template, effort: Effort) -> None:
    """The kinds of decisions."""
    key = SigningKey("bench-1")
    token = mint(key)
    good = template.message(token=token)
    others = {
        KNOWN: good,
        DENIED: template.message(token=mint(key, permissions=["messages:read"])),
        NO_TOKEN: template.message(token=""),
        FORGED: template.message(token=f"{token[:-8]}{'A' * 8}"),
    }

    def measure(cores: Sequence[DecisionCore]) -> None:
        (core,) = cores
        verify = _bare_verification(key, token)
        for subject, message in others.items():
            _expect(core, message, allowed=subject == KNOWN)
        quick: list[Subject] = [(subject, core.check, partial(bytes, message)) for subject, message in others.items()]
        slow: list[Subject] = [(NEW, _forgetful(core), partial(bytes, good)), (BARE, verify, partial(bytes, good))]
        for _ in effort.repetitions:
            for calls, subjects in ((effort.calls, quick), (effort.few_calls, slow)):
                for subject, us in effort.in_turns(calls, subjects).items():
                    _tell("core", subject, us=us)

    with_cores([parse_policy(POLICY.read_text())], _key_set(key), measure)


def rules(template: Template, effort: Effort) -> None:
    """One known token, and any of so many rules."""
    key = SigningKey("bench-1")
    token = mint(key)

    def measure(cores: Sequence[DecisionCore]) -> None:
        for core, count in zip(cores, RULES, strict=True):
            for number in range(count):
                _expect(core, template.message(token=token, path=_path(number)), allowed=True)
        subjects: list[Subject] = [
            (str(count), core.check, partial(_any_path, template, token, count))
            for core, count in zip(cores, RULES, strict=True)
        ]
        for _ in effort.repetitions:
            for subject, us in effort.in_turns(effort.calls, subjects).items():
                _tell("rules", subject, us=us)

    with_cores([_policy_of(count) for count in RULES], _key_set(key), measure)


def tokens(template: Template, effort: Effort) -> None:
    """One known token, and any of so many. ES256: signing that many with RSA would take a minute."""
    key = EcKey("bench-2")
    minted = [key.sign(f"user-{number:06}") for number in range(effort.tokens)]

    def measure(cores: Sequence[DecisionCore]) -> None:
        (core,) = cores
        first = template.message(token=minted[0])
        _expect(core, first, allowed=True)
        gc.collect()
        before = rss_bytes()
        for token in minted:
            core.check(template.message(token=token))
        gc.collect()
        _tell(TOKENS, str(effort.tokens), bytes=(rss_bytes() - before) / effort.tokens)
        if len(core.remembered) != effort.tokens:
            raise BenchFailed(f"{len(core.remembered)} of {effort.tokens} tokens are remembered")
        subjects: list[Subject] = [
            ("1", core.check, partial(bytes, first)),
            (str(effort.tokens), core.check, lambda: template.message(token=random.choice(minted))),  # noqa: S311
        ]
        for _ in effort.repetitions:
            for subject, us in effort.in_turns(effort.calls, subjects).items():
                _tell(TOKENS, subject, us=us)

    with_cores([parse_policy(POLICY.read_text())], key.key_set(), measure, JWT_ALGORITHMS=ALGORITHM, **ROOMY)


def sizes(template: Template, effort: Effort) -> None:
    """Larger tokens, larger because they hold more permissions."""
    key = SigningKey("bench-1")
    messages = {kib: template.message(token=_token_of(key, kib * 1024)) for kib in TOKEN_KIB}

    def measure(cores: Sequence[DecisionCore]) -> None:
        (core,) = cores
        for message in messages.values():
            _expect(core, message, allowed=True)
        known: list[Subject] = [
            (f"{kib} KiB", core.check, partial(bytes, message)) for kib, message in messages.items()
        ]
        new: list[Subject] = [(size, _forgetful(core), make) for size, _, make in known]
        for _ in effort.repetitions:
            of_new = effort.in_turns(effort.few_calls, new)
            for size, us in effort.in_turns(effort.calls, known).items():
                _tell("token size", size, known_us=us, new_us=of_new[size])

    with_cores([parse_policy(POLICY.read_text())], _key_set(key), measure)


def _batches(calls: int, make: Callable[[], bytes]) -> Iterator[list[bytes]]:
    return ([make() for _ in range(BATCH)] for _ in range(calls // BATCH))


def _forgetful(core: DecisionCore) -> Callable[[bytes], object]:
    """Each token is new, and is remembered in vain; forgetting costs a tenth of a microsecond."""

    def check(message: bytes) -> None:
        core.remembered.clear()
        core.check(message)

    return check


def _bare_verification(key: SigningKey, token: str) -> Callable[[bytes], None]:
    """``cryptography`` and a ready key, nothing else."""
    numbers = key.jwk()
    n, e = (int.from_bytes(_decode(numbers[name])) for name in ("n", "e"))
    public = rsa.RSAPublicNumbers(e, n).public_key()
    signed, _, signature = token.rpartition(".")
    arguments = _decode(signature), signed.encode(), padding.PKCS1v15(), SHA256()

    def verify(_message: bytes) -> None:
        public.verify(*arguments)

    return verify


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _expect(core: DecisionCore, message: bytes, *, allowed: bool) -> None:
    """A figure for another verdict than the wanted one would be worth nothing."""
    answer = core.check(message)
    if not isinstance(answer, bytes) or answer.startswith(ALLOWED) != allowed:
        raise BenchFailed(f"not {'allowed' if allowed else 'denied'}: {answer!r}")


def _key_set(key: SigningKey) -> bytes:
    return json.dumps({"keys": [key.jwk()]}).encode()


def _path(number: int) -> str:
    """A path that only the rule of this number covers."""
    return (f"/api/{number}/items", f"/api/{number}/items/17", f"/api/{number}/files/a/b")[number % 3]


def _any_path(template: Template, token: str, count: int) -> bytes:
    return template.message(token=token, path=_path(random.randrange(count)))  # noqa: S311


def _policy_of(count: int) -> Policy:
    """So many rules: literal paths, parameters and prefixes in equal parts."""
    shapes = ("path: /api/%d/items", 'path: "/api/%d/items/{item_id}"', "prefix: /api/%d/files/")
    require = f'require: {{permission: "{PERMISSIONS[0]}"}}'
    lines = [
        f"  - {{name: r{number}, match: {{{shapes[number % 3] % number}}}, {require}}}"
        for number in range(count)
    ]
    return parse_policy("\n".join(["version: 1", "rules:", *lines]))


def _token_of(key: SigningKey, size: int) -> str:
    """At most so many octets, and nearly as many."""
    count = 1
    while len(token := mint(key, permissions=[*PERMISSIONS, *(f"p{n:03}:read" for n in range(count))])) <= size:
        fitting, count = token, count + 1
    return fitting


def _tell(section: str, subject: str, **quantities: float) -> None:
    print(json.dumps([section, subject, quantities]), flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.core")
    parser.add_argument("what", choices=["decisions", "rules", "tokens", "sizes"])
    parser.add_argument("recorded", type=Path, help="a CheckRequest of Envoy's")
    parser.add_argument("repetitions", type=int)
    parser.add_argument("calls", type=int)
    parser.add_argument("tokens", type=int)
    given = parser.parse_args()
    measure = {"decisions": decisions, "rules": rules, "tokens": tokens, "sizes": sizes}[given.what]
    measure(Template(given.recorded.read_bytes()), Effort(given.repetitions, given.calls, given.tokens))


if __name__ == "__main__":
    _main()
