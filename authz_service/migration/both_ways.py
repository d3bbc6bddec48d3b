"""The way that decides and, if requests are to be compared, the other one behind it."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from authz_service.authorizer import Authorizer
from authz_service.caller import Encode
from authz_service.config import Config
from authz_service.issuers import TrustedIssuer
from authz_service.keys.rings import KeyRings
from authz_service.limits import limits
from authz_service.migration.asking import AskedApi, AskingWay
from authz_service.migration.compare import Comparison, Disagreed, changed_rules
from authz_service.migration.figures import AuthApiFigures, ComparisonFigures
from authz_service.observability.metrics import Metrics, TimedVerifier
from authz_service.policy.loader import Policy
from authz_service.token.verifier import TokenVerifier
from authz_service.ways import LocalWay, Way


class BothWays:
    """Holds them to one policy. The Auth-API is there only if the configuration has it asked.

    :param encode: as of :class:`.Authorizer`.
    :param disagreed: as of :class:`.Comparison`.
    """

    def __init__(
        self, config: Config, policy: Policy, keys: KeyRings, metrics: Metrics, encode: Encode,
        *, disagreed: Disagreed | None = None,
    ) -> None:  # fmt: skip
        local, sizes = config.use_oauth2_auth, limits(config)
        self._verifier = TokenVerifier(keys, {}, frozenset(config.algorithms))
        # What only compares is not counted, and remembers nothing.
        verifier = TimedVerifier(self._verifier, metrics, time.perf_counter) if local else self._verifier
        kept = sizes if local else sizes._replace(cache_bytes=0)
        self._ways: list[Way] = [LocalWay(Authorizer(policy, verifier, kept, time.time, encode), keys)]
        self._auth_api = _auth_api(config, metrics) if config.asks_auth_api else None
        if self._auth_api is not None:
            self._ways.append(AskingWay(policy, sizes, time.time, encode, self._auth_api))
        if not local:
            self._ways.reverse()
        self._figures = ComparisonFigures()
        self._comparison: Comparison | None = None
        if config.compare_sample:
            metrics.watch(self._figures.families)
            self._comparison = Comparison(
                self._ways[1], other_is_local=not local, sample=config.compare_sample, observer=self._figures,
                disagreed=disagreed,
            )  # fmt: skip

    @property
    def deciding(self) -> Way:
        """The one whose decisions count."""
        return self._ways[0]

    @property
    def witnesses(self) -> tuple[Comparison, ...]:
        """Who wants to see each decision."""
        return () if self._comparison is None else (self._comparison,)

    def use(self, policy: Policy, issuers: Iterable[TrustedIssuer]) -> None:
        """Trust these issuers and go by these rules, whichever way, from the next request on."""
        self._figures.forget(changed_rules(self.deciding.authorizer.policy, policy))
        self._verifier.use({issuer.issuer: issuer.rules for issuer in issuers})
        for way in self._ways:
            way.authorizer.use_policy(policy)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Ready to decide and compare, until the end of the block."""
        if self._auth_api is not None:
            await self._auth_api.start()
        if self._comparison is not None:
            self._comparison.start()
        try:
            yield
        finally:
            if self._comparison is not None:
                await self._comparison.stop()
            if self._auth_api is not None:
                await self._auth_api.stop()


def _auth_api(config: Config, metrics: Metrics) -> AskedApi:
    from authz_service.migration.auth_api import AuthApi  # noqa: PLC0415 - an HTTP client, which others do without

    figures = AuthApiFigures(None if config.use_oauth2_auth else metrics.validation_seconds)
    metrics.watch(figures.families)
    return AuthApi(config.permissions_url, config.issuer, config.auth_api_timeout_seconds, figures)
