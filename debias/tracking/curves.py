"""The curves of a run's final model, under names that all methods share. Imports nothing heavy."""

from collections.abc import Iterator, Mapping
from typing import Any

from debias.vocabulary import FIGURES, FINAL_READ_OUTS

Metric = Mapping[str, Any]  # steps, values and timestamps, as Sacred keeps them


def final_curves(metrics: Mapping[str, Metric], final: Mapping[str, str] | None = None) -> Iterator[tuple[str, Metric]]:
    """Figure and metric <stage>/<read-out>/<figure> of the final model.

    final : stage and read_out, as `info["final"]` of a run says; None for a record that does not say, where it is the
        read-out of a known name in the stage that came last
    """
    if final is not None:
        for figure in FIGURES:
            name = f"{final['stage']}/{final['read_out']}/{figure}"
            if name in metrics:
                yield figure, metrics[name]
        return
    in_time = sorted(metrics, key=lambda name: metrics[name]["timestamps"][:1])
    for figure in FIGURES:
        named = {
            read_out: name
            for name in in_time
            for read_out in FINAL_READ_OUTS
            if name.count("/") == 2 and name.endswith(f"/{read_out}/{figure}")
        }
        likely = next((named[read_out] for read_out in FINAL_READ_OUTS if read_out in named), None)
        if likely is not None:
            yield figure, metrics[likely]
