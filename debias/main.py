"""Train classifiers that do not take the shortcut.

python main.py with colored_mnist skewed1 severity4          both stages of DeNetDM
python main.py with colored_digits skewed3 erm quick         a baseline in a minute, no download
python main.py branches with colored_mnist                   the recipe up to and including one stage
python main.py evaluate with colored_mnist checkpoint=FILE   the full table of stored weights
python main.py probe with colored_mnist checkpoint=FILE      how much bias is left in the features of stored weights
python main.py study with own_images data_dir=photos         name the shortcut, train what helps, leave one page
python main.py diagnose with own_images data_dir=photos      is there a shortcut in them, and what is it?
python main.py samples with biased_mnist                     what the images look like
python main.py review RUN                                    look at suspects and mark them, on a page in your browser
python main.py sync                                          transfer runs to MongoDB that are missing there
python main.py predict with checkpoint=FILE folder=FOLDER    classes and probabilities of images, as a table
python main.py export with checkpoint=FILE                   the final model alone, for use elsewhere, and its card
python main.py print_config with ...                         every setting, its value and its meaning
python main.py help                                          data sets, methods, named configs, commands
"""

import debias.waiting  # noqa: F401 - before torch
from debias.starting import loaded

import sys
from collections.abc import Sequence
from typing import NoReturn

from docopt import DocoptExit

from debias.commands import console
from debias.commands.experiment import build, check_words, run_words
from debias.commands.review import review_run
from debias.endings import status_of
from debias.errors import UserError

loaded()


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status (0 done, 1 an error of the program, 2 a user error, 130 interrupted)."""
    return status_of(lambda: _run(list(arguments)))


def _run(words: list[str]) -> int:
    experiment = build()
    if any(word in ("help", "-h", "--help") for word in words[:1]):
        console.show_help(experiment, __doc__ or "", words[1:])
        return 0
    if words[:1] == ["review"]:
        # Of a run that is there: it makes none.
        return review_run(words[1:])
    try:
        check_words(experiment, words)
        run_words(experiment, words)
    except DocoptExit as error:
        raise UserError(f"cannot make sense of {' '.join(words)}; see `python main.py help`") from error
    return 0


def run() -> NoReturn:
    """The command line of this process."""
    sys.exit(main(sys.argv[1:]))
