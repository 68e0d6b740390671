"""The plots of the page, as SVG that is the same for the same figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import connections, sizes
from bench.measured import Measured, middle
from bench.overload import KINDS, NORMAL_SECONDS
from bench.rounds import restored
from bench.tables import ratio, stage_title

try:
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator
except ImportError:  # the extra `bench` is not installed
    matplotlib = None  # type: ignore[assignment]

STYLE = {
    "svg.hashsalt": "stockledger",
    "svg.fonttype": "path",
    "font.size": 11,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
WIDTH, HEIGHT = 9.5, 4.2  # inches; a README shows about 900 points
COLORS = {"http": "#1b6ca8", "sql": "#d1602b", "sql1": "#e0a030", "lib": "#777777"}
ANSWERS = (("answered", "answered", "#1b6ca8"), ("shed", "shed with 503", "#e0a030"), ("errors", "errors", "#c02020"))


def is_there() -> bool:
    """Whether anything can be drawn."""
    return matplotlib is not None


def draw(sections: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Draw what the sections have; returns the paths of each section's plots, from the folder above.

    Without matplotlib the plots that are there stay, and none is told to belong to these figures.
    """
    if not is_there():
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, list[str]] = {}
    with matplotlib.rc_context(STYLE):
        for name, pictures in PICTURES.items():
            for title, picture in pictures.items() if name in sections else ():
                figure = picture(sections[name]["data"])
                figure.savefig(folder / f"{title}.svg", metadata={"Date": None}, bbox_inches="tight")
                pyplot.close(figure)
                drawn.setdefault(name, []).append(f"{folder.name}/{title}.svg")
    return drawn


def plain(value: float, _: Any = None) -> str:
    """A number on an axis: 0.5, 20, 3k, 10M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def logarithmic(axis: Any, ticks: list[float] | None = None) -> None:
    """Make one axis (axes.xaxis or axes.yaxis) logarithmic, with plain numbers on it."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    if ticks:
        axis.set_ticks(ticks)
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())


def connection_points(data: dict[str, Any], place: str, series: str) -> list[tuple[int, Measured]]:
    found = [p for p in data["points"] if (p["place"], p["series"]) == (place, series)]
    return sorted(((p["connections"], middle(restored(p["rounds"]))) for p in found), key=lambda point: point[0])


def rate_by_connections(data: dict[str, Any]) -> Any:
    figure, panels = pyplot.subplots(1, 2, figsize=(WIDTH, HEIGHT), sharey=True)
    for axes, (place, (where, _)) in zip(panels, connections.PLACES.items(), strict=True):
        for series, title in connections.SERIES.items():
            points = [(count, got.rate) for count, got in connection_points(data, place, series) if got.rate]
            axes.plot(*columns(points), marker="o", color=COLORS[series], label=title)
        across_connections(axes, data, f"add, {where}")
    panels[0].set_ylabel("commands a second")
    logarithmic(panels[0].yaxis)
    return below(figure, panels[0])


def latency_by_connections(data: dict[str, Any]) -> Any:
    figure, panels = pyplot.subplots(1, 2, figsize=(WIDTH, HEIGHT), sharey=True)
    for axes, (place, (where, _)) in zip(panels, connections.PLACES.items(), strict=True):
        for series, title in connections.SERIES.items():
            points = connection_points(data, place, series)
            half = [(count, got.p50_ms) for count, got in points if got.p50_ms]
            worst = [(count, got.p99_ms) for count, got in points if got.p99_ms]
            axes.plot(*columns(half), marker="o", color=COLORS[series], label=f"{title}, p50")
            axes.plot(*columns(worst), marker="o", linestyle=":", color=COLORS[series], label="p99")
        across_connections(axes, data, f"add, {where}")
    panels[0].set_ylabel("latency, ms")
    logarithmic(panels[0].yaxis)
    return below(figure, panels[0])


def across_connections(axes: Any, data: dict[str, Any], title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("connections")
    logarithmic(axes.xaxis, sorted({point["connections"] for point in data["points"]}))


def grown(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages that differ in size only."""
    return [stage for stage in data["stages"] if not stage["holds"]]


def by_size(data: dict[str, Any], value: Callable[[Measured], float]) -> list[tuple[str, str, str, list[Any]]]:
    """Place, series, title and points of the adds that all three were asked for."""
    found = []
    for place, (where, _) in connections.PLACES.items():
        ours = [(s["events"], s["calls"].get(f"add-{place}", {}).get("long")) for s in grown(data)]
        found.append((place, "http", f"service, {where}", ours))
        for series in ("sql", "lib"):
            beside = [(s["events"], s["beside"].get(f"{series}-add-{place}")) for s in grown(data)]
            found.append((place, series, connections.SERIES[series], beside))
    return [
        (place, series, title, [(n, v) for n, each in points if each and (v := value(middle(restored(each))))])
        for place, series, title, points in found
    ]


def rate_by_size(data: dict[str, Any]) -> Any:
    figure, panels = pyplot.subplots(1, 2, figsize=(WIDTH, HEIGHT), sharey=True)
    places = list(connections.PLACES)
    for place, series, _, points in by_size(data, lambda got: got.rate):
        axes = panels[places.index(place)]
        axes.plot(*columns(points), marker="o", color=COLORS[series], label=connections.SERIES[series])
        across_sizes(axes, data, f"add, {connections.PLACES[place][0]}")
    panels[0].set_ylabel("commands a second")
    logarithmic(panels[0].yaxis)
    return below(figure, panels[0])


def latency_by_size(data: dict[str, Any]) -> Any:
    figure, panels = pyplot.subplots(1, 2, figsize=(WIDTH, HEIGHT), sharey=True)
    places = list(connections.PLACES)
    half, worst = by_size(data, lambda got: got.p50_ms), by_size(data, lambda got: got.p99_ms)
    for (place, series, _, at_half), (*_, at_worst) in zip(half, worst, strict=True):
        axes, title = panels[places.index(place)], connections.SERIES[series]
        axes.plot(*columns(at_half), marker="o", color=COLORS[series], label=f"{title}, p50")
        axes.plot(*columns(at_worst), marker="o", linestyle=":", color=COLORS[series], label="p99")
        across_sizes(axes, data, f"add, {connections.PLACES[place][0]}")
    panels[0].set_ylabel("latency, ms")
    logarithmic(panels[0].yaxis)
    return below(figure, panels[0])


def across_sizes(axes: Any, data: dict[str, Any], title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("events in the log")
    logarithmic(axes.xaxis, [stage["events"] for stage in grown(data)])


def size_ratio(data: dict[str, Any]) -> Any:
    """How each rate compares to the empty log's: a group of bars a call, one bar a stage."""
    stages = data["stages"]
    names = [name for name in sizes.CALLS if any(name in stage["calls"] for stage in stages)]
    figure, axes = pyplot.subplots(figsize=(WIDTH, 0.55 * len(names) + 1.2))
    thick = 0.8 / len(stages)
    shades = ("#bcd6ea", "#7fb2d8", "#1b6ca8", "#0b3558", "#061c30")
    for number, stage in enumerate(stages):
        places = [place + (number - (len(stages) - 1) / 2) * thick for place in range(len(names))]
        values = [ratio(stage["calls"][name]) if name in stage["calls"] else 0.0 for name in names]
        color = shades[number % len(shades)]
        axes.barh(places, values, height=thick, color=color, label=stage_title(stage), zorder=2)
    axes.axvspan(0.9, 1.1, color="#e6f2e6", zorder=0)
    axes.axvline(1.0, color="#2e7d32", linewidth=1, zorder=3)
    axes.set_yticks(range(len(names)), [sizes.CALLS[name] for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("rate of the long log / rate of the empty log (green: within 10 %)")
    return below(figure, axes)


def overload(data: dict[str, Any]) -> Any:
    """Answers second by second over the three phases, which follow each other on one axis; a panel a kind."""
    figure, panels = pyplot.subplots(1, len(data["kinds"]), figsize=(WIDTH, HEIGHT), squeeze=False)
    length = round(data["seconds"])
    for axes, (kind, got) in zip(panels[0], data["kinds"].items(), strict=True):
        before, crowd, after = (got[name]["seconds"] for name in ("before", "crowd", "after"))
        calm = round(NORMAL_SECONDS)  # what came after it are the last answers of this phase
        rows = [*((second - calm, each) for second, each in enumerate(before[:calm])), *enumerate(crowd)]
        rows += [(length + second, each) for second, each in enumerate(after[:calm])]
        base: dict[int, float] = {}
        for name, label, color in ANSWERS:
            for at, each in rows:
                axes.bar(at, each[name], 0.9, base.get(at, 0.0), align="edge", color=color, zorder=2)
                base[at] = base.get(at, 0.0) + each[name]
            axes.bar(0, 0, color=color, label=label)
        axes.axhline(got["usual_rate"], color="#444444", linestyle="--", linewidth=1, label="rate before", zorder=3)
        axes.axvspan(0, length, color="#f6efe2", zorder=0)
        axes.set_title(KINDS[kind])
        axes.set_xlabel(f"seconds (shaded: the crowd of {data['connections']:,})")
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
    panels[0][0].set_ylabel("answers a second")
    return below(figure, panels[0][0])


def memory(data: dict[str, Any]) -> Any:
    figure, axes = pyplot.subplots(figsize=(WIDTH, HEIGHT))
    for kind, title, color in (("workers_mib", "worker", "#1b6ca8"), ("others_mib", "expiry or follower", "#777777")):
        for number, mib in enumerate(data[kind], 1):
            style = ("-", "--", ":", "-.")[(number - 1) % 4]
            axes.plot(data["at_seconds"], mib, color=color, linestyle=style, label=f"{title} {number}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds under load")
    axes.set_ylabel("memory (PSS), MiB")
    return below(figure, axes)


def columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def below(figure: Any, axes: Any) -> Any:
    """One legend for the whole figure, under it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=min(4, len(labels)))
    return figure


PICTURES: dict[str, dict[str, Callable[[dict[str, Any]], Any]]] = {
    "connections": {"rate-by-connections": rate_by_connections, "latency-by-connections": latency_by_connections},
    "sizes": {"rate-by-size": rate_by_size, "latency-by-size": latency_by_size, "long-beside-empty": size_ratio},
    "overload": {"overload": overload},
    "soak": {"memory": memory},
}
