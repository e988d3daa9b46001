"""
The last run as Markdown and SVG charts in `benchmarks/report/`, beside its figures, and in the README.

`python -m benchmarks.report FIGURES.json` writes all of it again from a file of `--json`. The charts have no background
and take their text colour from the reader's colour scheme.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import baseline
from benchmarks.servers import BROADCASTERS, BROWSER_MEMBERS, BROWSERS, COMPETITORS, CONVERSING, OBSERVED, Competitor

FOLDER = Path(__file__).parent / "report"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- written by python -m benchmarks.report -->", "<!-- end of what it writes -->"
BATCHING, PROMPT = "roundtrip 32x1, 80 B", "roundtrip 32x1, 80 B, each answered at once"
MAIN = {
    "roundtrip 16x16, 80 B": "16x16",
    "roundtrip 32x1, 106 B, as a browser": "32x1, browser",
    "roundtrip 16x16, 106 B, as a browser": "16x16, browser",
}
TOLD = {
    "broadcast to 500 members, 1 in flight": "500, 1 at a time",
    "broadcast to 500 members, 16 in flight": "500, 16",
    "broadcast to 1,000 members, 1 in flight": "1,000, 1 at a time",
    "broadcast to 1,000 members, 16 in flight": "1,000, 16",
    "broadcast to 500 members, 106 B, 1 in flight, as a browser": "500, browser, 1",
    "broadcast to 500 members, 106 B, 4 in flight, as a browser": "500, browser, 4",
    "broadcast to 500 members, 16 KB, 1 in flight, as a browser": "500, browser, 16 KB, 1",
}
CONVERSES = ("answer", "stream")  # how the titles of conversations begin
BROWSER = "browser"  # how the titles of what a browser gets end
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
    "per_turn": ("messages/turn of the server", "{:.1f}"),
    "sent_bytes": ("bytes in", "{:,.0f}"),
    "received_bytes": ("bytes out", "{:,.0f}"),
    "load_cpu_us": ("load CPU, us/message", "{:.1f}"),
    "kb_per_connection": ("kB/connection", "{:.1f}"),
    "silent_kb": ("before its message", "{:.1f}"),
    "handshake_cpu_us": ("handshake CPU, us", "{:.0f}"),
    "connects_per_s": ("connects/s", "{:,.0f}"),
    "per_s": ("at messages/s", "{:,.0f}"),
    "p50_us": ("p50 us", "{:,.0f}"),
    "p99_us": ("p99 us", "{:,.0f}"),
    "p99.9_us": ("p99.9 us", "{:,.0f}"),
    "max_us": ("max us", "{:,.0f}"),
    "late_us": ("load late, us", "{:,.0f}"),
    "ms": ("ms", "{:.0f}"),
    "us_per_call": ("us/call", "{:.2f}"),
    "connections": ("connections", "{:,}"),
    "idle_bytes": ("bytes each, idle", "{:,.0f}"),
    "talking_bytes": ("talking", "{:,.0f}"),
    "growth_bytes": ("growth", "{:,.0f}"),
    "bytes_per_stream": ("bytes each", "{:,.0f}"),
    "after_large_bytes": ("after 1 MiB", "{:,.0f}"),
}
UNSHOWN = {"failed", "spread_us", "load_share", "generator_limited"}


def write(run: Run, folder: Path = FOLDER) -> Path:
    """Write the figures of a run, its report and charts, and with the usual folder the README; gives the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(run, indent=1) + "\n")
    for chart in _charts(run):
        _draw(chart, run, folder)
    path = folder / "report.md"
    path.write_text(markdown(run))
    if folder.resolve() == FOLDER:
        README.write_text(with_measured(README.read_text(), run))
    return path


def markdown(run: Run) -> str:
    """report.md: every table of the run."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    parts = [
        "# The last run of the benchmarks",
        f"{run['date']}, {run['cores']} cores, {run['machine']}, Python {run['python']}, commit {run['commit'][:10]}"
        f"{', full' if run['full'] else ', quick form'}. {versions}."
        " Text frames, no compression but where a title says browser.\n\n"
        "Ratios are server CPU per message or delivery against the naive FastAPI loop of the same round; what a row"
        " validates is in its last column. A rate with * is the load generator's limit, not the server's.",
        *filter(None, [loads_agree(run), against_ourselves(run)]),
        *(f"![{chart.caption}]({chart.file})" for chart in _charts(run)),
        f"## Where socketsundso loses\n\n{lost(run)}",
        *(f"## {title[:1].upper()}{title[1:]}\n\n{_table(title, rows)}" for title, rows in run["figures"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def losses(run: Run) -> dict[str, dict[str, list[str]]]:
    """Our row -> competitor that validates and costs less -> the round trips and broadcasts where it does."""
    found: dict[str, dict[str, list[str]]] = {}
    for title, rows in run["figures"].items():
        if not title.startswith(("roundtrip", "broadcast", *CONVERSES)):
            continue
        short = title.removeprefix("roundtrip ").replace(", 80 B", "").replace(", as a ", " ").replace(", ", " ")
        competitors = _competitors(title)
        played = "browser" if title.endswith(BROWSER) else "none"  # not ourselves under another load
        ratios = [
            (competitors[key], row["ratio"])
            for key, row in rows.items()
            if "ratio" in row and competitors[key].client == played
        ]
        for ours, own_ratio in ratios:
            if not ours.ours:
                continue
            rivals = found.setdefault(ours.name, {})
            for other, ratio in ratios:
                if ratio < own_ratio and not other.ours and other.validates != "nothing":
                    rivals.setdefault(other.name, []).append(short)
    return found


def lost(run: Run, in_full: bool = True) -> str:
    """The same as text, with every row or only how many, and what else of the suite somebody does better."""
    lines = ["Servers that validate and cost less CPU than a row of ours:", ""]
    for ours, rivals in losses(run).items():
        where = {name: ", ".join(titles) if in_full else _rows(len(titles)) for name, titles in rivals.items()}
        text = ("; " if in_full else ", ").join(f"{name} ({told})" for name, told in where.items())
        lines.append(f"* {ours}: {text or 'none'}.")
    for what, rivals in (
        ("memory per idle connection", _less_memory(run["figures"])),
        ("1,000 events compiled", _compiles_faster(run["figures"])),
    ):
        if rivals:
            lines.append(f"* {what}: {', '.join(rivals)}.")
    return "\n".join(lines)


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _less_memory(figures: dict[str, dict[str, Any]]) -> list[str]:
    rows = next((rows for title, rows in figures.items() if title.startswith("idle")), {})
    competitors, name = _competitors("idle"), "kb_per_connection"
    own = rows.get("ours", {}).get(name, 0.0)
    return [
        f"{competitors[key].name} ({row[name]:.1f} kB, {own:.1f} here)"
        for key, row in rows.items()
        if row.get(name, own) < own and not competitors[key].ours
    ]


def _compiles_faster(figures: dict[str, dict[str, Any]]) -> list[str]:
    rows = figures.get("cold start", {})
    ours, union = (
        rows.get(name, {}).get("ms") for name in ("socketsundso, 1000 events", "pydantic union, 1000 models")
    )
    return [f"one pydantic union ({union:.0f} ms, {ours:.0f} here)"] if ours and union and union < ours else []


def with_measured(readme: str, run: Run) -> str:
    """The README with the figures of this run between its two comments."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{measured(run)}\n\n{END}{after}"


def measured(run: Run) -> str:
    """What the README shows of a run: the main tables, their charts, the key figures and where we lose."""
    parts = [
        "Server CPU per message, naive FastAPI loop (`receive_json`, `Model(**data)`, `send_json`) = 1;"
        f" {run['machine']}, {run['cores']} cores, Python {run['python']},"
        f" uvloop {run['versions'].get('uvloop', 'none')}, {run['date']},"
        f" no compression{_browser_columns(run)}.\n32x1: 32 connections with one message in flight each;"
        " 16x16: 16 with 16. Own protocol: `socketsundso run`.",
        "![server CPU per message](benchmarks/report/roundtrip.svg)",
        _side_by_side(run, main_titles(run)),
        *filter(None, [loads_agree(run)]),
        "The same per member for a message to all members of a room, so many members, and messages at a time:",
        "![server CPU per member of a broadcast](benchmarks/report/broadcast.svg)",
        _side_by_side(run, told_titles(run)),
        *filter(None, [against_ourselves(run)]),
        _idle(run["figures"]),
        _in_process(run["figures"]),
        *filter(None, [_conversations(run["figures"])]),
        "Where we lose; [the report](benchmarks/report/report.md#where-socketsundso-loses) names every row:\n\n"
        f"{lost(run, in_full=False)}",
    ]
    return "\n\n".join(parts)


def main_titles(run: Run) -> dict[str, str]:
    """The round trips that the README shows, and their heads; of the two loads at 32x1 the one that favours us less."""
    ours = {title: run["figures"].get(title, {}).get("ours", {}).get("ratio", 0.0) for title in (BATCHING, PROMPT)}
    first = PROMPT if ours[PROMPT] > ours[BATCHING] else BATCHING
    return {first: "32x1", **_there(run, MAIN)}


def told_titles(run: Run) -> dict[str, str]:
    """The broadcasts that the README shows."""
    return _there(run, TOLD)


def _there(run: Run, titles: dict[str, str]) -> dict[str, str]:
    return {title: head for title, head in titles.items() if title in run["figures"]}


def _browser_columns(run: Run) -> str:
    some = any(title.endswith(BROWSER) for title in run["figures"])
    return " but where a column says browser: there clients offer and compress as Chromium does" if some else ""


def loads_agree(run: Run) -> str:
    """How near two independent loads that answer each reply at once come to each other; empty without them."""
    one, other = (run["figures"].get(title) for title in (PROMPT, f"{PROMPT}, in Python"))
    if not one or not other:
        return ""
    text, _ = baseline.agreement({"32x1": one}, {"32x1": other})
    return f"32x1 under two independent loads that answer each reply at once, in C and in Python: {text}"


def against_ourselves(run: Run) -> str:
    """What a browser's offer costs us: own protocol under it against own protocol without; empty without figures."""
    lines = []
    for title, rows in run["figures"].items():
        ratio = {key: row["ratio"] for key, row in rows.items() if "ratio" in row}
        if title.endswith(BROWSER) and {"ours", "ours-plain", "ours-none"} <= ratio.keys():
            compressed, plain = (ratio[key] / ratio["ours-none"] for key in ("ours", "ours-plain"))
            lines.append(f"* {title.removesuffix(', as a browser')}: {compressed:.2f}x, {plain:.2f}x.")
    head = (
        "Own protocol under a browser's offer, against itself without one: compressed frames in, plain frames in.\n\n"
    )
    return head + "\n".join(lines) if lines else ""


def _side_by_side(run: Run, titles: dict[str, str]) -> str:
    """The ratios of some tables, the dearest of the first one at the top, ours in bold; a dash was not measured."""
    columns, heads = [run["figures"].get(title, {}) for title in titles], titles.values()
    competitors = _competitors(next(iter(titles), ""))
    lines = [f"| server | {' | '.join(heads)} | validates |", f"|---|{'---:|' * len(heads)}---|"]
    for key in sorted(columns[0] if columns else (), key=lambda key: -columns[0][key].get("ratio", 0.0)):
        each, rows = competitors[key], [column.get(key, {"failed": "-"}) for column in columns]
        name = f"**{each.name}**" if each.ours else each.name
        lines.append(f"| {name} | {' | '.join(map(_side, rows))} | {each.validates} |")
    return "\n".join(lines)


def _side(row: dict[str, Any]) -> str:
    """One ratio, and the bytes of a message to the client where they were counted."""
    if "ratio" not in row:
        return str(row.get("failed", ""))
    bytes_ = f", {row['received_bytes']:,.0f} B" if "received_bytes" in row else ""
    return f"{row['ratio']:.2f}{bytes_}"


def _idle(figures: dict[str, dict[str, Any]]) -> str:
    rows = next((rows for title, rows in figures.items() if title.startswith("idle")), {})

    def kb(key: str) -> str:
        return f"{rows[key]['kb_per_connection']:.0f} kB" if "kb_per_connection" in rows.get(key, {}) else "?"

    return (
        f"An idle connection costs {kb('ours')} on our own protocol, {kb('ours-uvicorn')} on uvicorn's, {kb('naive')}"
        f" in the naive loop.{_after_one(figures)}"
    )


def _after_one(figures: dict[str, dict[str, Any]]) -> str:
    rows = next((rows for title, rows in figures.items() if title.endswith("after one message, browser")), {})
    kb = {key: row["kb_per_connection"] for key, row in rows.items() if "kb_per_connection" in row}
    if not {"ours", "ours-uvicorn", "naive"} <= kb.keys():
        return ""
    return (
        f" A browser's that has sent one message: {kb['ours']:.0f} kB, {kb['ours-uvicorn']:.0f} kB"
        f" and {kb['naive']:.0f} kB."
    )


def _in_process(figures: dict[str, dict[str, Any]]) -> str:
    us = {
        name: row["us_per_call"]
        for title, rows in figures.items()
        if title.startswith("in process")
        for name, row in rows.items()
    }

    def times(ours: str, naive: str) -> str:
        return f"{us[naive] / us[ours]:.1f}" if ours in us and naive in us else "?"

    more = f"{us['events[1000]'] / us['events[10]'] - 1:+.0%}" if "events[1000]" in us else "?"
    return (
        "In process, without a socket: decode and dispatch of three parameters"
        f" {times('native[80]', 'native_naive[80]')} times as fast as `json.loads` and `Model(**data)` (1,000 events"
        f" instead of 10: {more}), of a pydantic model parameter {times('model', 'model_naive')} times, of a frame that"
        f" pydantic must coerce {times('slow_path', 'slow_path_naive')} times; a reply with a response model"
        f" {times('reply', 'reply_naive')} times as fast as `jsonable_encoder` and `json.dumps`."
    )


def _conversations(figures: dict[str, dict[str, Any]]) -> str:
    """What streams cost, and who could stream; empty without figures."""
    ratio = {
        (title, key): row["ratio"]
        for title, rows in figures.items()
        if title.startswith(CONVERSES)
        for key, row in rows.items()
        if "ratio" in row
    }
    item, once = "stream, per item, 16x1", "answer at once, 32x1"
    if not {(item, "ours"), (once, "ours"), (once, "ours-plain")} <= ratio.keys():
        return ""
    streams, stays = ratio[item, "ours"], ratio[once, "ours"] / ratio[once, "ours-plain"]
    return (
        f"An item of a stream costs {streams:.2f} of what it does with `async for` and `send_json` in the naive loop;"
        f" one answer of an endpoint that also streams {stays:.2f} of one that does not."
    )


def _competitors(title: str) -> dict[str, Competitor]:
    """Those of a table, by their keys."""
    if title.startswith(CONVERSES):
        return {each.key: each for each in CONVERSING}
    if title.startswith("telemetry"):
        return {each.key: each for each in OBSERVED}
    broadcast = title.startswith("broadcast")
    if title.endswith(BROWSER):
        return {each.key: each for each in (BROWSER_MEMBERS if broadcast else BROWSERS)}
    return {each.key: each for each in (BROADCASTERS if broadcast else COMPETITORS)}


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


@dataclass(frozen=True)
class Chart:
    """Panels of horizontal bars: their tables, and the column they show."""

    caption: str
    file: str
    titles: list[str]
    column: str
    form: str


def _charts(run: Run) -> list[Chart]:
    """Those of which the run has a figure."""
    idle = [title for title in run["figures"] if title.startswith("idle")]
    charts = [
        Chart(
            "server CPU per message, naive FastAPI loop = 1", "roundtrip.svg", list(main_titles(run)), "ratio", "{:.2f}"
        ),
        Chart(
            "server CPU per member, naive FastAPI loop = 1", "broadcast.svg", list(told_titles(run)), "ratio", "{:.2f}"
        ),
        Chart("kB of resident memory per idle connection", "memory.svg", idle, "kb_per_connection", "{:.1f}"),
    ]
    return [
        chart for chart in charts if chart.titles and all(_bars(run, title, chart.column) for title in chart.titles)
    ]


def _bars(run: Run, title: str, column: str) -> list[tuple[str, float, str]]:
    competitors = _competitors(title)
    found = [(competitors[key], row[column]) for key, row in run["figures"].get(title, {}).items() if column in row]
    return [
        (each.name, value, OURS if each.ours else CEILING if each.ceiling else OTHERS)
        for each, value in sorted(found, key=lambda pair: pair[1], reverse=True)
    ]


def _draw(chart: Chart, run: Run, folder: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context({**colours, "svg.hashsalt": "socketsundso", "font.size": 10}):
        panels = [(title, _bars(run, title, chart.column)) for title in chart.titles]
        across = min(2, len(panels))
        down = -(-len(panels) // across)
        height = 0.9 + 0.27 * max(len(bars) for _, bars in panels)
        figure = Figure(figsize=(6.4 * across, height * down), layout="constrained")
        places = figure.subplots(down, across, squeeze=False).flat
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, bars) in zip(places, panels, strict=False):
            names, values, fills = zip(*bars, strict=True)
            drawn = axes.barh(names, values, color=fills, height=0.72)
            axes.bar_label(drawn, [chart.form.format(value) for value in values], padding=3, color=INK)
            axes.set_title(title, color=INK, fontsize=11)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_xticks([])
            axes.margins(x=0.12, y=0.01)
        figure.supxlabel(
            f"{chart.caption} (shorter is better)\nblue: socketsundso; sand: ceilings that validate nothing",
            fontsize=9,
            color=INK,
        )
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    (folder / chart.file).write_text(_recoloured(text.getvalue()))


def _recoloured(svg: str) -> str:
    head, opening, rest = svg.partition("<svg")
    attributes, close, body = rest.partition(">")
    lines = "\n".join(line.rstrip() for line in body.replace(INK, "currentColor").splitlines())
    return f"{head}{opening}{attributes}{close}\n{STYLE}{lines}\n"


if __name__ == "__main__":
    with open(sys.argv[1]) as figures:
        print(write(json.load(figures)))
