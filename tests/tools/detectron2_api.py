"""Which names of Detectron2 the project uses, and what each version's names accept.

The table `tests/data/detectron2_api.json` maps a dotted name to one entry for release 0.5
and one for the main branch: a list of parameter names (of `__init__` for a class; "*"
begins the keyword-only ones), "module", "value" for anything else, or null where
that version lacks the name.

To add names, fill in the column of the installed version:

    python tests/tools/detectron2_api.py detectron2.layers.Conv2d detectron2.utils.comm

and write the other column by hand from that version's source, or run the same command
where it is installed.
"""

import argparse
import ast
import enum
import importlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "data" / "detectron2_api.json"
VERSIONS = ("0.5", "main")
UNKNOWN = "unknown"
OURS = ("detectron2", "fvcore", "iopath")  # fixed by the release; the others are not

Entry = list[str] | str | None
Table = dict[str, dict[str, Entry]]


@dataclass(frozen=True)
class Use:
    """One name of Detectron2 in our code; `positional` and `keywords` if it is called."""

    name: str
    place: str  # "file:line"
    positional: int = 0
    keywords: tuple[str, ...] = ()


def read_table() -> Table:
    table: Table = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def write_table(table: Table) -> None:
    rows = [f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def installed_version() -> str:
    version: str = importlib.import_module("detectron2").__version__
    return "0.5" if version.startswith("0.5") else "main"


# --- what a version offers --------------------------------------------------------------


def describe(name: str) -> Entry:
    """Return the entry of `name` in the installed Detectron2."""
    try:
        thing = look_up(name.split("."))
    except (ImportError, AttributeError):
        return None
    if inspect.ismodule(thing):
        return "module"
    if not str(getattr(thing, "__module__", "")).startswith(OURS):
        return "value"  # torch's own classes vary with torch, not with Detectron2
    if inspect.isclass(thing):
        return "value" if issubclass(thing, enum.Enum) else class_parameters(thing)
    return parameters(inspect.signature(thing)) if inspect.isroutine(thing) else "value"


def look_up(parts: list[str]) -> object:
    """Return what `from a.b import c` binds for a, b, c (or the attribute c of class a.b)."""
    if len(parts) == 1:
        return importlib.import_module(parts[0])
    try:
        owner: object = importlib.import_module(".".join(parts[:-1]))
    except ImportError:
        owner = look_up(parts[:-1])
    if hasattr(owner, parts[-1]):
        return getattr(owner, parts[-1])
    return importlib.import_module(".".join(parts))


def parameters(signature: inspect.Signature) -> list[str]:
    names, keyword_only = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            names.append("*")
            keyword_only = True
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        names.append(prefix.get(parameter.kind, "") + parameter.name)
        keyword_only = keyword_only or parameter.kind is parameter.VAR_POSITIONAL
    return names


def class_parameters(cls: type) -> list[str]:
    """Return what a class accepts, following **kwargs to the classes it inherits from."""
    mro = inspect.getmro(cls)
    maker = next(base for base in mro if {"__init__", "__new__"} & set(vars(base)))
    if maker is object:
        return []
    if not maker.__module__.startswith(OURS):
        return ["**kwargs"]  # as Metadata, which is a namespace
    names = parameters(inspect.signature(cls))
    for base in mro[1:]:
        if not names or not names[-1].startswith("**") or not base.__module__.startswith(OURS):
            break
        if "__init__" in vars(base):
            inherited = class_parameters(base)
            new = [name for name in inherited if name not in names and name != "*"]
            names = names[:-1] + ([] if "*" in names or not new else ["*"]) + new
    return names


# --- what our code uses -----------------------------------------------------------------


def uses(path: Path, root: Path) -> Iterator[Use]:
    """Yield every use of a Detectron2 name in one file.

    A name is what an import binds, extended by the attributes that follow it
    (`comm.get_rank`). A call counts directly, as `LazyCall(name)(...)` too.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    bound = dict(bindings(tree))
    place = str(path.relative_to(root))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            for _, name in bindings(node):
                yield Use(name, f"{place}:{node.lineno}")
        elif isinstance(node, ast.Attribute) and (name := dotted(node, bound)):
            yield Use(name, f"{place}:{node.lineno}")
        elif isinstance(node, ast.Call) and (name := called(node, bound)):
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg)
            yield Use(name, f"{place}:{node.lineno}", 0 if starred else len(node.args), keywords)


def bindings(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (local name, dotted name) of the imports from Detectron2 in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "detectron2":
                    yield (alias.asname, alias.name) if alias.asname else ("detectron2",) * 2
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.partition(".")[0] == "detectron2":
                for alias in node.names:
                    yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def dotted(node: ast.expr, bound: dict[str, str]) -> str | None:
    """Return the full name of `T.ResizeTransform` and the like, None for anything else."""
    if isinstance(node, ast.Name):
        return bound.get(node.id)
    if isinstance(node, ast.Attribute) and (base := dotted(node.value, bound)):
        return f"{base}.{node.attr}"
    return None


def called(node: ast.Call, bound: dict[str, str]) -> str | None:
    """Return the name that a call hands its arguments to."""
    if isinstance(node.func, ast.Call) and node.func.args:
        if dotted(node.func.func, bound) == "detectron2.config.LazyCall":
            return dotted(node.func.args[0], bound)
    return dotted(node.func, bound)


# --- the two together -------------------------------------------------------------------


def problems(use: Use, table: Table, *, shim: bool = False) -> Iterator[str]:
    """Say why `use` would not work on both versions (on one of them, in the shim)."""
    if use.name not in table:
        yield (
            f"{use.place}: {use.name} is not in {TABLE.name}: run "
            f"'python tests/tools/detectron2_api.py {use.name}' and fill in the other column"
        )
        return
    entries = table[use.name]
    missing = [version for version in VERSIONS if entries[version] is None]
    if missing and not (shim and len(missing) == 1):
        yield f"{use.place}: Detectron2 {' and '.join(missing)} has no {use.name}"
        return
    known = {version: entry for version, entry in entries.items() if entry is not None}
    for version, entry in known.items():
        if entry == UNKNOWN:
            yield f"{use.place}: {TABLE.name} does not say what {use.name} is in {version}"
        if not isinstance(entry, list):
            continue
        for keyword in use.keywords:
            if keyword not in entry and not any(name.startswith("**") for name in entry):
                yield f"{use.place}: {use.name} of {version} takes no {keyword}=, only {entry}"
    lists = [positional(entry) for entry in known.values() if isinstance(entry, list)]
    if use.positional and len({tuple(names[: use.positional]) for names in lists}) > 1:
        yield f"{use.place}: {use.name} orders its arguments differently: name them"
    for names in lists:
        if use.positional > len(names) and names[-1:] != ["*"]:
            yield f"{use.place}: {use.name} takes {len(names)} arguments by place: {names}"
            break


def positional(entry: list[str]) -> list[str]:
    """Cut the entry before its keyword-only part; a trailing "*" stands for *args."""
    for index, name in enumerate(entry):
        if name.startswith("*"):
            return entry[:index] + (["*"] if len(name) > 1 and name[1] != "*" else [])
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description="Add names to the table, or refresh it.")
    parser.add_argument("names", nargs="*", help="dotted names; none: all that are there")
    table, version = read_table() if TABLE.is_file() else {}, installed_version()
    for name in parser.parse_args().names or list(table):
        table.setdefault(name, dict.fromkeys(VERSIONS, UNKNOWN))[version] = describe(name)
    write_table(table)


if __name__ == "__main__":
    main()
