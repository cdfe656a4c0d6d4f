"""The functional Fisher regulariser as a stage: its batches, its figures, and its stop."""

import pytest
import torch

from debias.config import NAMED_CONFIGS
from debias.losses.fisher import METHODS
from debias.stages.fisher import information_figures, noise_size, perturbed_rows
from debias.stages.recipes import STAGES
from tests.pipeline import same, short

BIMODAL = ("dataset=bimodal_digits", "valid_fraction=0.0")


def test_it_reports_the_information_of_both_modalities(run_tiny):
    outcome = run_tiny(*BIMODAL, *short("fisher", 2))
    history = outcome.stages["fisher"].report.history
    assert all(row[f"information/{name}"] > 0 for row in history for name in ("image", "colour"))
    for when in ("first", "last"):
        parts = [outcome.summary[f"information_share/{name}/{when}"] for name in ("image", "colour")]
        assert sum(parts) == pytest.approx(100)
    assert outcome.summary["information/image/last"] == history[-1]["information/image"]
    assert {"model/unbiased/last", "model@coloured/average/last", "model@grey/average/last"} <= set(outcome.summary)


def test_the_share_is_that_of_the_information_and_not_of_its_inverse():
    rows = [
        {"information/image": 1.0, "information/colour": 3.0},
        {"information/image": 9.0, "information/colour": 1.0},
    ]
    figures = information_figures(rows, ("image", "colour"))
    assert figures["information_share/image/first"] == pytest.approx(25)
    assert figures["information_share/image/last"] == pytest.approx(90)
    assert information_figures([{"information/image": 0.0}], ("image",))["information_share/image/last"] == 100


def test_with_weights_of_zero_it_is_the_baseline(run_tiny):
    """The order of the batches is that of any stage of its name; only the term is missing."""
    words = [*BIMODAL, *short("fisher", 1), "fisher.perturb=1.0"]
    none = run_tiny(*words, "fisher.lambda_image=0.0", "fisher.lambda_colour=0.0")
    other = run_tiny(*words, "fisher.lambda_image=0.0", "fisher.lambda_colour=0.0", "fisher.n_samples=2")
    some = run_tiny(*words, "fisher.lambda_image=0.01")
    states = [outcome.artifacts["model"].states["last"] for outcome in (none, other, some)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["paper", "published"])
def test_every_form_of_the_regulariser_changes_the_training(run_tiny, form, method):
    """With its weights at zero other networks come out than with them at their values."""
    words = [*BIMODAL, *short("fisher", 1), f"fisher.form={form}", f"fisher.regularise={method}"]
    reference = NAMED_CONFIGS["protocol"]["reference"]["fisher"]
    given = {name: reference[name] for name in ("lambda_image", "lambda_colour")} if form == "published" else {}
    if given and method != "max_ent":
        # The published weights are for the inverse of an information of about 1e-10.
        given = dict.fromkeys(given, 1e6)
    some = run_tiny(*words, *(f"fisher.{name}={value}" for name, value in given.items()))
    none = run_tiny(*words, "fisher.lambda_image=0.0", "fisher.lambda_colour=0.0")
    one, other = (outcome.artifacts["model"].states["last"] for outcome in (some, none))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_is_perturbed():
    """A share of the batch, by noise as far away as the neighbours are; one size for both forms."""
    own = {"perturb": 0.1, "n_samples": 3, "neighbours": 21, "form": "paper"}
    assert [perturbed_rows(count, own) for count in (120, 15, 2)] == [12, 2, 1]
    rows = torch.rand(120, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    size = noise_size(rows, 12, own)
    flat = rows.flatten(1)
    others = torch.cdist(flat[:12], flat).sort(dim=1).values[:, 1:22]
    torch.testing.assert_close(size, others.mean(dim=1) / 784**0.5)
    # The published noise is a whole distance at every pixel, less the part of the 2 copies of the row itself.
    published = noise_size(rows, 12, own | {"form": "published"})
    torch.testing.assert_close(published, size * 784**0.5 * 63 / 65)


@pytest.mark.parametrize("form", ["paper", "published"])
def test_copies_of_the_share_are_drawn(run_tiny, form):
    """The stage draws from its generator's numbers as many as copies of the perturbed share have elements."""
    words = [*BIMODAL, *short("fisher", 1), "limit=120", "fisher.batch_size=120", f"fisher.form={form}"]
    found = [
        run_tiny(*words, f"fisher.perturb={share}", f"fisher.n_samples={copies}").artifacts["model"].states["last"]
        for share, copies in ((0.1, 3), (0.102, 3), (0.2, 3), (0.1, 2))
    ]
    # 12 and 12.24 images are 12; other shares and numbers of copies are other trainings.
    same(found[0], found[1])
    for other in found[2:]:
        assert any(not torch.equal(found[0][name], other[name]) for name in other)


def test_it_works_without_a_second_modality(run_tiny):
    outcome = run_tiny(*short("fisher", 1))
    assert outcome.summary["information_share/image/last"] == 100
    assert "information/colour/last" not in outcome.summary


@pytest.mark.parametrize("form", ["paper", "published"])
@pytest.mark.parametrize("regularise", ["max_ent", "min_ent", "max_ent_minus"])
def test_every_form_trains(run_tiny, form, regularise):
    words = ["fisher.form=" + form, "fisher.regularise=" + regularise, "fisher.estimation=var"]
    outcome = run_tiny(*BIMODAL, *short("fisher", 1), "limit=120", *words)
    assert outcome.summary["information/image/last"] > 0


def test_it_stops_when_the_loss_does_no_longer_fall(run_tiny):
    """A learning rate of 0: nothing changes, so it stops as soon as there is a loss `patience` epochs back."""
    still = ["fisher.learning_rate=0.0", "fisher.patience=2", "fisher.lambda_image=0.0", "fisher.lambda_colour=0.0"]
    outcome = run_tiny(*BIMODAL, *short("fisher", 6), "limit=120", *still)
    assert [row["epoch"] for row in outcome.stages["fisher"].report.history] == [1, 2, 3]
    on = run_tiny(*BIMODAL, *short("fisher", 4), "limit=120", *still, "fisher.learning_rate=0.01")
    assert len(on.stages["fisher"].report.history) == 4


def test_reference_names_the_published_settings():
    reference = NAMED_CONFIGS["protocol"]["reference"]["fisher"]
    assert set(reference) <= set(STAGES["fisher"].settings)
    assert reference["form"] == "published" and (reference["lambda_image"], reference["lambda_colour"]) == (
        1e-12,
        7e-11,
    )
