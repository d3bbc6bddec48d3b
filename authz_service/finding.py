"""What a check of files finds: one shape for policy, OpenAPI description and Envoy configuration."""

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Something is open, broken or dead that should not be."""
    WARNING = "warning"
    """It works, and perhaps not as meant."""


class Finding(NamedTuple):
    """One finding. The code is stable: scripts may know it."""

    code: str
    severity: Severity
    place: str
    """Where: a key path, a rule, an operation."""
    message: str
    """What is the matter."""
    advice: str
    """What to do."""
