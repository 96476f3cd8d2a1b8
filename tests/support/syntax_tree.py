"""Parse Python files for tests that read code; each file is parsed once per run."""

import ast
from functools import cache
from pathlib import Path

__all__ = ["syntax_tree"]


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
