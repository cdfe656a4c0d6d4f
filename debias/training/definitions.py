"""Python source taken apart into the definitions at the top of a module, each with what it means and mentions."""

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field

# Their words end a run, and nothing of it is kept.
_ERRORS = ("UserError", "ValueError")
# Statements that give the user a line, and calls that do nothing but put one together.
_SPOKEN = ("say", "print", "warn")
_PURE = ("len", "int", "float", "str", "sum", "min", "max", "sorted", "join", "tolist", "item", "flatten", "nonzero")


@dataclass
class Part:
    """A piece of code: what it means, the names in it with what is read from them, its texts, its own imports."""

    meaning: list[str] = field(default_factory=list)
    names: set[tuple[str, str | None]] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    imports: list[str] = field(default_factory=list)

    def add(self, node: ast.AST, package: str) -> None:
        """Take in a node, which is changed by it."""
        meant = _Meant().visit(node)
        if meant is None:
            return
        held: set[int] = set()
        for each in ast.walk(meant):
            if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
                self.names.add((each.value.id, each.attr))
                held.add(id(each.value))
            elif isinstance(each, ast.Name) and id(each) not in held:
                self.names.add((each.id, None))
            elif isinstance(each, ast.Constant) and isinstance(each.value, str):
                self.texts.add(each.value)
            elif isinstance(each, ast.Import | ast.ImportFrom):
                self.imports += [target for _, target in _imported(each, package)]
            self.names |= {(name, None) for name in _quoted(each)}
        self.meaning.append(ast.dump(_Bare().visit(meant)))

    def join(self, other: "Part") -> None:
        """Take in another piece."""
        self.meaning += other.meaning
        self.names |= other.names
        self.texts |= other.texts
        self.imports += other.imports


@dataclass
class Definition:
    """What binds a name at the top of a module; `members` of a class or a registry by name."""

    whole: Part = field(default_factory=Part)
    members: dict[str, Part] = field(default_factory=dict)
    bases: list[str] = field(default_factory=list)


class Module:
    """A module of the project, taken apart into its definitions.

    Parameters
    ----------
    name, text
        Its dotted name and its source.
    package
        What a relative import in it starts from: the package that it is in, or is.
    registries
        Places (<module>.<name>) of dictionaries whose entries are told apart.
    """

    def __init__(self, name: str, package: str, text: str, registries: frozenset[str] = frozenset()) -> None:
        self._name, self._package, self._registries = name, package, registries
        self.definitions: dict[str, Definition] = {}
        self.aliases: dict[str, list[str]] = {}
        self.imports: list[str] = []
        self.effects = Part()
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports += [target for _, target in _imported(node, self._package)]
        for statement in tree.body:
            self._take(statement)

    def _take(self, statement: ast.stmt) -> None:
        if _is_text(statement):
            return
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for name, target in _imported(statement, self._package):
                self.aliases.setdefault(name, []).append(target)
            return
        bound = sorted(_bound(statement))
        if isinstance(statement, ast.ClassDef):
            made = self.definitions.setdefault(statement.name, Definition())
            made.bases += [base.id for base in statement.bases if isinstance(base, ast.Name)]
            for member in [each for each in statement.body if not _is_text(each)]:
                name = min(_bound(member), default="unnamed statement")
                made.members.setdefault(name, Part()).add(member, self._package)
            statement.body = []
            made.whole.add(statement, self._package)
        elif len(bound) == 1 and f"{self._name}.{bound[0]}" in self._registries and (entries := _entries(statement)):
            made = self.definitions.setdefault(bound[0], Definition())
            for key, value in entries.items():
                made.members.setdefault(key, Part()).add(value, self._package)
        else:
            part = Part()
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):  # below a condition
                    for name, target in _imported(node, self._package):
                        self.aliases.setdefault(name, []).append(target)
            part.add(statement, self._package)
            for name in bound:
                self.definitions.setdefault(name, Definition()).whole.join(part)
            if not bound:
                self.effects.join(part)


class _Meant(ast.NodeTransformer):
    """Leaves out what says something and computes nothing: docstrings, words of errors, lines for the user."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documented = bool(node.body) and ast.get_docstring(node, clean=False) is not None
            node.body = node.body[documented:]
        return super().generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        spoken = isinstance(call, ast.Call) and _called(call) in _SPOKEN and _harmless(call)
        return None if spoken else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _called(node) in _ERRORS:
            node.args, node.keywords = [], []
        return self.generic_visit(node)


class _Bare(ast.NodeTransformer):
    """Leaves out annotations of functions, which are followed but mean nothing."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _is_text(statement: ast.stmt) -> bool:
    """Whether it is a text that stands by itself, to be read: a docstring, or words on the value above it."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _called(call: ast.Call) -> str:
    """The last name of what is called, without the underscore of a private one."""
    function = call.func
    name = getattr(function, "attr", None) or getattr(function, "id", "")
    return str(name).lstrip("_")


def _harmless(call: ast.Call) -> bool:
    """Whether making a line changes nothing else."""
    inside = [node for argument in (*call.args, *call.keywords) for node in ast.walk(argument)]
    calls = [node for node in inside if isinstance(node, ast.Call)]
    return all(_called(each) in _PURE for each in calls) and not any(
        isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for node in inside
    )


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """The names that an import binds, and what each stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], alias.name
        return
    base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
    for alias in node.names:
        yield alias.asname or alias.name, f"{base}.{alias.name}"


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds where it stands."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    inside = [node.target for node in ast.walk(statement) if isinstance(node, ast.comprehension)]
    own = {id(node) for target in inside for node in ast.walk(target)}
    stored = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    names = {node.id for node in stored if id(node) not in own}
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            names |= _bound(child)
    return names


def _entries(statement: ast.stmt) -> dict[str, ast.expr]:
    """The entries of a dictionary whose keys are written out; none where it is made otherwise."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    if not isinstance(value, ast.Dict):
        return {}
    found = {
        key.value: entry
        for key, entry in zip(value.keys, value.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    return found if len(found) == len(value.keys) else {}


def _quoted(node: ast.AST) -> set[str]:
    """Names in an annotation that stands in quotes."""
    annotations: list[ast.expr | None] = []
    if isinstance(node, ast.arg | ast.AnnAssign):
        annotations.append(node.annotation)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        annotations.append(node.returns)
    names: set[str] = set()
    for annotation in filter(None, annotations):
        for each in ast.walk(annotation):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                try:
                    parsed = ast.parse(each.value, mode="eval")
                except SyntaxError:
                    continue
                names |= {inner.id for inner in ast.walk(parsed) if isinstance(inner, ast.Name)}
    return names
