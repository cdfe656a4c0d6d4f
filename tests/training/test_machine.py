"""How the CPU is set up, and the device a setting names."""

import platform
import subprocess
import sys

import pytest
import torch

from debias.errors import UserError
from debias.training.machine import device_name, pick_device

# In a process of its own: the mode and the threads last as long as a process.
PROGRAM = """
import torch
from debias.training.machine import prepare_cpu
def kept():
    tiny = torch.full((1_000_000,), 1e-37) * 0.001
    return int((tiny.view(torch.int32) != 0).sum())
before = kept() if {look_first} else None
prepare_cpu({threads})
print(before, kept(), torch.get_num_threads())
"""


def outputs(look_first: bool, threads: int | None) -> list[str]:
    program = PROGRAM.format(look_first=look_first, threads=threads)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_denormal_numbers_are_flushed_on_every_thread() -> None:
    assert outputs(look_first=False, threads=2) == ["None", "0", "2"]


def test_without_it_they_are_kept_so_that_the_test_above_can_fail() -> None:
    assert outputs(look_first=True, threads=1)[0] == "1000000"


FAULTS = """
import resource, torch
from debias.training.machine import prepare_cpu
torch.set_num_threads(1)
if {prepared}:
    prepare_cpu(1)
images = torch.zeros(64, 3, 224, 224, dtype=torch.uint8)
for _ in range(12):
    images * 0.5  # 38 MB, freed immediately
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    images * 0.5
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told to keep memory")
def test_the_memory_of_a_large_batch_is_used_again() -> None:
    pages = []
    for prepared in (True, False):
        program = [sys.executable, "-c", FAULTS.format(prepared=prepared)]
        pages.append(int(subprocess.run(program, capture_output=True, text=True, check=True).stdout))
    assert pages[0] < 100 < 1000 < pages[1]


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_here_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"device={name}: not available here .*; try device=auto") as refusal:
        pick_device(name)
    assert "\n" not in str(refusal.value)


def test_the_record_names_the_threads_of_a_cpu() -> None:
    assert device_name(torch.device("cpu")) == f"cpu, {torch.get_num_threads()} threads"
