"""Sweeps whose file is not what it should be, by the name of a case."""

import debias.waiting  # noqa: F401 - before torch

from pathlib import Path

from benchmarks.bad_kit import BadInput, Kit


def of_sweeps(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    """The case of this name; None where nothing is known of it."""
    from debias import sweep

    if name != "s_nul_datadir":
        return None
    path = folder / "s.yaml"
    path.write_text('with: [own_images, erm, "data_dir=a\\0b"]\ngrid: {seed: [1]}\n')
    return BadInput(lambda: sweep.main([str(path), f"store={folder / 'runs'}", f"cache_dir={kit.cache}"]))
