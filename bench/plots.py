"""Bars in SVG: the median of each subject, and a line from its least to its most."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.measuring import Series

_WIDTH, _LEFT, _RIGHT = 760, 260, 90
_BAR, _GAP, _TOP = 22, 10, 40

# Readable on white and on black: a page that shows it may be either.
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#767676}"
    ".title{font-weight:600}.bar{fill:#4c8dd6}.ours{fill:#d9822b}.spread{stroke:#767676;stroke-width:1.5}"
)


def bars(title: str, found: Sequence[Series], *, ours: str) -> str:
    """An SVG document.

    Args:
        title: stands above.
        found: what is drawn, in this order; all of one unit.
        ours: the subjects that begin with this word stand out.
    """
    most = max((max(each.values) for each in found), default=0.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    height = _TOP + len(found) * (_BAR + _GAP) + _GAP
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_attribute(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="10" y="24">{escape(title)}</text>',
    ]
    for place, each in enumerate(found):
        lines += _bar(each, _TOP + place * (_BAR + _GAP), scale, is_ours=each.subject.startswith(ours))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bar(each: Series, top: int, scale: float, *, is_ours: bool) -> list[str]:
    middle, base = top + _BAR / 2, top + _BAR / 2 + 4.5
    least, most = (_LEFT + scale * value for value in (min(each.values), max(each.values)))
    look, width = "ours" if is_ours else "bar", max(1.0, scale * each.median)
    shown = f"{each.median:.3g} {escape(each.unit)}"
    return [
        f'<text x="{_LEFT - 10}" y="{base}" text-anchor="end">{escape(each.subject)}</text>',
        f'<rect class="{look}" x="{_LEFT}" y="{top}" height="{_BAR}" width="{width:.1f}" rx="2"/>',
        f'<line class="spread" x1="{least:.1f}" y1="{middle}" x2="{most:.1f}" y2="{middle}"/>',
        f'<text x="{most + 8:.1f}" y="{base}">{shown}</text>',
    ]


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})
