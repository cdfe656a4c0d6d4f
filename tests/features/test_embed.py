"""Images become features once: whatever set they come in, whoever is killed, and whatever happens to the files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from debias.data.mapped import MappedImages
from debias.errors import UserError
from debias.features import embed
from debias.features.embed import Embedder, Rows, embedded, view
from debias.features.source import Source, find_source
from debias.models.embedders import Embedding
from debias.models.onfeatures import EARLY
from debias.models.resnet import CifarResNet

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    torch.manual_seed(1)
    network, path = CifarResNet(), tmp_path_factory.mktemp("weights") / "small.safetensors"
    network(torch.rand(8, 3, 16, 16))  # normalisation has seen something
    save_file(network.state_dict(), path)
    return find_source(f"resnet20@{path}", None, str(path.parent))


def images(count: int, seed: int = 0, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def test_features_are_those_of_the_network_and_its_first_layers(source, tmp_path):
    pixels = images(40)
    (found,) = embedded([pixels], source, 2, tmp_path, CPU, progress=False)
    network, channels = source.build(16)
    with torch.no_grad():
        whole = Embedding(network, channels).eval()
        for number in (0, 1):
            seen = pixels.float() / 255 if number == 0 else (pixels.float() / 255).flip(3)
            torch.testing.assert_close(found[:, number].float(), whole(seen).flatten(1), atol=2e-2, rtol=2e-3)
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in channels)
            late = network((seen - mean) / std)
            torch.testing.assert_close(found[:, number, :64].float(), late, atol=2e-2, rtol=2e-3)
    assert found.dtype == torch.float16 and found.shape == (40, 2, 64 + EARLY)
    early = found[:, 0, 64:].float()
    assert early[:, : 6 * 16].std(0).min() > 0 and early[:, 6 * 16 :].abs().max() == 0


def test_an_image_is_embedded_once_whatever_comes_with_it(source, tmp_path, monkeypatch):
    pixels, seen = images(30), []
    call = Embedder.__call__
    monkeypatch.setattr(
        Embedder, "__call__", lambda self, some, number=0: seen.append(len(some)) or call(self, some, number)
    )
    first = embedded([pixels[:20], pixels[20:25]], source, 1, tmp_path, CPU, progress=False)
    assert sum(seen) == 25
    # Other parts, another order, an image twice, one more view: only what is new.
    mapped = MappedImages([pixels.numpy()], torch.tensor([27, 3, 3, 24]), streaming="always")
    again = embedded([mapped], source, 1, tmp_path, CPU, progress=False)
    assert sum(seen) == 26
    assert torch.equal(again[0][1], first[0][3]) and torch.equal(again[0][2], first[0][3])
    assert torch.equal(again[0][3], first[1][4])
    both = embedded([pixels[:20]], source, 2, tmp_path, CPU, progress=False)
    assert sum(seen) == 46 and torch.equal(both[0][:, :1], first[0])


def test_threads_change_nothing_but_the_time(source, tmp_path):
    pixels = images(100)
    one = embedded([pixels], source, 1, tmp_path / "one", CPU, progress=False)
    two = embedded([pixels], source, 1, tmp_path / "two", CPU, workers=3, progress=False)
    torch.testing.assert_close(one[0].float(), two[0].float(), atol=1e-2, rtol=1e-3)


KILLED = """
import os, signal, sys
import torch
from debias.features import embed
from debias.features.source import find_source
embed._ROWS = 8
write = embed.Rows.write
def dying(self, names, rows):
    write(self, names, rows)
    if len(list(self.folder.glob("*.safetensors"))) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
embed.Rows.write = dying
generator = torch.Generator().manual_seed(0)
pixels = torch.randint(0, 256, (60, 3, 16, 16), dtype=torch.uint8, generator=generator)
embed.embedded([pixels], find_source(sys.argv[1], None, "."), 1, sys.argv[2], torch.device("cpu"), progress=False)
"""


def test_a_killed_process_loses_only_what_it_was_at(source, tmp_path, monkeypatch):
    words = [sys.executable, "-c", KILLED, f"resnet20@{source.file}", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    seen = []
    call = Embedder.__call__
    monkeypatch.setattr(
        Embedder, "__call__", lambda self, some, number=0: seen.append(len(some)) or call(self, some, number)
    )
    (found,) = embedded([images(60)], source, 1, tmp_path, CPU, progress=False)
    assert sum(seen) == 60 - 24
    (whole,) = embedded([images(60)], source, 1, tmp_path / "whole", CPU, progress=False)
    torch.testing.assert_close(found.float(), whole.float(), atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("harm", ["one byte", "cut short", "empty", "other names"])
def test_damaged_files_of_the_cache_are_made_again_with_a_line(source, tmp_path, monkeypatch, harm):
    monkeypatch.setattr(embed, "_ROWS", 8)
    pixels = images(20)
    (before,) = embedded([pixels], source, 1, tmp_path, CPU, progress=False)
    file = sorted(Rows(tmp_path, source, 16).folder.glob("*.safetensors"))[1]
    content = bytearray(file.read_bytes())
    if harm == "one byte":
        content[-5] ^= 64
    elif harm == "cut short":
        content = content[: len(content) // 2]
    elif harm == "empty":
        content = bytearray()
    if harm == "other names":
        file.rename(file.with_stem("0" * 32))
    else:
        file.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="is damaged .* embedded again"):
        (after,) = embedded([pixels], source, 1, tmp_path, CPU, progress=False)
    torch.testing.assert_close(before.float(), after.float(), atol=1e-2, rtol=1e-3)


def test_a_cache_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cache_dir .*cannot be written to"):
        embedded([images(3)], source, 1, tmp_path / "file", CPU, progress=False)


def test_views():
    pixels = torch.rand(2, 3, 16, 16)
    assert torch.equal(view(pixels, 0), pixels) and torch.equal(view(pixels, 1), pixels.flip(3))
    middle = view(pixels, 2)
    assert middle.shape == pixels.shape and torch.equal(view(pixels, 3), middle.flip(3))
    # Fourteen of sixteen pixels a side: what is at the border is gone.
    framed = torch.zeros(1, 3, 16, 16)
    framed[:, :, 0] = 1
    assert view(framed, 2).abs().max() == 0
