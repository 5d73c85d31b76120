"""Train one network.

    python -m senet_jax.main --config=configs/cifar.py:seresnet20,cifar100 \\
        --config.model.se.ratio=4 --workdir=runs/x
"""

if __name__ == "__main__":
    from senet_jax import startup

    startup.begin()

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from senet_jax import cli, host_memory
from senet_jax.errors import InputError

FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's files go; created if needed.")


def main(argv: list[str]) -> None:
    if not any(argument.split("=")[0].strip("-") == "config" for argument in argv[1:]):
        raise InputError("give a configuration, e.g. --config=configs/digits.py:seresnet20")
    for position, argument in enumerate(argv):
        if argument.strip("-").startswith("config="):
            cli.check_config_file(argument.partition("=")[2])
        elif argument.strip("-") == "config" and position + 1 < len(argv):
            cli.check_config_file(argv[position + 1])
    if left_over := cli.parse_flags(argv, FLAGS):
        raise InputError(f"unexpected argument {left_over[0]!r}; flags look like --config.seed=1")
    if not isinstance(CONFIG.value, ConfigDict):
        raise InputError(f"get_config() must return a ConfigDict, not {CONFIG.value!r}")
    if not WORKDIR.value:
        raise InputError("give a work directory, e.g. --workdir=runs/x")

    # These import JAX, which is slow: flags come first.
    from senet_jax import compilation_cache, results
    from senet_jax.train import train_and_evaluate

    compilation_cache.enable()
    host_memory.release_after_compilation()
    result = train_and_evaluate(CONFIG.value, Path(WORKDIR.value))
    print(results.in_words(result, Path(WORKDIR.value)))


if __name__ == "__main__":
    cli.run(main, __doc__)
