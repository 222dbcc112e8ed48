"""Rows of strings to aligned tables, for a terminal, as Markdown and as LaTeX.

Names in them come from files. In each form they are text and nothing else: no escape code, no
markup, no command and no formula.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..untrusted.text import shown

Rows = Sequence[Sequence[str]]

_NUMBER = re.compile(r"|-|[-±]?\d+(\.\d+)?( ± \d+(\.\d+)?)?")
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the beginning of one
_MARKDOWN = {c: f"\\{c}" for c in "\\`|[]<&"}
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # else an argument of the line break before it
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


def text_table(head: Sequence[str], rows: Rows, below: Rows = ()) -> str:
    """A table for a terminal; `below` follows a second line. Words go left, numbers right."""
    lines = [[shown(cell) for cell in line] for line in (head, *rows, *below)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = _left(head, rows)
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    drawn = [_line(line, widths, left) for line in lines]
    drawn.insert(1, rule)
    if below:
        drawn.insert(2 + len(rows), rule)
    return "\n".join([rule, *drawn, rule])


def markdown_table(head: Sequence[str], rows: Rows, below: Rows = ()) -> str:
    """The same as a Markdown table; the rows `below` in bold."""
    plain = [[markdown(cell) for cell in row] for row in (head, *rows)]
    bold = [[f"**{markdown(cell)}**" if cell else "" for cell in row] for row in below]
    lines = [*plain, *bold]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    left = _left(head, rows)
    rule = [
        "-" * width if to_left else "-" * (width - 1) + ":"
        for width, to_left in zip(widths, left, strict=True)
    ]
    drawn = [_cells(line, widths, left) for line in lines]
    drawn.insert(1, rule)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in drawn)


def latex_table(head: Sequence[str], rows: Rows, below: Rows = ()) -> str:
    """The same as a LaTeX tabular with the rules of the package booktabs."""
    columns = "".join("l" if to_left else "r" for to_left in _left(head, rows))
    groups = [[head], rows, below] if below else [[head], rows]
    lines = ["\\begin{tabular}{" + columns + "}", "\\toprule"]
    for number, group in enumerate(groups):
        lines += ["\\midrule"] if number else []
        lines += [" & ".join(map(latex, line)) + r" \\" for line in group]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: no HTML, link, code or cell begins in it."""
    return "".join(_MARKDOWN.get(letter, letter) for letter in shown(text))


def latex(text: str) -> str:
    """Return a text that LaTeX sets as it is, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in shown(text))


def csv_text(text: str) -> str:
    """Return a text that a spreadsheet does not take for a formula.

    One that could be gets an apostrophe before it, as spreadsheets themselves write such texts.
    """
    plain = shown(text)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain


def _left(head: Sequence[str], rows: Rows) -> list[bool]:
    """Which columns hold anything but numbers; without rows, all do."""
    columns = zip(*(rows or [head]), strict=True)
    return [not all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]


def _cells(line: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> list[str]:
    return [
        cell.ljust(width) if to_left else cell.rjust(width)
        for cell, width, to_left in zip(line, widths, left, strict=True)
    ]


def _line(line: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    return "  ".join(_cells(line, widths, left)).rstrip()
