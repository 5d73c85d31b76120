"""The configuration that flags make."""

from absl import flags

from senet_jax.system import cli
from senet_jax.training.given import ConfigFlag


def configured(file, *arguments):
    """The configuration that `python -m senet_jax.main` makes of its flags."""
    argv = ["main", f"--config={file}", *arguments]
    values = flags.FlagValues()
    flag = ConfigFlag(values, argv)
    cli.parse_flags(argv, values)
    return flag.value
