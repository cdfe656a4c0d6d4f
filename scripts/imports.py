"""Which module of the project imports which, read off the sources, and what the order of the rooms forbids.

They are declared here and nowhere else: docs/architecture.md, its picture and tests/test_architecture.py read this.
"""

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The project's code: a package below the root.
PACKAGE = "debias"


@dataclass(frozen=True)
class Room:
    """A part of the project.

    Parameters
    ----------
    name
        What it is called in the document and in the picture.
    places
        Its files and folders below the package; a module belongs to the room with the longest matching place.
    holds
        What is in it, in one line.
    """

    name: str
    places: tuple[str, ...]
    holds: str


def _room(name: str, holds: str, *places: str) -> Room:
    return Room(name, places or (name,), holds)


# From top to bottom. A room imports rooms of lower levels only: none above it, none on its own level.
LEVELS: tuple[tuple[Room, ...], ...] = (
    (
        _room("main.py", "the command line of one run", "main.py", "__main__.py"),
        _room("sweep.py", "the command line of many runs"),
        _room("results.py", "the command line of tables and reports"),
        _room("from Python", "a study as an estimator, for programs", "__init__.py", "estimator.py"),
    ),
    (_room("sweeps", "many runs: grids, seeds, searches, engines that run them"),),
    (
        _room(
            "commands",
            "what drives a run: train, evaluate, predict, export, diagnose, review, probe, samples, sync, help",
        ),
    ),
    (_room("config.py", "the Sacred experiment: defaults, named configs, checks before any work"),),
    (_room("tracking", "what is kept of a run and how it is shown: observers, mongo, results, report, pictures"),),
    (_room("study", "from images to a named shortcut, the method that does not rely on it, and what to look at"),),
    (
        _room("catalogue.py", "every setting by its dotted name"),
        _room("diagnosis", "whether unlabelled images have a shortcut, and which"),
        _room("review", "a page on which suspects are looked at and marked, and its server"),
    ),
    (_room("stages/recipes.py", "the stages and the methods by name, checked"),),
    (_room("stages", "the steps of recipes, and nothing else"),),
    (
        _room(
            "stages/methods",
            "the methods: their stages and what they set",
            "stages/methods.py",
            "stages/recipe.py",
        ),
    ),
    (_room("stages/common", "what steps share: classifiers, budgets, scores"),),
    (_room("features", "features of pretrained networks in place of photographs"),),
    (_room("training", "the engine, which knows no method: loop, walk through stages, store, optimisers, speed"),),
    (
        _room("metrics.py", "figures of predictions"),
        _room(
            "data registry",
            "the data sets by name, their settings, and loading",
            "data/registry.py",
            "data/settings.py",
            "data/loading.py",
        ),
        _room("models", "networks, pruning gates, weight files"),
    ),
    (
        _room("data/generated", "biased data sets built from a source"),
        _room("data/photos", "image files: archives, decoding, layouts, your own"),
    ),
    (_room("data/sources", "where raw images come from"),),
    (_room("data", "splits, tasks, batches, augmentation, caches"),),
    (_room("losses", "pure functions of tensors, one family a file"),),
    (
        _room(
            "ground",
            "settings, errors, words, random streams, digests; imports nothing above it",
            "settings.py",
            "errors.py",
            "vocabulary.py",
            "randomness.py",
            "redaction.py",
            "waiting.py",
            "starting.py",
            "digests.py",
            "downloads.py",
            "endings.py",
            "harmless.py",
            "rawfiles.py",
        ),
    ),
)
# Tools beside the project: they may import any of it, and nothing of it imports them.
BESIDE = ("scripts", "benchmarks", "tests")


@dataclass(frozen=True)
class Module:
    """A Python file of the project: its dotted name, its path below the package, and its number of lines."""

    name: str
    path: Path
    lines: int


def modules(root: Path = ROOT) -> dict[str, Module]:
    """Every Python file of the package below `root` by dotted name, without hidden folders."""
    found, paths = {}, []
    for folder, below, names in os.walk(root / PACKAGE):
        # Not looked into: other processes make and remove folders there.
        below[:] = [name for name in below if not name.startswith((".", "__pycache"))]
        paths += [Path(folder, name) for name in names if name.endswith(".py") and not name.startswith(".")]
    for path in sorted(paths):
        inside = path.relative_to(root / PACKAGE)
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, inside, len(path.read_text(encoding="utf-8").splitlines()))
    return found


def room_of(path: Path, levels: Sequence[Sequence[Room]] = LEVELS) -> Room | None:
    """The room that a file (relative to the package) belongs to; None where no place matches."""
    best: tuple[int, Room | None] = (0, None)
    for room in rooms(levels):
        for place in room.places:
            if path == Path(place) or path.is_relative_to(place):
                best = max(best, (len(place), room), key=lambda pair: pair[0])
    return best[1]


def rooms(levels: Sequence[Sequence[Room]] = LEVELS) -> list[Room]:
    """All rooms, from top to bottom."""
    return [room for level in levels for room in level]


def imports(found: Mapping[str, Module], root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> the project's modules that it imports, at its head or anywhere else.

    In a function, for types only, and by the names that it gives `import_module` counts as well.
    """
    return {
        name: {target for target in _named(module, root, found) if target != name} for name, module in found.items()
    }


def _named(module: Module, root: Path, known: Mapping[str, Module]) -> Iterator[str]:
    package = module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]
    text = (root / PACKAGE / module.path).read_text(encoding="utf-8")
    # A registry loads modules whose names it lists.
    by_name = "import_module" in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif by_name and isinstance(node, ast.Constant) and node.value in known:
            names = [str(node.value)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in BESIDE:
                yield name
            while name and name not in known:
                name = name.rpartition(".")[0]
            if name:
                yield name


def faults(root: Path = ROOT, levels: Sequence[Sequence[Room]] = LEVELS) -> list[str]:
    """What breaks the order: files without a room, imports that go up or sideways, imports of tools, cycles."""
    found = modules(root)
    graph = imports(found, root)
    rank = {room: number for number, level in enumerate(levels) for room in level}
    said = []
    for name, module in found.items():
        room = room_of(module.path, levels)
        if room is None:
            said.append(f"{module.path} belongs to no room")
            continue
        for target in sorted(graph[name]):
            if target not in found:
                said.append(f"{module.path} imports {target}, which stands beside the project")
                continue
            other = room_of(found[target].path, levels)
            if other is None or other == room or rank[other] > rank[room]:
                continue
            way = "up" if rank[other] < rank[room] else "sideways"
            said.append(f"{module.path} imports {found[target].path}: {way}, from {room.name} to {other.name}")
    return said + [f"a cycle: {' -> '.join(cycle)}" for cycle in cycles(graph)]


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Cycles of a graph, one for each edge that closes one in a depth-first walk; each starts and ends with a node."""
    done: set[str] = set()
    path: list[str] = []
    closed: list[list[str]] = []

    def walk(node: str) -> None:
        path.append(node)
        for target in sorted(graph.get(node, ())):
            if target in path:
                closed.append([*path[path.index(target) :], target])
            elif target not in done:
                walk(target)
        path.pop()
        done.add(node)

    for node in sorted(graph):
        if node not in done:
            walk(node)
    return closed


def arrows(root: Path = ROOT, levels: Sequence[Sequence[Room]] = LEVELS) -> dict[str, set[str]]:
    """Room -> the other rooms that modules of it import, by name."""
    found = modules(root)
    joined: dict[str, set[str]] = {room.name: set() for room in rooms(levels)}
    for name, targets in imports(found, root).items():
        room = room_of(found[name].path, levels)
        for target in targets:
            other = room_of(found[target].path, levels) if target in found else None
            if room is not None and other is not None and other != room:
                joined[room.name].add(other.name)
    return joined


def reduced(joined: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that a longer way of arrows implies: the fewest that say the same (no cycles)."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(joined.get(start, ()))
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += joined.get(node, ())
        return seen

    return {
        room: {target for target in targets if not any(target in reach(other) for other in targets - {target})}
        for room, targets in joined.items()
    }


def lines_of(root: Path = ROOT, levels: Sequence[Sequence[Room]] = LEVELS) -> dict[str, int]:
    """Room -> lines of Python in it."""
    counted = {room.name: 0 for room in rooms(levels)}
    for module in modules(root).values():
        room = room_of(module.path, levels)
        if room is not None:
            counted[room.name] += module.lines
    return counted
