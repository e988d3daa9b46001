"""
The last run as Markdown and SVG charts in `benchmarks/report/`.

`python -m benchmarks.report FIGURES.json` writes it again from a file of `--json`. The charts have no background and
take their text colour from the reader's colour scheme.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.servers import BROADCASTERS, COMPETITORS, Competitor

FOLDER = Path(__file__).parent / "report"
INK = "#010203"  # stands for the reader's text colour, see `_recoloured`
OURS, OTHERS, CEILING = "#2f81f7", "#8b949e", "#c4a15a"
STYLE = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"

Run = dict[str, Any]
UNITS = {
    "cpu_us": ("server CPU, us/message", "{:.1f}"),
    "cpu_us_per_delivery": ("server CPU, us/delivery", "{:.2f}"),
    "ratio": ("ratio to naive", "{:.2f}"),
    "ratio_low": ("lowest", "{:.2f}"),
    "ratio_high": ("highest", "{:.2f}"),
    "messages_per_s": ("messages/s", "{:,.0f}"),
    "load_cpu_us": ("load CPU, us/message", "{:.1f}"),
    "kb_per_connection": ("kB/connection", "{:.1f}"),
    "handshake_cpu_us": ("handshake CPU, us", "{:.0f}"),
    "connects_per_s": ("connects/s", "{:,.0f}"),
    "per_s": ("at messages/s", "{:,.0f}"),
    "p50_us": ("p50 us", "{:,.0f}"),
    "p99_us": ("p99 us", "{:,.0f}"),
    "p99.9_us": ("p99.9 us", "{:,.0f}"),
    "max_us": ("max us", "{:,.0f}"),
    "late_us": ("load late, us", "{:,.0f}"),
    "ms": ("ms", "{:.0f}"),
    "connections": ("connections", "{:,}"),
    "idle_bytes": ("bytes each, idle", "{:,.0f}"),
    "talking_bytes": ("talking", "{:,.0f}"),
    "growth_bytes": ("growth", "{:,.0f}"),
    "after_large_bytes": ("after 1 MiB", "{:,.0f}"),
}
UNSHOWN = {"failed", "spread_us", "load_share", "generator_limited"}


def write(run: Run, folder: Path = FOLDER) -> Path:
    """Write report.md and the charts of a run; gives the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = [chart for chart in (_roundtrip_chart(run, folder), _memory_chart(run, folder)) if chart]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    parts = [
        "# The last run of the benchmarks",
        f"{run['date']}, {run['cores']} cores, {run['machine']}, Python {run['python']}, commit {run['commit'][:10]}"
        f"{', full' if run['full'] else ', quick form'}. {versions}. Text frames, no compression.\n\n"
        "Ratios are server CPU per message against the naive FastAPI loop of the same round; what a row validates is"
        " in its last column. A rate with * is the load generator's limit, not the server's.",
        *(f"![{alt}]({name})" for alt, name in charts),
        *(f"## {title[:1].upper()}{title[1:]}\n\n{_table(title, rows)}" for title, rows in run["figures"].items()),
    ]
    path = folder / "report.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def _competitors(title: str) -> dict[str, Competitor]:
    """Those of a table, by their keys."""
    return {each.key: each for each in (BROADCASTERS if title.startswith("broadcast") else COMPETITORS)}


def _table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    known_rows = _competitors(title)
    given = dict.fromkeys(name for row in rows.values() for name in row)
    known = [name for name in UNITS if name in given]
    own = [name for name in given if name not in UNITS and name not in UNSHOWN]
    columns = [*known, *own]
    heads = [*(UNITS[name][0] for name in known), *map(str, own)]
    lines = ["| | " + " | ".join(heads) + " | validates |"]
    lines.append("|---|" + "---:|" * len(columns) + "---|")
    for key, row in rows.items():
        competitor = known_rows.get(key)
        cells = [str(row["failed"]), *[""] * (len(columns) - 1)] if "failed" in row else [
            _cell(name, row) for name in columns
        ]  # fmt: skip
        name, validates = (competitor.name, competitor.validates) if competitor else (key, "")
        lines.append(f"| {name} | {' | '.join(cells)} | {validates} |")
    return "\n".join(lines)


def _cell(name: str, row: dict[str, Any]) -> str:
    if name not in row:
        return ""
    star = "*" if name == "messages_per_s" and row.get("generator_limited") else ""
    return UNITS.get(name, ("", "{:.2f}"))[1].format(row[name]) + star


def _roundtrip_chart(run: Run, folder: Path) -> tuple[str, str] | None:
    titles = [title for title in ("roundtrip 32x1, 80 B", "roundtrip 16x16, 80 B") if title in run["figures"]]
    bars = [(title, _bars(title, run["figures"][title], "ratio")) for title in titles]
    if not bars:
        return None
    return _chart(
        bars, "server CPU per message, naive FastAPI loop = 1 (shorter is better)", folder / "roundtrip.svg", "{:.2f}"
    )


def _memory_chart(run: Run, folder: Path) -> tuple[str, str] | None:
    bars = [
        (f"{title} connections", _bars(title, rows, "kb_per_connection"))
        for title, rows in run["figures"].items()
        if title.startswith("idle")
    ]
    if not bars:
        return None
    return _chart(
        bars, "kB of resident memory per idle connection (shorter is better)", folder / "memory.svg", "{:.1f}"
    )


def _bars(title: str, rows: dict[str, dict[str, Any]], name: str) -> list[tuple[str, float, str]]:
    competitors = _competitors(title)
    found = [(competitors[key], row[name]) for key, row in rows.items() if name in row]
    return [
        (each.name, value, OURS if each.ours else CEILING if each.ceiling else OTHERS)
        for each, value in sorted(found, key=lambda pair: pair[1], reverse=True)
    ]


def _chart(
    panels: list[tuple[str, list[tuple[str, float, str]]]], caption: str, path: Path, form: str
) -> tuple[str, str]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context({**colours, "svg.hashsalt": "socketsundso", "font.size": 10}):
        height = 0.9 + 0.27 * max(len(bars) for _, bars in panels)
        figure = Figure(figsize=(6.4 * len(panels), height), layout="constrained")
        for axes, (title, bars) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            names, values, fills = zip(*bars, strict=True)
            drawn = axes.barh(names, values, color=fills, height=0.72)
            axes.bar_label(drawn, [form.format(value) for value in values], padding=3, color=INK)
            axes.set_title(title, color=INK, fontsize=11)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_xticks([])
            axes.margins(x=0.12, y=0.01)
        figure.supxlabel(
            f"{caption}\nblue: socketsundso; sand: ceilings, echoes that validate nothing", fontsize=9, color=INK
        )
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    path.write_text(_recoloured(text.getvalue()))
    return caption, path.name


def _recoloured(svg: str) -> str:
    head, opening, rest = svg.partition("<svg")
    attributes, close, body = rest.partition(">")
    lines = "\n".join(line.rstrip() for line in body.replace(INK, "currentColor").splitlines())
    return f"{head}{opening}{attributes}{close}\n{STYLE}{lines}\n"


if __name__ == "__main__":
    with open(sys.argv[1]) as figures:
        print(write(json.load(figures)))
