"""External authorization for Envoy: tokens verified here, routes decided here, identity injected here."""

__version__ = "0.1.0"
