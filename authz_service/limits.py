"""The sizes of the configuration, as decisions want them: the same for the service and for whoever explains it."""

from authz_service.authorizer import Limits
from authz_service.config import Config


def limits(config: Config) -> Limits:
    """What the configuration says about sizes and forwarding."""
    return Limits(
        max_token_bytes=config.max_token_bytes, max_injected_bytes=config.max_injected_bytes,
        forward_authorization=config.forward_authorization, cache_entries=config.token_cache_entries,
        cache_bytes=config.token_cache_bytes,
    )  # fmt: skip
