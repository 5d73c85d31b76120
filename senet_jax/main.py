"""Train one network.

    python -m senet_jax.main --config=configs/cifar.py:seresnet20,cifar100 \\
        --config.model.se.ratio=4 --workdir=runs/x

All devices of this machine are used. Over several machines, or several processes on one, start it
in each process, with --distributed where SLURM (srun), Open MPI, a TPU or Kubernetes tells JAX
where the others are, or else with --coordinator=HOST:PORT --num_processes=N --process_id=I.
"""

if __name__ == "__main__":
    from senet_jax.system import startup

    startup.begin()

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from senet_jax.errors import InputError
from senet_jax.system import cli, host_memory, processes

FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's files go; created if needed.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Train with the job's other processes.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for all processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many train together.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0 on.")
JOIN_TIMEOUT = flags.DEFINE_integer("join_timeout", 300, "Seconds to wait for the others.")


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

    _join()
    # These import JAX, which is slow: flags come first.
    from senet_jax.system import compilation_cache
    from senet_jax.training.loop import train_and_evaluate
    from senet_jax.training.result import in_words

    compilation_cache.enable()
    host_memory.release_after_compilation()
    result = train_and_evaluate(CONFIG.value, Path(WORKDIR.value))
    if processes.is_first():
        print(in_words(result, Path(WORKDIR.value)))


def _join() -> None:
    """Meet the other processes, if any flag says that there are some."""
    address, count, index = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
    if address is None and count is None and index is None:
        if DISTRIBUTED.value:
            processes.join(None, None, None, JOIN_TIMEOUT.value)
        return
    if address is None or count is None or index is None:
        raise InputError("--coordinator, --num_processes and --process_id go together: give all")
    if not 0 <= index < count:
        raise InputError(f"--process_id must be from 0 to {count - 1}, not {index}")
    if ":" not in address:
        raise InputError(f"--coordinator must be HOST:PORT, not {address!r}")
    processes.join(address, count, index, JOIN_TIMEOUT.value)


if __name__ == "__main__":
    cli.run(main, __doc__, continues=True)
