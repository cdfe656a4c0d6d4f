"""The package as `pip install` makes it: whole, runnable from anywhere, and with the stages of a checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHORT = (
    "with", "colored_digits", "erm", "pretrain.epochs=1", "limit=300", "threads=1", "progress=False",
)  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and its programs."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(ROOT / "debias", source / "debias", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    words = [*pip, "--no-build-isolation", "--target", str(folder / "site"), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def call(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin" / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_file_of_the_package_is_in_it(installed: Path) -> None:
    def files(folder: Path) -> set[Path]:
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {path for path in found if "__pycache__" not in path.parts}

    assert files(installed / "debias") == files(ROOT / "debias")


def test_it_declares_the_pinned_requirements_and_brings_nothing_else(installed: Path) -> None:
    (metadata,) = installed.glob("debias-*.dist-info")
    lines = (metadata / "METADATA").read_text(encoding="utf-8").splitlines()
    required = {line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist")}
    pins = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    assert {pin for pin in pins if pin} == {line for line in required if "extra ==" not in line}
    assert {path.name for path in installed.iterdir()} == {"debias", "bin", metadata.name}


@pytest.mark.recipe
def test_a_run_of_the_package_is_a_run_of_the_checkout(installed: Path, tmp_path: Path, cache_dir: Path) -> None:
    """The key of a stage has the digest of its code, so one that is found is of the same code and no more of it."""
    shared = (*SHORT, f"cache_dir={cache_dir}", f"store={tmp_path / 'runs'}")
    first = call(installed, tmp_path, "debias", *shared)
    assert first.returncode == 0 and "unbiased" in first.stdout, first.stderr
    (stage,) = (tmp_path / "runs" / "stages").iterdir()
    words = [sys.executable, str(ROOT / "main.py"), *shared]
    second = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert list((tmp_path / "runs" / "stages").iterdir()) == [stage]
    table = call(installed, tmp_path, "debias-results", "--store", str(tmp_path / "runs"))
    assert table.returncode == 0 and "erm" in table.stdout, table.stderr


def test_the_other_program_and_the_module_answer(installed: Path, tmp_path: Path) -> None:
    said = call(installed, tmp_path, "debias-sweep", "--help")
    assert said.returncode == 0 and "many runs" in said.stdout.lower(), said.stderr
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    words = [sys.executable, "-m", "debias", "with", "no_such_data_set"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: no named config is called"), done.stderr


def test_the_class_is_loaded_only_when_it_is_asked_for(installed: Path, tmp_path: Path) -> None:
    code = "import sys, debias; assert 'torch' not in sys.modules; debias.Study; assert 'torch' in sys.modules"
    code += "; import debias.main; assert 'matplotlib' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'Sturdy'"):
        import debias

        debias.Sturdy  # noqa: B018
