"""Tokenizers side by side as a picture: characters a token by domain, and characters that are cut."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megatron_style_data.tokenizer.comparison import TokenizerFit
from zhgpt.report.drawing import STYLE

_COLOURS = ("#2563a8", "#d9730d", "#2e7d4f", "#8e44ad", "#b3261e", "#6b7280", "#0e7490", "#a16207")
# Fonts with Chinese characters that systems have; matplotlib's own has none.
_CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Noto Serif CJK SC", "WenQuanYi Micro Hei"),
    *("PingFang SC", "Microsoft YaHei", "SimHei"),
)


def render_comparison(fits: Sequence[TokenizerFit], kind: str) -> bytes:
    """The picture as ``png`` or ``svg``: one group of bars a domain, one bar a tokenizer."""
    domains = list(fits[0].domains)
    rows = len(domains) * (len(fits) + 1)
    labels = _drawable(domains, "domain")
    names = _drawable([fit.name for fit in fits], "tokenizer")
    families = ["DejaVu Sans", *_installed(_CHINESE_FONTS)]
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x", "font.family": families}):
        height = 1.6 + 0.2 * max(rows, 4 * (len(fits) + 1))
        figure = Figure(figsize=(12, height), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _bars(left, [[fit.domains[domain].characters_per_token for domain in domains] for fit in fits], labels, names)
        left.set_xlabel("characters a token (more is better)")
        sets = list(fits[0].characters)
        shares = [
            [100 * fit.characters[what].in_one_token / fit.characters[what].characters for what in sets] for fit in fits
        ]
        _bars(right, shares, [f"{what}\n({fits[0].characters[what].characters:,})" for what in sets], names)
        right.set_xlabel("Han characters that are one token (%)")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(fits)))
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, dpi=140, metadata={"Date": None} if kind == "svg" else {})
    return picture.getvalue()


def _bars(axes: Axes, values: Sequence[Sequence[float]], labels: Sequence[str], names: Sequence[str]) -> None:
    thickness = 0.8 / len(values)
    for index, (row, name) in enumerate(zip(values, names, strict=True)):
        places = [group + (index - (len(values) - 1) / 2) * thickness for group in range(len(row))]
        bars = axes.barh(places, row, thickness * 0.92, color=_COLOURS[index % len(_COLOURS)], label=name)
        axes.bar_label(bars, fmt="%.2f" if max(map(max, values)) < 20 else "%.0f", padding=2, fontsize=8)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)


def _installed(names: Sequence[str]) -> list[str]:
    known = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in names if name in known]


def _drawable(labels: Sequence[str], what: str) -> list[str]:
    """The labels, or numbers where no installed font has their characters (the table has both in the same order)."""
    if all(label.isascii() for label in labels) or _installed(_CHINESE_FONTS):
        return list(labels)
    return [label if label.isascii() else f"{what} {number}" for number, label in enumerate(labels, 1)]
