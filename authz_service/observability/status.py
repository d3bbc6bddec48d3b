"""What ``/status`` says of any process that fetches keys and watches the policy, alone or for its workers."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric

from authz_service import __version__
from authz_service.build import COMPILED
from authz_service.config import Config
from authz_service.http_url import shown
from authz_service.keys.rings import KeyRings, Ring
from authz_service.observability.figures import Figures
from authz_service.policy.loader import Policy


class Status:
    """Free of secrets, and of what clients sent but for a method and a request id; see :class:`.LastDenials`.

    :param clock: Unix seconds, for people.
    :param monotonic: seconds.
    """

    def __init__(
        self, config: Config, keys: KeyRings, *, clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._configuration = configuration(config)
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._started = monotonic()

    def tell(
        self, *, ready: bool, policy: Policy, families: Iterable[Metric], denials: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """All of it."""
        figures, keys = Figures(families), self._keys
        return {
            "version": __version__,
            "compiled": COMPILED,
            "now": self._clock(),
            "up_seconds": self._monotonic() - self._started,
            "ready": ready,
            "policy": _policy_status(policy, figures),
            "keys": {"age_seconds": keys.age_seconds, "keys": [key for ring in keys for key in _key_status(ring)]},
            "issuers": [_issuer_status(ring) for ring in keys],
            "decisions": figures.decisions(),
            "latency": figures.latency(),
            "cache": figures.cache(),
            "last_denials": denials,
            "configuration": self._configuration,
        }


def configuration(config: Config) -> dict[str, str]:
    """What each environment variable has come to. A URL is shown without its query, which may hold a key."""
    return {str(field.alias): _shown(getattr(config, name)) for name, field in type(config).model_fields.items()}


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return ", ".join(map(_shown, value))
    text = str(value)
    return shown(text) if text.startswith(("http://", "https://")) else text


def _policy_status(policy: Policy, figures: Figures) -> dict[str, Any]:
    rules = figures.rules(policy)
    return {
        "digest": policy.digest,
        "mode": policy.default_mode,
        "file_in_use": figures.value("authz_policy_file_in_use") != 0,
        "rules": rules,
        "rules_left_out": len(policy.routes.rules) - len(rules),
    }


def _key_status(ring: Ring) -> Iterator[dict[str, Any]]:
    for kid in sorted(ring.kids):
        yield {"issuer": ring.issuer, "kid": kid, "last_used": ring.last_used(kid)}


def _issuer_status(ring: Ring) -> dict[str, Any]:
    error = ring.last_error
    return {
        "issuer": ring.issuer,
        "ready": ring.ready,
        "age_seconds": ring.age_seconds,
        "next_refresh_in_seconds": ring.next_refresh_in,
        "last_error": {"cause": error.cause, "message": str(error)} if error else None,
    }
