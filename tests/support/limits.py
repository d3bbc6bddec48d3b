"""The limits of a service that nobody configured."""

from authz_service.config import load_config
from authz_service.limits import limits

LIMITS = limits(load_config({}))
