"""The one training loop: epochs, optimiser steps, evaluation, selection, checkpoints, progress."""

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from debias.data.batches import Batch
from debias.randomness import derive
from debias.training.artifacts import Checkpoint
from debias.training.checkpoints import check_checkpoint
from debias.training.diverged import check_losses
from debias.training.evaluation import Evaluation, evaluate, evaluate_on_tests
from debias.training.heldout import FIGURE, SELECTION, unbiased_on_held_out, with_pseudo_labels
from debias.training.job import Fitted, Job
from debias.training.optimisers import lay_out_state
from debias.training.progress import epoch_bar, headline
from debias.training.repeatable import noting_what_is_not
from debias.training.selections import Selections
from debias.training.speed import speed_up
from debias.training.stage import Context
from debias.training.steps import add_to, captured_step, told


def fit(job: Job, ctx: Context) -> Fitted:
    """Train, or resume training from the stage's checkpoint; where several seeds are trained together, beside them.

    Everything random in an epoch is drawn from generators seeded by (seed, stage, epoch), so a checkpoint needs no
    random state and an epoch that is repeated after an interruption is the same epoch.
    """
    if ctx.together is not None:
        fitted: Fitted = ctx.together.fit(job, ctx)
        return fitted
    return fit_alone(job, ctx)


def fit_alone(job: Job, ctx: Context) -> Fitted:
    """`fit` of one job by itself."""
    loop = Loop(job, ctx)
    loop.resume(ctx.folder.load_checkpoint())
    return loop.run()


class Loop:
    """The parts of `fit` for one job, for whoever puts its steps together."""

    def __init__(self, job: Job, ctx: Context) -> None:
        self.job = job
        self.ctx = ctx
        self.done = 0
        self.replicas = 1
        self.group: Sequence[str] = ()  # of the checkpoint that training goes on from
        self.history: list[dict[str, float]] = []
        self.selections = Selections(job.model, job.epochs)
        self._saved = time.monotonic()
        self._generator = torch.Generator(device=ctx.device)
        self._totals: dict[str, Tensor] = {}
        self.nondeterministic: list[str] | None = None
        self._pseudo = with_pseudo_labels(ctx.task, ctx.held_out_bias)
        self.speed = speed_up(job.model, ctx)
        self._lay_out_states()
        own = (p for update in job.updates for group in update.optimiser.param_groups for p in group["params"])
        self._parameters = list(dict.fromkeys([*job.model.parameters(), *own]))
        self._rates = [[group["lr"] for group in update.optimiser.param_groups] for update in job.updates]
        self.factor = 1.0
        self._captured = captured_step(self._step_at, [job], [self._generator], ctx)

    def run(self) -> Fitted:
        """All epochs that are left."""
        if self.ends_here():
            return self.fitted(stopped=True)
        with self.bar(self.ctx.stage) as bar:
            while self.done < self.job.epochs:
                self.measure(*self.train())
                check_losses(self.ctx.stage, self.history[-1:])
                bar.set_postfix_str(self.headline(), refresh=False)
                bar.update()
                if self.wants_to_stop():
                    return self.fitted(stopped=True)
                # After the question: a run that resumes from the checkpoint is not asked about this epoch again.
                if self.checkpoint_due():
                    self.checkpoint()
        self.measure_mean()
        return self.fitted()

    def fitted(self, stopped: bool = False) -> Fitted:
        """What has been done."""
        speed = {**self.speed, "graph": self._recorded()}
        if self._captured is not None:
            self._captured.forget()  # its memory is for the next stage
        return Fitted(
            self.history, self.selections.with_states(), speed, stopped, self.replicas, self.nondeterministic or ()
        )

    def bar(self, name: str) -> "tqdm[Any]":
        """A progress bar of the epochs."""
        return epoch_bar(name, self.done, self.job.epochs, self.ctx.progress)

    def resume(self, state: Checkpoint | None) -> None:
        """Resume from a checkpoint where there is one."""
        if state is None:
            return
        before = self._beginning()
        try:
            self._take(state)
        except Exception as error:  # whatever the content of a foreign or damaged checkpoint leads to
            self._take(before)
            self.ctx.say(
                f"{self.ctx.stage}: its checkpoint is not one of this training and is not used "
                f"({type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]})"
            )
            return
        self.ctx.say(f"{self.ctx.stage}: resuming after epoch {self.done} of {self.job.epochs}")
        for row in self.history:
            self._log(row)

    def _beginning(self) -> Checkpoint:
        """The state from which training starts, as a checkpoint has it."""
        return Checkpoint(
            model={name: value.clone() for name, value in self.job.model.state_dict().items()},
            optimisers=[copy.deepcopy(update.optimiser.state_dict()) for update in self.job.updates],
            tensors={name: tensor.clone() for name, tensor in self.job.tensors.items()},
            history=[],
            selected={},
            mean={},
        )

    def _take(self, state: Checkpoint) -> None:
        """Take over a checkpoint; any error for one that is not of this training."""
        optimisers = [update.optimiser for update in self.job.updates]
        check_checkpoint(state, self.job.model.state_dict(), optimisers, self.job.tensors, self.job.epochs)
        self.job.model.load_state_dict(state.model)
        for optimiser, saved in zip(optimisers, state.optimisers, strict=True):
            optimiser.load_state_dict(dict(saved))
        self._lay_out_states()
        for name, tensor in self.job.tensors.items():
            tensor.copy_(state.tensors[name])
        self.selections.restore(state.selected, state.mean, self.ctx.device)
        self.done, self.history = len(state.history), [dict(row) for row in state.history]
        self.group, self.replicas = tuple(state.group), state.replicas
        self.nondeterministic = list(state.nondeterministic) if state.history else None
        self.speed = {**self.speed, "graph": True} if state.captured else self.speed

    def begin(self) -> torch.Generator:
        """Make ready for the next epoch: modes, learning rates, randomness. Its generator, the same in every epoch."""
        job, epoch = self.job, self.done
        self._generator.manual_seed(derive(self.ctx.seed, self.ctx.stage, epoch))
        self.ctx.generator = self._generator
        torch.manual_seed(derive(self.ctx.seed, self.ctx.stage, "layers", epoch))
        job.model.train()
        for module in job.frozen:
            module.eval()
        self._set_rates(epoch)
        return self._generator

    def train(self) -> tuple[dict[str, float], float]:
        """The next epoch's batches; the mean of every loss and log, read from the device once, and the seconds."""
        job, started = self.job, time.monotonic()
        generator, totals = self.begin(), self._totals
        for total in totals.values():
            total.zero_()
        if self._captured is not None:
            self._captured.run(job.batches.order(generator))
        else:
            for batch in job.batches.epoch(generator):
                self._step(batch)
        if job.after_epoch is not None:
            job.after_epoch()
        values = torch.stack([total.float() for total in totals.values()]).tolist()
        means = {name: value / len(job.batches) for name, value in zip(totals, values, strict=True)}
        return means, time.monotonic() - started

    def _step_at(self, index: Tensor) -> None:
        self._step(self.job.batches.batch(index, self._generator))

    def _step(self, batch: Batch) -> None:
        """All updates on one batch; what they give is added to the epoch's totals, which stay the same tensors."""
        if self.nondeterministic is None:
            with noting_what_is_not(self.ctx.device) as self.nondeterministic:
                return self._step(batch)
        for number, update in enumerate(self.job.updates):
            try:
                given = update.loss(batch)
            except ValueError as error:
                raise told(error, self.ctx.stage) from error
            loss, logs = (given, {}) if isinstance(given, Tensor) else given
            loss.backward()
            update.optimiser.step()
            # By hand: `zero_grad` and its hooks cost 3 % of a step of an MLP. All are cleared, so that one update
            # leaves nothing behind for another one's step.
            for parameter in self._parameters:
                parameter.grad = None
            add_to(self._totals, {f"loss{number or ''}": loss, **logs})
        return None

    def measure(self, means: Mapping[str, float], seconds: float) -> None:
        """End an epoch: evaluate every read-out, note the figures, and keep the weights of the best epochs."""
        task, job, epoch = self.ctx.task, self.job, self.done
        row: dict[str, float] = {"epoch": float(epoch + 1), "seconds": seconds, **means}
        tested = evaluate_on_tests(job.model, job.read_outs, task)
        row |= _figures(tested)
        self.selections.keep("last", epoch, tested)
        rule = job.rule if f"{job.main}/{job.rule}" in row else "average"
        if self._best(row, f"{job.main}/{rule}"):
            self.selections.keep("oracle", epoch, tested)
        if task.valid is not None:
            # Their bias labels are not looked at either.
            held_out = evaluate(job.model, job.read_outs, task, task.valid.without_bias())
            row |= {f"{task.selection}/{name}": value for name, value in _figures(held_out).items()}
            if self._best(row, f"{task.selection}/{job.main}/average"):
                self.selections.keep(task.selection, epoch, tested)
        if self._pseudo is not None:
            unbiased = unbiased_on_held_out(job.model, job.read_outs, self._pseudo)
            row |= {f"{SELECTION}/{name}/{FIGURE}": value for name, value in unbiased.items()}
            if self._best(row, f"{SELECTION}/{job.main}/{FIGURE}"):
                self.selections.keep(SELECTION, epoch, tested)
        self.history.append(row)
        self._log(row)
        self.selections.average(epoch)
        self.done += 1

    def wants_to_stop(self) -> bool:
        """Whether the job gives up after the epochs it has done."""
        return self.job.stop is not None and self.job.stop(self.done)

    def ends_here(self) -> bool:
        """Whether the job gives up after the epoch of its checkpoint: a joint one is written whoever gives up there."""
        unasked, self.group = bool(self.group), ()
        return unasked and self.wants_to_stop()

    def measure_mean(self) -> None:
        """Evaluate the mean of the weights, and leave the model with its last ones."""
        last = {name: value.detach().clone() for name, value in self.job.model.state_dict().items()}
        self.job.model.load_state_dict(self.selections.mean)
        tested = evaluate_on_tests(self.job.model, self.job.read_outs, self.ctx.task)
        self.selections.keep("mean", len(self.history) - 1, tested)
        self.job.model.load_state_dict(last)

    def headline(self) -> str:
        """The figure of the main read-out in a few words."""
        return headline(self.history[-1], self.job.main)

    def checkpoint_due(self) -> bool:
        """Whether it is time for one: not after the last epoch, and not soon after the one before."""
        late = time.monotonic() - self._saved >= self.ctx.checkpoint_seconds
        return late and self.done < self.job.epochs

    def checkpoint(self, group: Sequence[str] = ()) -> None:
        """Replace the stage's checkpoint; or, of a group that is trained together, keep it until all have theirs."""
        state = Checkpoint(
            # Copies: weights may be views of those of several seeds, all of which would be written.
            model={name: value.clone() for name, value in self.job.model.state_dict().items()},
            optimisers=[update.optimiser.state_dict() for update in self.job.updates],
            tensors=self.job.tensors,
            history=self.history,
            selected=self.selections.with_states(),
            mean=self.selections.mean,
            group=tuple(group),
            replicas=self.replicas,
            nondeterministic=list(self.nondeterministic or ()),
            captured=self._recorded(),
        )
        (self.ctx.folder.save_pending if group else self.ctx.folder.save_checkpoint)(state)
        self._saved = time.monotonic()

    def _recorded(self) -> bool:
        own = self._captured is not None and self._captured.recorded
        return own or self.speed.get("graph", False)

    def _best(self, row: Mapping[str, float], key: str) -> bool:
        """Whether the row beats every earlier one; the first of equals stays."""
        return key in row and all(row[key] > earlier[key] for earlier in self.history if key in earlier)

    def _lay_out_states(self) -> None:
        for update in self.job.updates:
            lay_out_state(update.optimiser)

    def _set_rates(self, epoch: int) -> None:
        factor = 1.0 if self.job.schedule is None else self.job.schedule(epoch)
        if factor != self.factor and self._captured is not None:
            self._captured.forget()
        self.factor = factor
        for update, rates in zip(self.job.updates, self._rates, strict=True):
            for group, rate in zip(update.optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _log(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "epoch":
                self.ctx.log(f"{self.ctx.stage}/{name}", value, int(row["epoch"]))


def _figures(evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
    return {f"{name}/{figure}": value for name, one in evaluations.items() for figure, value in one.figures.items()}
