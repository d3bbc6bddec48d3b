"""The Envoy configurations of the overlays: ``envoy/envoy.yaml`` at other addresses."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from authz_service.lint.envoy import lint_envoy
from demo.envoy_bootstrap import load
from tools.manifests import DERIVED, Bootstrap, lay_out, main

SOURCE = load()


def parts(bootstrap: Bootstrap) -> tuple[Any, Any, Any]:
    (listener,) = bootstrap["static_resources"]["listeners"]
    authz, chat_api = bootstrap["static_resources"]["clusters"]
    return listener, authz, chat_api


def endpoint(cluster: dict[str, Any]) -> Any:
    ((found,),) = (locality["lb_endpoints"] for locality in cluster["load_assignment"]["endpoints"])
    return found["endpoint"]["address"]


@pytest.mark.parametrize("overlay", DERIVED)
def test_addresses_differ_and_how_they_are_found_and_nothing_else(overlay: str) -> None:
    derived = DERIVED[overlay](SOURCE)

    for ours, theirs in zip(parts(derived), parts(SOURCE), strict=True):
        ours |= {key: theirs[key] for key in ("address", "load_assignment", "type") if key in theirs}
    assert derived == SOURCE


@pytest.mark.parametrize("overlay", DERIVED)
def test_the_source_stays_as_it_is(overlay: str) -> None:
    before = deepcopy(SOURCE)
    DERIVED[overlay](SOURCE)
    assert before == SOURCE


@pytest.mark.parametrize("overlay", DERIVED)
def test_the_lock_is_whole(overlay: str) -> None:
    assert lint_envoy(DERIVED[overlay](SOURCE)) == []


@pytest.mark.parametrize("overlay", DERIVED)
def test_the_port_that_can_open_the_lock_stays_on_loopback(overlay: str) -> None:
    admin = DERIVED[overlay](SOURCE)["admin"]["address"]["socket_address"]
    assert (admin["address"], admin["port_value"]) == ("127.0.0.1", 9901)


def test_in_one_pod_authz_service_is_a_socket_and_chat_api_loopback() -> None:
    _, authz, chat_api = parts(DERIVED["sidecar"](SOURCE))

    assert endpoint(authz) == {"pipe": {"path": "/run/authz/authz.sock"}}
    assert endpoint(chat_api)["socket_address"]["address"] == "127.0.0.1"


def test_at_the_gateway_both_are_found_by_name() -> None:
    _, *clusters = parts(DERIVED["gateway"](SOURCE))

    assert [cluster["type"] for cluster in clusters] == ["STRICT_DNS", "STRICT_DNS"]


def test_a_policy_with_mistakes_is_laid_out_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules: [{name: open}]\n", encoding="utf-8")

    assert main(["--policy", str(policy)]) == 2
    assert str(policy) in capsys.readouterr().err


def test_what_an_earlier_run_left_is_gone(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sidecar").mkdir(parents=True)
    (tree / "sidecar" / "stale.yaml").touch()
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules: [{name: health, match: {path: /healthz}, public: true}]\n", encoding="utf-8")

    lay_out(tree, policy)

    assert not (tree / "sidecar" / "stale.yaml").exists()
    assert (tree / "base" / "generated" / "policy.yaml").read_bytes() == policy.read_bytes()
