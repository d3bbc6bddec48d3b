"""Settings that every test shares."""

import asyncio
import os
from collections.abc import Callable, Mapping

import uvloop
from hypothesis import HealthCheck, Phase, settings

# How long an example takes says nothing on a busy machine, so no test fails by it.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# For `make mutants`: a few examples, the same ones each time, and none made smaller, since nobody reads them.
settings.register_profile(
    "mutants", settings.get_profile("default"), max_examples=20, derandomize=True, database=None,
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that serves is the one that tests run on. TLS of asyncio's own never ends on Python 3.11.2."""
    return {"uvloop": uvloop.new_event_loop}
