"""What ``/status`` shows of where the migration stands."""

from typing import Any

from authz_service.config import Config


def migration_status(config: Config) -> dict[str, Any]:
    """Which way decides."""
    return {"way": "local" if config.use_oauth2_auth else "auth_api"}
