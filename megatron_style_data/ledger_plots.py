"""Pictures of a ledger as SVG written by hand, so that Chinese is shown by the reader's fonts and nothing is loaded."""

from collections.abc import Sequence
from html import escape

_READ, _KEPT, _DROPPED, _GREY = "#c7d2e0", "#2563a8", "#d9730d", "#6b7280"


def length_plot(read: Sequence[int], kept: Sequence[int]) -> str:
    """Documents by length, read and kept, on a logarithmic axis of characters.

    Args:
        read: Documents in each bin of ``2**(n/2)`` characters.
        kept: The same, of those that stay.
    """
    filled = [number for number, count in enumerate(read) if count] + [n for n, count in enumerate(kept) if count]
    if not filled:
        return ""
    first, last = min(filled), max(filled)
    most = max(*read[first : last + 1], *kept[first : last + 1])
    width, height, left, bottom = 720, 240, 56, 36
    step = (width - left - 10) / (last - first + 1)
    scale = (height - bottom - 16) / most
    parts = [_axis(left, width, height - bottom, most, scale)]
    for number in range(first, last + 1):
        x = left + (number - first) * step
        for counts, color, share in ((read, _READ, 0.92), (kept, _KEPT, 0.56)):
            bar = counts[number] * scale
            inset = step * (1 - share) / 2
            title = f"{_characters(number)}–{_characters(number + 1)}: {read[number]:,} read, {kept[number]:,} kept"
            parts.append(
                f'<rect x="{x + inset:.1f}" y="{height - bottom - bar:.1f}" width="{step * share:.1f}" '
                f'height="{bar:.1f}" fill="{color}"><title>{title}</title></rect>'
            )
        if number % 4 == 0:
            parts.append(_text(x, height - bottom + 15, _characters(number), "middle"))
    parts.append(_text((left + width) / 2, height - 4, "characters of a document", "middle"))
    parts.append(_legend(width - 190, 12, (("read", _READ), ("kept", _KEPT))))
    return _svg(width, height, parts)


def drop_plot(rows: Sequence[tuple[str, int]], read: int) -> str:
    """Documents that each step dropped, as bars with numbers.

    Args:
        rows: (step, documents).
        read: Documents read, for the shares.
    """
    most = max((count for _, count in rows), default=0) or 1
    height, left, width = 24, 170, 720
    parts = []
    for number, (name, count) in enumerate(rows):
        y = 6 + number * height
        bar = (width - left - 170) * count / most
        parts.append(_text(left - 8, y + 13, name, "end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{bar:.1f}" height="17" fill="{_DROPPED}"/>')
        parts.append(_text(left + bar + 6, y + 13, f"{count:,} ({100 * count / max(1, read):.3g} %)", "start"))
    return _svg(width, 12 + height * len(rows), parts)


def share_plot(bins: Sequence[int], low: float | None, high: float | None) -> str:
    """A small histogram of a measure from 0 to 1 with its thresholds, heights as square roots so that tails show."""
    width, height, floor = 220, 64, 50
    most = max(bins) or 1
    step = width / len(bins)
    parts = [
        f'<rect x="{number * step:.1f}" y="{floor - floor * (count / most) ** 0.5:.1f}" width="{step:.1f}" '
        f'height="{floor * (count / most) ** 0.5:.1f}" fill="{_color(number, len(bins), low, high)}">'
        f"<title>{number / len(bins):.2f}–{(number + 1) / len(bins):.2f}: {count:,}</title></rect>"
        for number, count in enumerate(bins)
        if count
    ]
    parts.append(f'<line x1="0" y1="{floor}" x2="{width}" y2="{floor}" stroke="{_GREY}"/>')
    for bound in (low, high):
        if bound is not None:
            x = bound * width
            parts.append(
                f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{floor}" stroke="#b3261e" stroke-dasharray="3 2"/>'
            )
    parts += [_text(0, height - 2, "0", "start"), _text(width, height - 2, "1", "end")]
    return _svg(width, height, parts)


def _color(number: int, bins: int, low: float | None, high: float | None) -> str:
    below = low is not None and (number + 1) / bins <= low
    above = high is not None and number / bins >= high
    return _DROPPED if below or above else _KEPT


def _axis(left: int, width: int, floor: int, most: int, scale: float) -> str:
    lines = []
    for part in (0, 0.5, 1):
        y = floor - part * most * scale
        lines.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 10}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        lines.append(_text(left - 6, y + 4, f"{part * most:,.0f}", "end"))
    return "".join(lines)


def _legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<rect x="{x + 80 * number:.0f}" y="{y - 9:.0f}" width="10" height="10" fill="{color}"/>'
        + _text(x + 80 * number + 15, y, name, "start")
        for number, (name, color) in enumerate(entries)
    )


def _characters(number: int) -> str:
    length = round(2 ** (number / 2))
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if length >= size:
            return f"{length / size:.3g}{unit}"
    return str(length)


def _text(x: float, y: float, content: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">{"".join(parts)}</svg>'
