"""The tables of docs/migration.md name settings and named configs that exist."""

import re
from pathlib import Path

import pytest

from debias.catalogue import known_settings
from debias.config import NAMED_CONFIGS
from debias.stages.recipes import STAGES

TEXT = (Path(__file__).parent.parent / "docs" / "migration.md").read_text(encoding="utf-8")


def rows(title: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    lines = TEXT.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_settings_table_covers_what_the_reference_has() -> None:
    theirs = [name for row in rows("Settings") for name in names(row[0])]
    assert len(theirs) == len(set(theirs))
    assert {"random_seed", "stage2_T", "stage2_dist_weight", "bias_attr_idx", "pretrained_model_path"} <= set(theirs)


@pytest.mark.parametrize("name", sorted({name for row in rows("Settings") for name in names(row[1])}))
def test_every_setting_named_exists(name: str) -> None:
    assert name in known_settings()


@pytest.mark.parametrize(
    "title", ["EnD's options", "ReBias's options", "Learning Not to Learn's options", "Functional Fisher's options"]
)
def test_options_of_other_programs(title: str) -> None:
    """Every option has a setting that exists, or says why there is none."""
    table = rows(title)
    for theirs, ours, differs in table:
        assert ours == "–" or set(names(ours)) <= set(known_settings()), theirs
        assert ours != "–" or differs or theirs == "`--local`"
    options = [name for row in table for name in names(row[0])]
    assert len(options) == len(set(options))
    wanted = {
        "EnD's options": "device lr alpha beta weight_decay batch_size epochs rho local",
        "Learning Not to Learn's options": "exp_name n_class input_size batch_size momentum lr lr_decay_rate depth "
        "lr_decay_period weight_decay max_step color_var seed checkpoint log_step save_step data_dir save_dir "
        "data_split use_pretrain train_baseline random_seed num_workers cudnn_benchmark cuda debug is_train",
        "Functional Fisher's options": "gpu data_dir batch_size epochs lr lambda_image lambda_color n_samples norm "
        "optim_method estimation knn_value std patience",
        "ReBias's options": "root batch_size train_correlation n_confusing_labels lr optim n_epochs lr_step_size "
        "n_f_pretrain_epochs n_g_pretrain_epochs f_lambda_outer g_lambda_inner n_g_update outer_criterion "
        "inner_criterion rbf_sigma_x rbf_sigma_y hsic_alg feature_pos n_g_nets f_kernel_size g_kernel_size save_dir",
    }[title].split()
    assert {name.removeprefix("--") for name in options} >= set(wanted)


def test_commands_resolve(configured) -> None:
    commands = re.findall(r"(?:^    |`)python main.py with ([^`\n]+)", TEXT, flags=re.MULTILINE)
    assert len(commands) >= 3
    for words in commands:
        configured(*words.split())
    assert configured("biased_mnist", "end", "overlapping")["valid_fraction"] == 0.3


def test_every_dotted_setting_in_the_text_exists() -> None:
    found = re.findall(rf"\b((?:{'|'.join(STAGES)})\.[a-z_0-9]+)", TEXT)
    assert found
    assert set(found) <= set(known_settings())


def test_named_configs_map_one_to_one() -> None:
    known = {name for kind in NAMED_CONFIGS.values() for name in kind}
    for theirs, ours, _ in rows("Named configs"):
        if ours != "–":
            assert set(names(theirs)) <= known
    reference = {"colored_mnist", "corrupted_cifar10", "bffhq", "adam", "adamw", "reverse", "type0", "type1"}
    reference |= {f"skewed{i}" for i in range(5)} | {f"severity{i}" for i in range(1, 5)}
    assert reference <= known
