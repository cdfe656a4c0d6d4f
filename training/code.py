"""A digest of the code a stage runs, so that changed code never reuses an old result."""

import ast
import functools
import hashlib
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# How results are stored, shown and asked for does not change them.
_NEUTRAL = {"training.store", "training.code", "stages.recipes", "settings", "errors"}


@functools.cache
def code_digest(module: str) -> str:
    """Hex digest of a project module and of every project module it imports, directly or not.

    Comments, docstrings and layout do not count: a clearer sentence does not cost anybody a training run.

    Parameters
    ----------
    module
        Dotted name of a module below the project's root.
    """
    sources = sorted(_reachable(module))
    return hashlib.sha256("\n".join(f"{name}:{_meaning(name)}" for name in sources).encode()).hexdigest()[:16]


def _reachable(module: str) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in _NEUTRAL and _path(name) is not None:
            seen.add(name)
            waiting += _imports(name)
    return seen


@functools.cache
def _path(module: str) -> Path | None:
    """The module's file when it belongs to the project."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path is not None
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(module: str) -> list[str]:
    found: list[str] = []
    path = _path(module)
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # what a relative import starts from: the package that the module is in, or is
            package = module if path is not None and path.name == "__init__.py" else module.rpartition(".")[0]
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found += [base] + [f"{base}.{alias.name}" for alias in node.names]
    return found


@functools.cache
def _meaning(module: str) -> str:
    tree = _tree(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[1:] if documented else node.body
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
