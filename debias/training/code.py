"""A digest of the code that can change a stage's result: changed code never reuses an old one, other code changes none.

Code counts definition by definition. From the stage's class every name is followed that a definition mentions, in
bodies, base classes, decorators and annotations, to the function, class or value of the project that it stands for,
wherever that is. A class counts whole, as which of its methods are called cannot be told from names. Not counted are

* comments, docstrings, layout, annotations themselves, the words of errors, and lines for the user (`say`, `print`,
  `warn`);
* what a stage says of itself before it runs (`ASIDE`): values of settings are in its key anyway;
* entries of the registries that code looks up by a setting (`REGISTRIES`), but for those that settings or code name;
* the modules in `NEUTRAL`.

What a model artifact was made by is in the key of the stage that made it, so its network is not counted again. Whatever
cannot be resolved counts more than it needs to: a whole module where a name is not found, and every statement at the
top of an imported module that binds no name.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

from debias.digests import digest
from debias.training.definitions import Definition, Module, Part

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "debias"

# How results are stored, shown and asked for does not change them, nor does how threads wait.
NEUTRAL = frozenset(
    {
        # It only gives names to programs that import it.
        "debias",
        "debias.training.store",
        "debias.training.code",
        "debias.training.definitions",
        "debias.training.progress",
        "debias.training.yielding",
        "debias.stages.recipes",
        "debias.settings",
        "debias.errors",
        # How features come about has a version of its own, in the key under which they are kept.
        "debias.features.choice",
        "debias.features.embed",
        "debias.features.source",
    }
)
# Dictionaries in which code looks up one entry, under a name that a setting, or the code itself, gives.
REGISTRIES = frozenset(
    {"debias.models.registry.BACKBONES", "debias.training.optimisers.OPTIMISERS", "debias.data.augment.AUGMENTATIONS"}
)
# Members of a stage's class that are read before it runs.
ASIDE = frozenset({"summary", "settings", "check", "content"})
# What is done around a definition by code that it does not name.
AROUND = {
    "debias.training.stage.Stage": ("debias.data.split.hold_out",),
    "debias.training.loop.fit": (
        "debias.training.machine.prepare_cpu",
        "debias.training.repeatable.prefer_deterministic",
        "debias.training.replicas.fit_together",
    ),
}


@functools.cache
def code_digest(module: str, name: str, words: frozenset[str]) -> str:
    """Hex digest of the code that can change a stage's result.

    Parameters
    ----------
    module, name
        Where the stage's class is, and what it is called.
    words
        What its settings and its data name: networks, optimisers, augmentations.
    """
    return _project().digest(module, name, words)


@functools.cache
def _project() -> "Project":
    return Project(ROOT, PACKAGE)


class Project:
    """The code below a folder.

    package : the only one that is the project's, as others may lie beside it where it is installed; None for all
    """

    def __init__(self, root: Path, package: str | None = None) -> None:
        self._root, self._package = root, package
        self._modules: dict[str, Module | None] = {}

    def digest(self, module: str, name: str, words: Iterable[str]) -> str:
        """Digest of what a stage's class reaches; nothing where the project does not have it."""
        reached = self.reached(module, name, words)
        return digest({where: part.meaning for where, part in reached.items()})

    def reached(self, module: str, name: str, words: Iterable[str]) -> dict[str, Part]:
        """The code that counts for a stage's class, by <module>.<name>, and <module>.<name>:<member> of a part."""
        walk = _Walk(self, self._stages(module, name), set(words))
        walk.reach(f"{module}.{name}")
        walk.finish()
        return walk.found

    def _stages(self, module: str, name: str) -> set[str]:
        """A stage's class and those it inherits from."""
        found: set[str] = set()
        waiting = [f"{module}.{name}"]
        while waiting:
            place = self.place(waiting.pop())
            if place is not None and place not in found:
                found.add(place)
                home, _, own = place.rpartition(".")
                owner = self.module(home)
                assert owner is not None
                for base in owner.definitions[own].bases:
                    waiting += [f"{home}.{base}", *owner.aliases.get(base, ())]
        return found

    def module(self, name: str) -> Module | None:
        """A module by its dotted name; None where the project has none."""
        if name not in self._modules:
            base = self._root.joinpath(*name.split("."))
            files = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
            found = None
            ours = self._package is None or name.partition(".")[0] == self._package
            if files and name and ours:
                package = name if files[0].name == "__init__.py" else name.rpartition(".")[0]
                found = _taken_apart(name, package, files[0].read_text(encoding="utf-8"))
            self._modules[name] = found
        return self._modules[name]

    def place(self, target: str) -> str | None:
        """Where a dotted name is defined, through modules that only import it; None where that cannot be told."""
        for _ in range(10):
            home, _, name = target.rpartition(".")
            owner = self.module(home)
            if owner is None:
                return None
            if name in owner.definitions:
                return target
            if len(owner.aliases.get(name, ())) != 1:
                return None
            target = owner.aliases[name][0]
        return None


@functools.cache
def _taken_apart(name: str, package: str, text: str) -> Module:
    return Module(name, package, text, REGISTRIES)


class _Walk:
    """Follows names from one definition to the next."""

    def __init__(self, project: Project, stages: set[str], words: set[str]) -> None:
        self.found: dict[str, Part] = {}
        self._project, self._stages, self._words = project, stages, words
        self._seen: set[str] = set()
        self._imported: set[str] = set()
        self._registries: dict[str, Definition] = {}
        self._waiting: list[str] = []

    def reach(self, target: str) -> None:
        """Count what a dotted name stands for: a definition, or a module as a whole."""
        self._waiting.append(target)

    def finish(self) -> None:
        """Until nothing new is found."""
        while True:
            while self._waiting:
                self._reach(self._waiting.pop())
            for place, registry in self._registries.items():
                for key in self._words & set(registry.members):
                    self._take(place.rpartition(".")[0], f"{place}:{key}", registry.members[key])
            if not self._waiting:
                return

    def _reach(self, target: str) -> None:
        if target in self._seen:
            return
        self._seen.add(target)
        place = self._project.place(target)
        module = self._project.module(target)
        if place is not None:
            self._define(place)
        elif module is not None and target not in NEUTRAL:
            self._import(target)
            for name in module.definitions:
                self.reach(f"{target}.{name}")
            for targets in module.aliases.values():
                self._waiting += targets
        else:
            # A name that its module does not have: the whole module, where it is the project's.
            home = target.rpartition(".")[0]
            owner = self._project.module(home)
            if owner is not None:
                self._waiting += owner.aliases.get(target.rpartition(".")[2], []) or [home]

    def _define(self, place: str) -> None:
        home, _, name = place.rpartition(".")
        if home in NEUTRAL:
            return
        self._import(home)
        module = self._project.module(home)
        assert module is not None
        definition = module.definitions[name]
        self._take(home, place, definition.whole)
        self._waiting += AROUND.get(place, ())
        if place in REGISTRIES and definition.members:
            self._registries[place] = definition
            return
        aside = ASIDE if place in self._stages else frozenset()
        members = {member: part for member, part in definition.members.items() if member not in aside}
        for member, part in members.items():
            self._take(home, f"{place}:{member}", part)
        if members:
            # The order of fields is that of a constructor's arguments.
            self.found[f"{place}:"] = Part(list(members))

    def _take(self, home: str, place: str, part: Part) -> None:
        if place in self.found:
            return
        self.found[place] = part
        self._words |= part.texts
        module = self._project.module(home)
        assert module is not None
        self._waiting += [*part.imports, *module.aliases.get("*", ())]
        for name, attribute in part.names:
            if name in module.definitions:
                self.reach(f"{home}.{name}")
            for target in module.aliases.get(name, ()):
                whole = attribute is None or self._project.module(target) is None
                self.reach(target if whole else f"{target}.{attribute}")

    def _import(self, name: str) -> None:
        """What a module does when it is imported counts, and that of those it imports."""
        if name in self._imported or name in NEUTRAL:
            return
        self._imported.add(name)
        module = self._project.module(name)
        if module is not None:
            if module.effects.meaning:
                self._take(name, f"{name}.", module.effects)
            for target in module.imports:
                self._import(target)
        parent = name.rpartition(".")[0]
        if parent:
            self._import(parent)
