"""What a run of a command makes once per process, made here for every process that is forked from one that imports it:
the project's code taken apart for the keys of stages, and what draws pictures or writes ONNX files. Half of the time of
a small run.
"""

import contextlib
import gc

import debias.tracking.pictures.heat
import debias.tracking.pictures.information
import debias.tracking.pictures.matrices
import debias.tracking.pictures.plots
import debias.tracking.pictures.suspects
import debias.tracking.pictures.transfer  # noqa: F401
from debias.stages.recipes import STAGES
from debias.training.code import code_digest

with contextlib.suppress(ImportError):
    import torch.onnx._internal.exporter._core  # noqa: F401

for _stage in STAGES.values():
    code_digest(type(_stage).__module__, type(_stage).__qualname__, frozenset())
gc.freeze()
