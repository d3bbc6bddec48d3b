"""One target under libFuzzer: ``python -m tests.fuzz TARGET [options of libFuzzer, directories, inputs to repeat]``."""

import sys
from importlib import import_module

import atheris


def main() -> None:
    """Ends with the process: 0 when the time is over, otherwise with libFuzzer's code for what it found."""
    program, name, *arguments = sys.argv
    with atheris.instrument_imports(include=["authz_service"]):
        target = import_module(f"tests.fuzz.targets.{name}")

    def one_input(data: bytes) -> None:
        target.fuzz(data)

    atheris.Setup([program, f"-max_len={target.MAX_LENGTH}", *arguments], one_input)
    atheris.Fuzz()


main()
