"""The flags of commands that take a trained network, whatever its source."""

from typing import TYPE_CHECKING

from absl import flags

from senet_jax.errors import InputError
from senet_jax.runs.workdir import FINAL, WEIGHTS
from senet_jax.system import cli

if TYPE_CHECKING:  # imports JAX, which is slow: flags come first
    from senet_jax.inference.classifier import Classifier


def define_network_flags(values: flags.FlagValues) -> None:
    """Define --model, --image_size and those of define_run_flags."""
    cli.define_path("model", None, "Name, hub id, file or run.", flag_values=values)
    flags.DEFINE_integer("image_size", None, "Height and width in pixels.", flag_values=values)
    define_run_flags(values)


def define_run_flags(values: flags.FlagValues) -> None:
    """Define what a run leaves to choose: --weights, --checkpoint and --eval_crop."""
    flags.DEFINE_enum("weights", FINAL, WEIGHTS, "Which of a run's.", flag_values=values)
    flags.DEFINE_enum(
        "checkpoint", "final", ["final", "latest"], "Which of a run's.", flag_values=values
    )
    flags.DEFINE_float(
        "eval_crop", None, "Side of a crop against the shorter side.", flag_values=values
    )


def check_network_flags(values: flags.FlagValues) -> None:
    """Raises: InputError for values that cannot be right, before anything slow."""
    if not values.model:
        raise InputError("give a network, e.g. --model=seresnet50.ra2_in1k or --model=runs/x")
    if values.image_size is not None and values.image_size < 1:
        raise InputError(f"--image_size must be at least 1, not {values.image_size}")
    if values.eval_crop is not None and not 0 < values.eval_crop <= 1:
        raise InputError(f"--eval_crop must be above 0 and at most 1, not {values.eval_crop}")


def load_network(values: flags.FlagValues) -> "Classifier":
    """Load what the flags ask for. Raises: InputError as load_classifier and Classifier.seen_at."""
    from senet_jax.inference.classifier import load_classifier

    network = load_classifier(
        values.model, values.weights, unfinished=values.checkpoint == "latest"
    )
    return network.seen_at(values.image_size, values.eval_crop)
