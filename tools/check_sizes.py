"""The house's size budgets, as a check: modules <= 300 lines, functions <= 60, medians and tails as written below."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("mesh", "services", "deploy", "tools", "clients/python/imagemesh")
MODULE_LINES = 300
FUNCTION_LINES = 60
MEDIAN_LINES = 8
P90_LINES = 28


def sources() -> Iterator[Path]:
    """Our own Python, without generated code and migrations."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")) and "migrations" not in path.parts:
                yield path


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, line and length of each function, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def main() -> None:
    """Prints every excess and a summary; exits with 1 when there is any."""
    excesses: list[str] = []
    lengths: list[int] = []
    for path in sources():
        name = path.relative_to(ROOT)
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MODULE_LINES:
            excesses.append(f"{name}: {lines} lines, at most {MODULE_LINES}")
        for function, line, length in functions(path):
            lengths.append(length)
            if length > FUNCTION_LINES:
                excesses.append(f"{name}:{line}: {function} has {length} lines, at most {FUNCTION_LINES}")
    median = statistics.median(lengths)
    p90 = statistics.quantiles(lengths, n=10)[-1]
    if median > MEDIAN_LINES or p90 > P90_LINES:
        excesses.append(f"functions: median {median} (at most {MEDIAN_LINES}), p90 {p90:.0f} (at most {P90_LINES})")
    print(f"{len(lengths)} functions: median {median:.0f} lines, p90 {p90:.0f}, longest {max(lengths)}")
    if excesses:
        sys.exit("\n".join(excesses))


if __name__ == "__main__":
    main()
