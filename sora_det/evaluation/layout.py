"""Rows of strings to aligned tables, for a terminal, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]

_NUMBER = re.compile(r"|-|[-±]?\d+(\.\d+)?( ± \d+(\.\d+)?)?")
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


def text_table(head: Sequence[str], rows: Rows, below: Rows = ()) -> str:
    """A table for a terminal; `below` follows a second line. Words go left, numbers right."""
    lines = [head, *rows, *below]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = _left(rows)
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    drawn = [_line(line, widths, left) for line in lines]
    drawn.insert(1, rule)
    if below:
        drawn.insert(2 + len(rows), rule)
    return "\n".join([rule, *drawn, rule])


def markdown_table(head: Sequence[str], rows: Rows, below: Rows = ()) -> str:
    """The same as a Markdown table; the rows `below` in bold."""
    bold = [[f"**{cell}**" if cell else "" for cell in row] for row in below]
    lines = [[_escape(cell) for cell in row] for row in (head, *rows, *bold)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    left = _left(rows)
    rule = [
        "-" * width if to_left else "-" * (width - 1) + ":"
        for width, to_left in zip(widths, left, strict=True)
    ]
    drawn = [_cells(line, widths, left) for line in lines]
    drawn.insert(1, rule)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in drawn)


def latex_table(head: Sequence[str], rows: Rows, below: Rows = ()) -> str:
    """The same as a LaTeX tabular with the rules of the package booktabs."""
    columns = "".join("l" if to_left else "r" for to_left in _left(rows))
    groups = [[head], rows, below] if below else [[head], rows]
    lines = ["\\begin{tabular}{" + columns + "}", "\\toprule"]
    for number, group in enumerate(groups):
        lines += ["\\midrule"] if number else []
        lines += [" & ".join(map(_latex, line)) + r" \\" for line in group]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex(cell: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in cell)


def _left(rows: Rows) -> list[bool]:
    """Which columns hold anything but numbers."""
    columns = zip(*rows, strict=True)
    return [not all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]


def _cells(line: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> list[str]:
    return [
        cell.ljust(width) if to_left else cell.rjust(width)
        for cell, width, to_left in zip(line, widths, left, strict=True)
    ]


def _line(line: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    return "  ".join(_cells(line, widths, left)).rstrip()


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
