"""The README's method within the program; collected only where it is registered, by test_readme_examples.py."""

import pytest

from debias import main
from tests.pipeline import same


def test_settings_command_resume_and_reuse(run_tiny, configured, task):
    assert configured("confident", "confident.strength=3")["confident"]["strength"] == 3
    assert "confident" in dict(main.build().gather_commands())
    words = ("confident", "confident.epochs=3", "confident.batch_size=128", "checkpoint_seconds=0.0")

    def stop(name, value, epoch):
        if name == "confident/loss" and epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(*words, task=task, log=stop)
    said: list[str] = []
    outcome = run_tiny(*words, task=task, say=said.append)
    assert any("confident: resuming after epoch 1 of 3" in line for line in said)
    assert {f"model/unbiased/{selection}" for selection in ("last", "mean", "oracle")} <= set(outcome.summary)
    again = run_tiny(*words, task=task)
    assert again.stages["confident"].reused
    same(again.artifacts, outcome.artifacts)
