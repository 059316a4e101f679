"""The table and the plot."""

from __future__ import annotations

import statistics

from measure import Bench

#: pyrunc with its snapshot switched off.
ORDINARY = "pyrunc without snapshot"
_COLOURS = {"pyrunc": "#3572a5", ORDINARY: "#9fbfdc", "runc": "#00add8", "crun": "#888888"}


def table(bench: Bench) -> str:
    """Return the results as a Markdown table."""
    names = [r.name for r in bench.runtimes]
    others = [n for n in names if n != "pyrunc"]
    head = ["case", *names, *(f"pyrunc / {n}" for n in others)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for title, series in bench.results.items():
        row = [title]
        medians = {n: statistics.median(series[n]) for n in names if series.get(n)}
        for name in names:
            if name not in medians:
                row.append("")
                continue
            quartiles = sorted(series[name])
            spread = quartiles[len(quartiles) * 3 // 4] - quartiles[len(quartiles) // 4]
            row.append(f"{medians[name]:.1f} ± {spread / 2:.1f}")
        for other in others:
            ratio = medians["pyrunc"] / medians[other] if medians.get(other) else None
            row.append(f"{ratio:.2f}" if ratio is not None else "")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def plot(bench: Bench) -> str:
    """Return a bar chart of the medians as SVG, relative to runc."""
    titles = [t for t, s in bench.results.items() if len(s) > 1 and "KiB" not in t]
    height = 40 + 70 * len(titles)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        '<text x="10" y="20" font-size="14">time relative to runc (shorter is faster)</text>'
    ]
    for row, title in enumerate(titles):
        top = 36 + 70 * row
        medians = {n: statistics.median(v) for n, v in bench.results[title].items()}
        base = medians.get("runc") or max(medians.values())
        parts.append(f'<text x="10" y="{top + 14}">{title}</text>')
        for index, (name, value) in enumerate(medians.items()):
            width = min(420, 210 * value / base)
            y = top + 2 + 15 * index
            parts.append(
                f'<rect x="330" y="{y}" width="{width:.0f}" height="12" fill="{_COLOURS[name]}"/>'
                f'<text x="{336 + width:.0f}" y="{y + 10}">{name} {value:.1f} ms</text>'
            )
    return "\n".join(parts) + "\n</svg>\n"
