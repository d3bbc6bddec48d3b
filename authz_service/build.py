"""How this copy of the service was built, see ``hatch_build.py``."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

COMPILED = any(Path(__file__).with_name(f"authorizer{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)
"""Whether what a request goes through is native code; if not, the same code runs as plain Python."""
