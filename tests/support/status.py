"""What ``/status`` says, well-formed and as a test wants it."""

from typing import Any

NOW = 1_795_000_000.0
ISSUER = "https://auth.example.com"


def status(**changes: Any) -> dict[str, Any]:
    """All is well; ``changes`` replace what stands under the same names."""
    return {
        "version": "1.2.3", "compiled": True, "now": NOW, "up_seconds": 90_000.0, "ready": True,
        "policy": {
            "digest": "0123456789ab", "mode": "enforce", "file_in_use": True, "rules_left_out": 0,
            "rules": [rule("list-groups", allowed=1234), rule("get-group", mode="shadow", would_deny=5)],
        },
        "keys": {"age_seconds": 600.0, "keys": [{"issuer": ISSUER, "kid": "key-1", "last_used": NOW - 3}]},
        "issuers": [issuer()],
        "decisions": {
            "allowed": 1234, "denied": 7, "would_deny": 5, "reasons": {"permission_denied": 7, "role_denied": 5},
        },
        "latency": {"buckets": [[5e-6, 0], [25e-6, 1000], [100e-6, 246], [None, 0]]},
        "cache": {"entries": 12, "bytes": 40_000, "hits": 900, "misses": 100, "evictions": 0},
        "last_denials": [denial()],
        "configuration": {"AUTHZ_LISTEN": "127.0.0.1:9191", "JWKS_SNAPSHOT_PATH": ""},
        **changes,
    }  # fmt: skip


def rule(name: str, **changes: Any) -> dict[str, Any]:
    """One of ``policy.rules``."""
    return {
        "name": name, "path": "/api/groups/{group_id}", "methods": ["GET"], "public": False, "mode": "enforce",
        "enforce_percent": None, "allowed": 0, "denied": 0, "would_deny": 0, **changes,
    }  # fmt: skip


def issuer(**changes: Any) -> dict[str, Any]:
    """One of ``issuers``."""
    return {
        "issuer": ISSUER, "ready": True, "age_seconds": 600.0, "next_refresh_in_seconds": 1200.0, "last_error": None,
        **changes,
    }  # fmt: skip


def denial(**changes: Any) -> dict[str, Any]:
    """One of ``last_denials``."""
    return {
        "at": NOW - 12, "reason": "permission_denied", "rule": "list-groups", "status": 403,
        "message": "This needs the permission groups:read.", "method": "GET", "path": "/api/groups/*",
        "request_id": "8d3b-1", **changes,
    }  # fmt: skip


def comparison(**changes: Any) -> dict[str, Any]:
    """What ``comparison`` says of one rule."""
    return {
        "rule": "list-groups", "compared": 12_480, "agree": 12_477, "stricter": 3, "looser": 0, "unknown": 1,
        "reasons": {"token_expired": 3}, "ready": True, **changes,
    }  # fmt: skip
