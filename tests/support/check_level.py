"""The Check level: ``bytes -> bytes`` with the real rooms behind it; only the keys are fixed and the clock stands."""

from collections.abc import Callable, Iterable

from authz_service.authorizer import Authorizer
from authz_service.keys.jwk import parse_key_set
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.token.claims import ClaimRules
from authz_service.token.verifier import TokenVerifier
from authz_service.transport.check import encode_identity
from authz_service.transport.check_service import CheckService, Trace, Witness
from authz_service.ways import LocalWay
from tests.support.check_requests import Answer, read_answer
from tests.support.limits import LIMITS
from tests.support.static_keys import StaticKeys
from tests.support.tokens import AUDIENCE, ISSUER, NOW, SigningKey, jwks, signing_key

ALGORITHMS = frozenset({"RS256"})


class FixedKeys(StaticKeys):
    """A key source that never changes, and that remembers who asked for a refresh."""

    def __init__(self, *keys: SigningKey) -> None:
        super().__init__(parse_key_set(jwks(*keys), ALGORITHMS).keys)
        self.refreshes: list[tuple[str, str]] = []

    async def refresh_for_unknown_kid(self, issuer: str, kid: str) -> None:
        """See :class:`authz_service.ways.KeyRefresher`."""
        self.refreshes.append((issuer, kid))


class Checks:
    """A service of one policy, at ``NOW``.

    :param keys: whom it trusts; ``signing_key()`` if nobody is named.
    """

    def __init__(
        self, policy: str, keys: FixedKeys | None = None, *, max_token_bytes: int = LIMITS.max_token_bytes,
        witnesses: Iterable[Witness] = (), denial_witnesses: Iterable[Witness] = (), trace: Trace | None = None,
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        self.keys = keys or FixedKeys(signing_key())
        self.metrics = Metrics()
        rules = {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)}
        verifier = TokenVerifier(self.keys, rules, ALGORITHMS)
        limits = LIMITS._replace(max_token_bytes=max_token_bytes)
        authorizer = Authorizer(parse_policy(policy), verifier, limits, lambda: NOW, encode_identity)
        self.service = CheckService(
            LocalWay(authorizer, self.keys), self.metrics, timer=timer, witnesses=witnesses,
            denial_witnesses=denial_witnesses, trace=trace,
        )  # fmt: skip

    def check(self, message: bytes) -> Answer:
        """What Envoy reads in the answer to a Check that needs no refresh."""
        answer = self.service.check(message)
        assert isinstance(answer, bytes), "it waits for a refresh"
        return read_answer(answer)

    async def check_patiently(self, message: bytes) -> Answer:
        """What Envoy reads, after a refresh if one is asked for."""
        answer = self.service.check(message)
        return read_answer(answer if isinstance(answer, bytes) else await answer)
