"""The examples of the README (method, data set, network, tracker, figure), pasted into a copy of the program."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("debias", "tests", "scripts")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", README, flags=re.DOTALL))
# `TEXT` in `NAME` of `FILE`, and imports before it.
LINES = re.findall(
    r"^\* The lines?: (?:`(from [^`]+)` and )?`([^`]+)` in\s+`(\w+)` of\s+`([^`]+)`", README, flags=re.MULTILINE
)


def registered(text: str, line: str, name: str) -> str:
    """A file's text with a line at the end of one of its tuples or mappings."""
    before, opened, rest = re.split(rf"^({name}\b[^=\n]*= [\[({{])", text, maxsplit=1, flags=re.MULTILINE)
    if rest.startswith("\n"):
        closing = re.search(r"^[])}]", rest, flags=re.MULTILINE)
        line = f"    {line}\n"
    else:
        closing = re.search(r"[])}]$", rest, flags=re.MULTILINE)
        line = f", {line.rstrip(',')}"
    assert closing is not None
    return f"{before}{opened}{rest[: closing.start()]}{line}{rest[closing.start() :]}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with every example in its file, registered by the line that the README gives."""
    folder = tmp_path_factory.mktemp("copy")
    for pattern in ("*.py", *FOLDERS):
        for path in ROOT.glob(pattern):
            # With times and what Python has compiled: what is not changed below is not compiled again.
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif path.suffix == ".py":
                shutil.copy2(path, folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, text in EXAMPLES.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text, encoding="utf-8")
    for imported, line, name, file in LINES:
        text = registered((folder / file).read_text(encoding="utf-8"), line, name)
        if imported:
            text = re.sub(r"^from ", f"{imported}\nfrom ", text, count=1, flags=re.MULTILINE)
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def run(copy: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=copy, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_an_example_of_each_with_its_line() -> None:
    assert {Path(name).parts[1] for name in EXAMPLES} >= {"stages", "data", "models", "tracking", "training"}
    # A figure has a second one: its name in the vocabulary.
    assert len(LINES) == len(EXAMPLES) + 1


def test_examples_pass_the_checks_of_style(copy: Path) -> None:
    run(copy, "-m", "ruff", "check", "--no-cache", *EXAMPLES)
    run(copy, "-m", "ruff", "format", "--no-cache", "--check", *EXAMPLES)


def test_the_method_trains_the_network_on_the_data_set(copy: Path, cache_dir: Path) -> None:
    words = ("patched_digits", "confident", "confident.network=tiny", "confident.epochs=2", "confident.strength=0.3")
    machine = ("limit=600", "threads=1", "progress=False", "pictures=False", f"cache_dir={cache_dir}", "store=runs")
    out = run(copy, "main.py", "with", *words, *machine)
    assert "model" in out and "unbiased" in out
    assert (copy / "runs" / "log.txt").read_text(encoding="utf-8").split("\t")[1] == "COMPLETED"
    summary = json.loads((copy / "runs" / "1" / "info.json").read_text(encoding="utf-8"))["summary"]
    assert 0 < summary["model/gap/last"] <= 100
    assert "confident" in run(copy, "results.py", "list", "method=confident", "--columns", "method,model/unbiased/last")


def test_the_tests_over_all_names_pass_with_them(copy: Path) -> None:
    """Those that read registries, and the README's method run, interrupted, resumed and reused."""
    chosen = (
        "tests/test_settings.py",
        "tests/models/test_registry.py",
        "tests/test_architecture.py",
        "tests/readme_method.py",
    )
    # The networks that were there have been through theirs.
    new = "not current and (not every_backbone or tiny)"
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, "-k", new)
