"""What was measured: for each section, subject and quantity one sample a repetition."""

from statistics import median
from typing import NamedTuple

Tree = dict[str, dict[str, dict[str, list[float]]]]


class Figure(NamedTuple):
    """The middle of some samples, and how far they are apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Figure":
        """:raises ValueError: of nothing."""
        return cls(median(values), min(values), max(values))


class Samples:
    """Repetition by repetition: the n-th sample of one subject was taken next to the n-th of each other."""

    def __init__(self) -> None:
        self.tree: Tree = {}

    def add(self, section: str, subject: str, **quantities: float) -> None:
        """One repetition."""
        measured = self.tree.setdefault(section, {}).setdefault(subject, {})
        for quantity, value in quantities.items():
            measured.setdefault(quantity, []).append(value)

    def values(self, section: str, subject: str, quantity: str) -> list[float]:
        """All of one kind; empty if it was not measured."""
        return self.tree.get(section, {}).get(subject, {}).get(quantity, [])

    def figure(self, section: str, subject: str, quantity: str) -> Figure | None:
        """Of all repetitions; None if it was not measured."""
        values = self.values(section, subject, quantity)
        return Figure.of(values) if values else None

    def ratio(self, section: str, quantity: str, subject: str, peer: str) -> Figure | None:
        """Subject by peer, each repetition by itself: what slows the machine slows both."""
        pairs = zip(self.values(section, subject, quantity), self.values(section, peer, quantity), strict=False)
        ratios = [one / other for one, other in pairs if other]
        return Figure.of(ratios) if ratios else None

    def difference(self, section: str, quantity: str, subject: str, peer: str) -> Figure | None:
        """Subject less peer, likewise."""
        pairs = zip(self.values(section, subject, quantity), self.values(section, peer, quantity), strict=False)
        differences = [one - other for one, other in pairs]
        return Figure.of(differences) if differences else None

    def subjects(self, section: str) -> list[str]:
        """In the order in which they were measured."""
        return list(self.tree.get(section, {}))
