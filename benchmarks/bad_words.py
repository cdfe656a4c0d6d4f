"""Command lines and disks that cannot work, by the name of a case."""

import debias.waiting  # noqa: F401 - before torch

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bad_kit import PHOTOS, BadInput, Kit, without_rights

# Of command lines that may run, what must be said.
SAID = {
    "cli_unused": "not used by", "cli_fisher_colored": "one modality", "cli_replicas_evaluate": "not used by",
    "cli_edge": "diverged", "cli_contra_seed_twice": "of which the last counts",
}  # fmt: skip
# Answered by training as asked for.
FINE = ("cli_compile_on", "cli_replicas_compile")
# Disks: bytes that a file may have (the limit of the process), as a folder of a size cannot be made without rights.
SIZES = {"16k": 16, "64k": 64, "200k": 200, "256k": 256, "1200k": 1200}


def words_case(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    """The case of this name; None where nothing is known of it."""
    if name.startswith("cli_disk") or name in ("cli_ro_store", "cli_ro_output_export", "cli_path_sources_file"):
        return _disk(name, words, kit, folder)
    if name == "cli_unreadable_class_folder":
        return _unreadable(kit, folder)
    if name == "cli_empty_word":
        words = ["with", ""]
    words = [_filled(word, kit, folder) for word in words]
    if "long" in name:
        words = [word.partition("...")[0] for word in words]
        words = [word + "x" * 5000 if word.endswith("xxxx") else word for word in words]
    if name == "cli_opt_id_existing":
        kit.main(kit.words(["with", *_digits()], folder))
    given = {word.partition("=")[0] for word in words}
    store = [] if "store" in given or "mongo_newline" in name else [f"store={folder / 'runs'}"]
    cache = [] if "cache_dir" in given else [f"cache_dir={kit.cache}"]
    if words[0].startswith("-") or "with" not in words:
        return BadInput(lambda: kit.main(words))
    place = words.index("with") + 1
    # Options come after the settings, and stay the last words.
    full = [*words[:place], *store, *cache, *words[place:]] if name.startswith("cli_opt") else [*words, *store, *cache]
    said = next((text for start, text in SAID.items() if name.startswith(start)), "")
    return BadInput(lambda: kit.main(full), said=said, fine=name in FINE)


def _digits() -> list[str]:
    return ["colored_digits", "erm", "quick", "limit=60", "pretrain.epochs=1", "threads=1", "progress=False"]


def _filled(word: str, kit: Kit, folder: Path) -> str:
    name, _, value = word.partition("=")
    if value == "TMP":
        return f"{name}={kit.weights if name == 'checkpoint' else kit.photos(folder.parent / 'new')}"
    return word


def _disk(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    store = folder / "disk"
    store.mkdir()
    base = ["with", *_digits(), f"cache_dir={kit.cache}"]
    weights = kit.weights
    if name == "cli_path_sources_file":
        (store / "_sources").write_text("x")
        return BadInput(lambda: kit.main([*base, f"store={store}"]))
    if name == "cli_ro_output_export":
        words = ["export", "with", f"checkpoint={weights}", f"output={store}", f"store={folder / 'runs'}"]
        return _read_only(store, words, kit, folder)
    if name == "cli_ro_store":
        return _read_only(store, [*base, f"store={store}"], kit, folder)
    limit = next((size for text, size in SIZES.items() if name.endswith(text)), 20)
    if name == "cli_disk_export":
        words = ["export", "with", f"checkpoint={weights}", f"output={store}", f"store={folder / 'runs'}"]
    elif name == "cli_disk_predict_store":
        images = kit.photos(folder.parent / "new")
        words = ["predict", "with", f"checkpoint={weights}", f"folder={images}", f"store={store}"]
    else:
        words = [*base, f"store={store}"]

    def call() -> Any:
        with _files_of(1024 * limit):
            status = kit.main(words)
        left = [path.name for path in store.rglob("*") if path.name.startswith(".") and path.name.endswith(".partial")]
        if left:
            return f"LEFT {left[0]}"
        # With room, the same command ends.
        if status == 2 and kit.main(words) != 0:
            return "STATUS of the same command with room"
        return status

    return BadInput(call, fine=True)


@contextlib.contextmanager
def _files_of(most: int) -> Iterator[None]:
    """No file of this process may have more bytes: what writes more is told so, as by a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def _unreadable(kit: Kit, folder: Path) -> BadInput | None:
    root = kit.photos(folder.parent / "photos", ("cat", "dog", "bird"))
    (root / "bird").chmod(0)

    def call() -> Any:
        with without_rights(folder / "runs", kit.cache):
            return kit.main(kit.words([*PHOTOS, f"data_dir={root}"], folder))

    return BadInput(call, named="bird")


def _read_only(place: Path, words: list[str], kit: Kit, folder: Path) -> BadInput:
    place.chmod(0o555)

    def call() -> Any:
        with without_rights(folder / "runs", kit.cache):
            return kit.main(words)

    return BadInput(call, named=str(place))
