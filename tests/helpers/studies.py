"""What tests go through with every study, and a small grid."""

from experiments.grid.plan import plan
from experiments.studies import load_study

BIAS = load_study("bias")  # two rows


def grid(config, directory, seeds=(0,)):
    """Plan two rows of the study."""
    return plan(BIAS, [config.copy_and_resolve_references() for _ in BIAS.rows], seeds, directory)


def datasets_of(study):
    """A dataset of each recipe that the study can be trained on."""
    # Images of imagenet2012 are streamed, and `transfer` halves classes in memory.
    most = ("imagenet2012",) if study.name != "transfer" else ()
    return ("digits", "cifar100", *most)
