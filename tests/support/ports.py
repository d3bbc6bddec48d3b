"""Ports for tests: none is fixed."""

from demo.ports import free_port

__all__ = ["free_port"]
