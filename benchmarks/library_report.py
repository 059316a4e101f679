"""The table and the plot of `benchmarks/library.py`."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

#: (candidate, "sync" or "asyncio", at a time) -> milliseconds of each run, runs a second a round.
Results: TypeAlias = dict[tuple[str, str, int], tuple[list[float], list[float]]]
_OURS = "pyrunc.run"
_BEGIN, _END = "<!-- library: make bench-library -->\n", "<!-- library ends -->\n"


def table(results: Results, at_a_time: Sequence[int]) -> str:
    """Return medians, rates, and how much longer each takes than `pyrunc.run`."""
    head = ["", "called by"]
    head += [f"{n} at a time: ms" if n == 1 else f"{n}: a second" for n in at_a_time]
    head += [f"{n}: to {_OURS}" for n in at_a_time]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    rows = dict.fromkeys((name, how) for name, how, _ in results)
    for name, how in rows:
        cells = [f"`{name}`" if name.startswith("pyrunc") else name, how]
        ratios = []
        for number in at_a_time:
            if (name, how, number) not in results:
                cells.append("")
                ratios.append("")
                continue
            times, rates = results[name, how, number]
            ours = results.get((_OURS, how, number), ((), ()))
            if number == 1:
                cells.append(f"{statistics.median(times):.2f} ± {_spread(times):.2f}")
                ratio = statistics.median(times) / statistics.median(ours[0]) if ours[0] else None
            else:
                cells.append(f"{statistics.median(rates):.0f}")
                ratio = statistics.median(ours[1]) / statistics.median(rates) if ours[1] else None
            ratios.append("" if ratio is None else f"{ratio:.2f}")
        lines.append("| " + " | ".join([*cells, *ratios]) + " |")
    return "\n".join(lines) + "\n"


def _spread(times: list[float]) -> float:
    """Return half the interquartile range."""
    ordered = sorted(times)
    return (ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4]) / 2


def plot(results: Results) -> str:
    """Return two bar charts as SVG: the median of one run, and runs a second with 8 at a time."""
    names = [name for name, how, number in results if (how, number) == ("sync", 1)]
    charts = [
        ("one run of `true` from Python, ms (shorter is faster)", 1),
        ("runs a second, 8 at a time (longer is faster)", 8),
    ]
    row, top = 20, 30
    height = len(charts) * (top + 14 + row * len(names)) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for chart, (title, number) in enumerate(charts):
        start = chart * (top + 14 + row * len(names))
        parts.append(f'<text x="10" y="{start + 20}" font-size="14">{title}</text>')
        values = {
            n: statistics.median(results[n, "sync", number][number > 1])
            for n in names
            if (n, "sync", number) in results
        }
        for index, (name, value) in enumerate(values.items()):
            y = start + top + row * index
            width = 500 * value / max(values.values())
            colour = "#3572a5" if name.startswith("pyrunc") else "#aaaaaa"
            shown = f"{value:.1f}" if number == 1 else f"{value:.0f}"
            parts.append(
                f'<text x="10" y="{y + 12}">{name}</text>'
                f'<rect x="150" y="{y}" width="{width:.0f}" height="15" fill="{colour}"/>'
                f'<text x="{156 + width:.0f}" y="{y + 12}">{shown}</text>'
            )
    return "\n".join(parts) + "\n</svg>\n"


def insert(page: Path, text: str) -> None:
    """Replace what an earlier run has put into a page."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    plot = "![The same as a plot](performance-library.svg)"
    page.write_text(f"{before}{_BEGIN}\n{text}\n{plot}\n\n{_END}{after}")


def memory_of_engines() -> int:
    """Return what this program's engines and their keepers weigh, in KiB (PSS)."""
    total = 0
    mine = str(os.getpid()).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if not any(b"pyrunc.engine" in word for word in words) or words[-2] != mine:
                continue
            lines = (entry / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
