"""
A run beside a saved one (`--json`): for every ratio a verdict. Ratios, not times: another day or machine speed cancels.

`python -m benchmarks.baseline OLD.json NEW.json [--fail-on-worse]` compares two files without running anything;
`--same` asks instead whether two runs of the same code agree, and fails when a ratio differs by more than 15 %.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NOISE = 0.05  # a change below this is none, however quiet both runs were
AGREES = 0.15  # two runs of the same code on the same machine

Figures = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Verdict:
    """One ratio in both runs. `word` is better, same or worse: beyond `NOISE`, and with no overlap of the rounds."""

    cell: str
    key: str
    old: float
    new: float
    word: str

    @property
    def distance(self) -> float:
        """How far apart the two are, whichever came first."""
        return max(self.old / self.new, self.new / self.old) - 1

    def __str__(self) -> str:
        change = f"{self.old:6.2f}x -> {self.new:5.2f}x  {self.new / self.old - 1:+.0%}"
        return f"  {self.word:6}  {self.cell:40}{self.key:14}{change}"


def compare(old: Figures, new: Figures) -> Iterator[Verdict]:
    """Every ratio that both runs have, except the base's own."""
    for cell in old.keys() & new.keys():
        for key in old[cell].keys() & new[cell].keys() - {"naive"}:
            before, after = old[cell][key], new[cell][key]
            if "ratio" in before and "ratio" in after:
                yield Verdict(cell, key, before["ratio"], after["ratio"], _word(before, after))


def _word(before: dict[str, Any], after: dict[str, Any]) -> str:
    change = after["ratio"] / before["ratio"] - 1
    if change > NOISE and after["ratio_low"] > before["ratio_high"]:
        return "worse"
    if change < -NOISE and after["ratio_high"] < before["ratio_low"]:
        return "better"
    return "same"


def verdict(old: Figures, new: Figures) -> tuple[str, bool]:
    """The comparison as text, and whether one of our own rows became worse."""
    verdicts = sorted(compare(old, new), key=lambda each: (each.cell, each.key))
    if not verdicts:
        return "nothing to compare: the two runs share no ratio", False
    changed = [str(each) for each in verdicts if each.word != "same"]
    counts = ", ".join(f"{sum(v.word == word for v in verdicts)} {word}" for word in ("better", "same", "worse"))
    largest = max(abs(each.new / each.old - 1) for each in verdicts)
    worse = any(each.word == "worse" and each.key.startswith("ours") for each in verdicts)
    return "\n".join([f"against the baseline: {counts} (largest change {largest:.0%})", *changed]), worse


def agreement(old: Figures, new: Figures) -> tuple[str, bool]:
    """Which ratios of two runs of the same code differ too much, as text, and whether none does."""
    verdicts = sorted(compare(old, new), key=lambda each: -each.distance)
    apart = [str(each) for each in verdicts if each.distance > AGREES]
    largest = f", the largest difference is {verdicts[0].distance:.0%}" if verdicts else ""
    lines = [f"{len(verdicts) - len(apart)} of {len(verdicts)} ratios agree within {AGREES:.0%}{largest}", *apart]
    return "\n".join(lines), bool(verdicts) and not apart


def main(arguments: list[str]) -> int:
    paths = [argument for argument in arguments if not argument.startswith("--")]
    runs = []
    for path in paths:
        with open(path) as file:
            runs.append(json.load(file)["figures"])
    if "--same" in arguments:
        text, agree = agreement(*runs)
        print(text)
        return int(not agree)
    text, worse = verdict(*runs)
    print(text)
    return int(worse and "--fail-on-worse" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
