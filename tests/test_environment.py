"""The pinned environment and the shell scripts that make it (no network, nothing is installed)."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9a-z.]*)")
CHOSEN_BY_TORCH = re.compile(r"nvidia-.*|cuda-.*|triton")
NOT_OURS = {"node_modules", "runs"}
SETS = ["bffhq", "celeba", "bar"]
SCRIPTS = [
    *(f"scripts/{name}.sh" for name in SETS),
    "scripts/quickstart.sh",
    "scripts/coloredmnist.sh",
    "scripts/omniboard.sh",
    "scripts/pack_for_gpu.sh",
    "scripts/on_gpu.sh",
    "scripts/test.sh",
    ".ci/run",
]


def requirement_lines(name: str) -> list[str]:
    """The lines of a requirements file that say something, without comments."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def pins(lines: list[str]) -> dict[str, str]:
    """Package to version; a line that is not `name==version` fails, and so does a name pinned twice."""
    found: dict[str, str] = {}
    for line in lines:
        match = PIN.fullmatch(line)
        assert match, f"not of the form name==version: {line!r}"
        assert match[1] not in found, f"pinned twice: {match[1]}"
        found[match[1]] = match[2]
    return found


RUN_PINS = pins(requirement_lines("requirements.txt"))
TEST_PINS = RUN_PINS | pins(requirement_lines("requirements-test.txt")[1:])


def test_test_requirements_stand_on_those_of_a_run() -> None:
    assert requirement_lines("requirements-test.txt")[0] == "-r requirements.txt"
    assert len(TEST_PINS) == len(RUN_PINS) + len(requirement_lines("requirements-test.txt")) - 1


def test_setuptools_still_has_what_sacred_imports() -> None:
    assert Version(RUN_PINS["setuptools"]) < Version("82")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt", "denetdm.yml", "package.json", ".npmrc"])
def test_no_address_in_environment_files(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|--?(index|extra-index|find-links|hash)\b", text)


def test_node_packages_are_pinned_without_a_registry() -> None:
    package = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = package["dependencies"] | package["devDependencies"]
    assert {name: lock[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert not any("resolved" in entry for entry in lock.values())
    assert all("integrity" in entry for name, entry in lock.items() if name)
    # Build tools that Omniboard asks for at run time are replaced by a package of a few lines.
    assert not any("babel" in entry.get("name", "") for entry in lock.values())


def test_compose_listens_on_this_machine_only() -> None:
    text = (ROOT / "compose.yml").read_text(encoding="utf-8")
    ports = re.findall(r'- "([\d.:]+)"', text)
    assert len(ports) == 2 and all(port.startswith("127.0.0.1:") for port in ports)


def test_conda_environment_has_the_same_pins() -> None:
    head, _, pip_part = (ROOT / "denetdm.yml").read_text(encoding="utf-8").partition("  - pip:\n")
    assert "\nname: denetdm\n" in head
    assert "\n  - python=3.11\n" in head
    items = pip_part.splitlines()
    assert all(item.startswith("      - ") for item in items)
    assert pins([item.removeprefix("      - ") for item in items]) == RUN_PINS


def test_every_requirement_of_a_pinned_package_is_pinned_and_satisfied() -> None:
    """Checked for those packages that are installed in the pinned version."""
    checked = 0
    for name, version in TEST_PINS.items():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if Version(distribution.version).public != version:
            continue
        checked += 1
        for text in distribution.requires or []:
            needed = Requirement(text)
            needed_name = canonicalize_name(needed.name)
            if (needed.marker and not needed.marker.evaluate({"extra": ""})) or CHOSEN_BY_TORCH.fullmatch(needed_name):
                continue
            assert needed_name in TEST_PINS, f"{name} needs {text}: pin it"
            assert needed.specifier.contains(TEST_PINS[needed_name], prereleases=True), f"{name} needs {text}"
            assert needed_name in RUN_PINS or name not in RUN_PINS, f"{name} needs {text} at run time"
    assert checked > len(TEST_PINS) // 2, "too few of the pinned versions are installed to check anything"


def imported_packages(file: Path) -> set[str]:
    """First parts of the absolute imports at the top level of `file`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def our_files() -> list[Path]:
    """Python files of the project; folders that other tests or programs fill meanwhile are not entered."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in NOT_OURS and not name.startswith(".")]
        found += [Path(folder) / name for name in names if name.endswith(".py")]
    return found


def test_every_imported_package_is_pinned() -> None:
    """Optional packages are imported inside the function that uses them, and not seen here."""
    own = {path.stem for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    providers = metadata.packages_distributions()
    files = our_files()
    assert files
    for file in files:
        allowed = TEST_PINS if "tests" in file.relative_to(ROOT).parts else RUN_PINS
        for module in imported_packages(file) - own - sys.stdlib_module_names:
            distributions = {canonicalize_name(name) for name in providers.get(module, [module])}
            assert distributions & allowed.keys(), f"{file.relative_to(ROOT)} imports {module}, which is not pinned"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_header_and_does_nothing_else(script: str, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    done = subprocess.run([copy / script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    second_line = (ROOT / script).read_text(encoding="utf-8").splitlines()[1]
    assert done.stdout.startswith(second_line.removeprefix("# ") + "\n")
    assert "#" not in done.stdout
    assert not (copy / ".venv").exists()


STUB_PYTHON = """#!/usr/bin/env bash
# Stands for .venv/bin/python: answers the version question, writes down what else it is asked.
case "$1" in
    -c) [[ "$2" != *version_info* ]] || echo "3.11 $0" ;;
    *) echo "python $*" >>"$LOG"; [[ "$*" != *"${FAIL_ON:-nothing}"* ]] || exit "${FAIL_STATUS:-1}" ;;
esac
"""
STUB_UV = """#!/usr/bin/env bash
echo "uv ${*: -2}" >>"$LOG"
exit "${UV_STATUS:-0}"
"""


class Project:
    """A copy of the scripts beside a .venv of stubs; `log` is what the stubs were asked to do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log_file = root / "log"
        shutil.copytree(ROOT / "scripts", root / "scripts")
        (root / ".venv/bin").mkdir(parents=True)
        for name, text in (("python", STUB_PYTHON), ("uv", STUB_UV)):
            stub = root / ".venv/bin" / name
            stub.write_text(text, encoding="utf-8")
            stub.chmod(0o755)
        (root / "requirements.txt").write_text("numpy==1\n", encoding="utf-8")
        (root / "requirements-test.txt").write_text("pytest==1\n", encoding="utf-8")
        (root / "errors.py").touch()

    def call(self, script: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.log_file.write_text("", encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "SEEDS", "SKEWS")}
        environment |= {"LOG": str(self.log_file), "CDPATH": str(self.root.parent / "elsewhere")} | variables
        command = ["bash", f"{self.root.name}/scripts/{script}", *args]
        return subprocess.run(command, cwd=self.root.parent, env=environment, capture_output=True, text=True)

    @property
    def log(self) -> list[str]:
        return self.log_file.read_text(encoding="utf-8").splitlines()

    def installs(self) -> list[str]:
        return [line for line in self.log if line.startswith("uv ")]


NO_DATABASE = """#!/usr/bin/env bash
# Stands for .venv/bin/python on a machine without a database.
case "$*" in
    -c*) [[ "$2" != *version_info* ]] || echo "3.11 $0" ;;
    *"browse find")
        echo "python $* MONGO_URL=${MONGO_URL:-}" >>"$LOG"
        [[ -n "${MONGO_URL:-}" ]] || exit 3
        echo "$MONGO_URL" ;;
    *"browse port") echo 1234 ;;
    *"browse wait")
        echo "python $* MONGO_URL=${MONGO_URL:-}" >>"$LOG"
        [[ "$MONGO_URL" != *:1234/* ]] || until grep -q ^secantusd "$LOG"; do sleep 0.05; done ;;
    *) echo "python $* MONGO_URL=${MONGO_URL:-}" >>"$LOG" ;;
esac
"""


@pytest.mark.parametrize("url", ["", "mongodb://host:1/db"])
def test_omniboard_finds_or_starts_a_database(project: "Project", url: str) -> None:
    root = project.root
    for name in ("node", "npm", "secantusd-py"):
        text = f'#!/usr/bin/env bash\necho "{name} $* MONGO_URI=${{MONGO_URI:-}}" >>"$LOG"\n'
        (root / ".venv/bin" / name).write_text(text, encoding="utf-8")
        (root / ".venv/bin" / name).chmod(0o755)
    (root / ".venv/bin/python").write_text(NO_DATABASE, encoding="utf-8")
    (root / "package-lock.json").write_text("{}", encoding="utf-8")
    (root / "node_modules").mkdir()
    path = f"{root / '.venv/bin'}:{os.environ['PATH']}"
    done = project.call("omniboard.sh", PATH=path, MONGO_URL=url, STORE="my runs")
    assert done.returncode == 0, done.stderr
    used = url or "mongodb://127.0.0.1:1234/sacred"
    starts = [line for line in project.log if line.startswith("secantusd-py")]
    assert len(starts) == (0 if url else 1)
    assert all("--host 127.0.0.1 --port 1234 --storage-path my runs/database" in line for line in starts)
    calls = [line for line in project.log if not line.startswith(("uv", "secantusd-py", "npm"))][1:]
    assert calls == [
        f"python -m debias.tracking.mongo.browse wait MONGO_URL={used}",
        f"python main.py sync with store=my runs MONGO_URL={used}",
        f"python -m debias.tracking.mongo.browse columns MONGO_URL={used}",
        f"node -r ./scripts/loopback.cjs node_modules/.bin/omniboard MONGO_URI={used}",
    ]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "a project"
    root.mkdir()
    # Where a `cd` that follows CDPATH would end.
    (tmp_path / "elsewhere/a project/scripts").mkdir(parents=True)
    return Project(root)


def test_installs_once_and_again_when_a_file_changed(project: Project) -> None:
    assert project.call("quickstart.sh").returncode == 0
    assert project.installs() == ["uv -r requirements.txt"]
    assert project.call("quickstart.sh").returncode == 0
    assert project.installs() == []
    (project.root / "requirements.txt").write_text("numpy==2\n", encoding="utf-8")
    assert project.call("quickstart.sh").returncode == 0
    assert project.installs() == ["uv -r requirements.txt"]


def test_scripts_with_different_requirements_do_not_undo_each_other(project: Project) -> None:
    for script, expected in (("quickstart.sh", 1), ("test.sh", 1), ("quickstart.sh", 0), ("test.sh", 0)):
        assert project.call(script).returncode == 0
        assert len(project.installs()) == expected, script


def test_failed_install_is_repeated(project: Project) -> None:
    assert project.call("quickstart.sh").returncode == 0
    (project.root / "requirements.txt").write_text("numpy==2\n", encoding="utf-8")
    failed = project.call("quickstart.sh", UV_STATUS="1", FAIL_ON="-m pip")
    assert failed.returncode == 2
    assert "installation failed" in failed.stderr
    assert not any("main.py" in line for line in project.log)
    # The former contents must not count as installed either: the failed attempt may have touched them.
    (project.root / "requirements.txt").write_text("numpy==1\n", encoding="utf-8")
    assert project.call("quickstart.sh").returncode == 0
    assert len(project.installs()) == 1


def test_pip_takes_over_from_uv(project: Project) -> None:
    assert project.call("quickstart.sh", UV_STATUS="1").returncode == 0
    assert "python -m pip install --quiet --disable-pip-version-check -r requirements.txt" in project.log


def test_python_that_is_none_is_named(project: Project) -> None:
    failed = project.call("quickstart.sh", PYTHON="no-such-python")
    assert failed.returncode == 2
    assert "PYTHON=no-such-python" in failed.stderr
    assert project.log == []


def test_quickstart_runs_both_methods(project: Project) -> None:
    assert project.call("quickstart.sh", "seed=2").returncode == 0
    runs = [line for line in project.log if "main.py" in line]
    assert runs == [
        f"python main.py with colored_digits skewed3 severity4 {method} quick seed=2" for method in ("erm", "denetdm")
    ]


def test_grid_goes_on_after_a_failure_and_lists_it(project: Project) -> None:
    done = project.call(
        "coloredmnist.sh", "denetdm", SEEDS="1 2", SKEWS="skewed1 skewed4", FAIL_ON="skewed1", FAIL_STATUS="3"
    )
    assert done.returncode == 1
    assert [line for line in project.log if "main.py" in line] == [
        f"python main.py with colored_mnist {skew} severity4 seed={seed} denetdm"
        for skew in ("skewed1", "skewed4")
        for seed in (1, 2)
    ]
    assert "2 of 4 runs failed" in done.stderr
    assert re.findall(r"status 3: .*(skewed\d).*seed=(\d)", done.stderr) == [("skewed1", "1"), ("skewed1", "2")]


@pytest.mark.parametrize("name", SETS)
def test_scripts_of_image_sets_run_every_seed(project: Project, name: str) -> None:
    done = project.call(f"{name}.sh", "dcwp", SEEDS="11 22", FAIL_ON="seed=11", FAIL_STATUS="3")
    assert done.returncode == 1 and "1 of 2 runs failed" in done.stderr
    runs = [line for line in project.log if "main.py" in line]
    assert runs == [f"python main.py with {name} seed={seed} dcwp" for seed in (11, 22)]


def test_grid_is_five_seeds_of_four_skews_unless_told(project: Project) -> None:
    assert project.call("coloredmnist.sh").returncode == 0
    assert len({line for line in project.log if "main.py" in line}) == 20


def test_grid_stops_when_a_run_is_interrupted(project: Project) -> None:
    assert project.call("coloredmnist.sh", FAIL_ON="skewed1", FAIL_STATUS="130").returncode == 130
    assert sum("main.py" in line for line in project.log) == 1
