"""Every seed, and every input that was once a finding, through its target, without the fuzzer."""

from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("[!_]*.py"))
SEEDS = sorted(path for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.parent.name}/{seed.name}")
def test_a_seed_is_borne_and_accepted_only_if_its_name_begins_with_good(seed: Path) -> None:
    target = import_module(f"tests.fuzz.targets.{seed.parent.name}")
    assert target.fuzz(seed.read_bytes()) is seed.name.startswith("good")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_words_and_seeds_of_both_kinds(target: str) -> None:
    names = [seed.name for seed in SEEDS if seed.parent.name == target]
    assert {name.startswith("good") for name in names} == {True, False}
    assert (HERE / "words" / target).stat().st_size


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.parent.name}/{seed.name}")
def test_a_seed_is_not_cut_by_the_fuzzer(seed: Path) -> None:
    assert seed.stat().st_size <= import_module(f"tests.fuzz.targets.{seed.parent.name}").MAX_LENGTH


def test_the_corpus_stays_small() -> None:
    assert sum(seed.stat().st_size for seed in SEEDS) < 200_000
