"""Where each worker listens. Envoy opens one connection per endpoint, so a shared one would not spread the load."""

from pathlib import PurePosixPath

from authz_service.address import Address
from authz_service.config import are_in_each_others_way
from authz_service.errors import ConfigurationError

MAX_WORKERS = 64
HIGHEST_PORT = 65535


def endpoints(listen: tuple[Address, ...], admin: Address, workers: int) -> tuple[Address, ...]:
    """One address for each worker: as many as listed, or counted up from the only one.

    :param admin: where none of them can be.
    :raises ConfigurationError: when that cannot be, saying what would be right.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise ConfigurationError([f"--workers {workers}: must be from 1 to {MAX_WORKERS}; one per core is plenty"])
    addresses = tuple(_numbered(listen[0], n) for n in range(workers)) if len(listen) == 1 else listen
    problem = _problem(addresses, admin, workers)
    if problem:
        raise ConfigurationError([f"AUTHZ_LISTEN={','.join(map(str, listen))}: {problem}"])
    return addresses


def _problem(addresses: tuple[Address, ...], admin: Address, workers: int) -> str:
    if len(addresses) != workers:
        return f"{len(addresses)} addresses for --workers {workers}; list {workers}, or one to count up from"
    if not all(address.is_one_place for address in addresses):
        return "port 0 would be another one after each restart of a worker; choose one"
    if len(set(addresses)) != workers:
        return "each worker needs an address of its own"
    if any(address.port > HIGHEST_PORT for address in addresses):
        return f"port {addresses[-1].port} does not exist; begin lower for --workers {workers}"
    if any(are_in_each_others_way(address, admin) for address in addresses):
        return f"counted up for --workers {workers} it comes to AUTHZ_ADMIN_LISTEN={admin}; move one of them"
    return ""


def _numbered(first: Address, n: int) -> Address:
    """``127.0.0.1:9191`` -> ``:9192``; ``/run/authz.sock`` -> ``/run/authz-1.sock``."""
    if not first.path:
        return first._replace(port=first.port + n if first.port else 0)
    path = PurePosixPath(first.path)
    return first._replace(path=str(path.with_name(f"{path.stem}-{n}{path.suffix}")))
