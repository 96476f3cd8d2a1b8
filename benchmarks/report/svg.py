"""A chart of horizontal bars as SVG, with no background, readable on light and dark pages."""

import math
from collections.abc import Iterator, Sequence
from html import escape

import msgspec

__all__ = ["Bar", "chart"]

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.note, .axis { fill: #59636e; font-size: 11px }
.line { stroke: #59636e; stroke-opacity: .35 }
.spread { stroke: #1f2328; stroke-width: 1.5 }
.ours { fill: #0969da } .other { fill: #8c959f } .second { fill-opacity: .55 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .note, .axis { fill: #9198a1 }
  .line { stroke: #9198a1 } .spread { stroke: #f0f6fc }
  .ours { fill: #4493f8 } .other { fill: #7d8590 }
}
"""
_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 860, 300, 90, 26, 62
_TICKS = 4


class Bar(msgspec.Struct, frozen=True):
    """A bar of `parts` in sequence; `low` and `high` are the spread of their sum."""

    label: str
    parts: Sequence[float]
    low: float
    high: float
    ours: bool


def chart(title: str, unit: str, note: str, bars: Sequence[Bar]) -> str:
    """Draw the bars from top to bottom, on one scale that begins at zero."""
    height = _TOP + _ROW * len(bars) + 50
    top = _TICKS * _round_step(max(bar.high for bar in bars) / _TICKS)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="8" y="22">{escape(title)}</text>',
            f'<text class="note" x="8" y="40">{escape(unit)}</text>',
            *_axis(top, height),
            *(line for row, bar in enumerate(bars) for line in _bar(bar, _TOP + row * _ROW, top)),
            f'<text class="note" x="8" y="{height - 8}">{escape(note)}</text>',
            "</svg>",
            "",
        ]
    )


def _round_step(value: float) -> float:
    """Round up to 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value or 1))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _x(value: float, top: float) -> float:
    return round(_LEFT + value / top * (_WIDTH - _LEFT - _RIGHT), 1)


def _axis(top: float, height: int) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        x = _x(value, top)
        yield f'<line class="line" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{height - 40}"/>'
        yield (
            f'<text class="axis" x="{x}" y="{height - 26}" text-anchor="middle">'
            f"{_number(value)}</text>"
        )


def _bar(bar: Bar, y: int, top: float) -> Iterator[str]:
    middle = y + _ROW / 2 - 4
    kind = "ours" if bar.ours else "other"
    yield f'<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>'
    begin = 0.0
    for number, part in enumerate(bar.parts):
        x, end = _x(begin, top), _x(begin + part, top)
        shade = f"{kind} second" if number else kind
        width = round(end - x, 1)
        yield (
            f'<rect class="{shade}" x="{x}" y="{y}" width="{width}" height="{_ROW - 8}" rx="2"/>'
        )
        begin += part
    low, high = _x(bar.low, top), _x(bar.high, top)
    yield f'<line class="spread" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
    yield f'<text x="{max(high, _x(begin, top)) + 6}" y="{middle + 4}">{_number(begin)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"
