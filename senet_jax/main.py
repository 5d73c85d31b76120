"""Train one network.

    python -m senet_jax.main --config=configs/digits.py:seresnet20 --workdir=runs/digits
    python -m senet_jax.main --config=configs/cifar.py:seresnet20,cifar100 \\
        --config.model.se.ratio=4 --workdir=runs/x

The same command continues a run that was interrupted. All devices of this machine are used. Over
several machines, or in several processes on one machine, start the command in each process: with
--distributed where SLURM (srun), Open MPI, a TPU or Kubernetes tells JAX where the others are, or
else with --coordinator, --num_processes and --process_id.

    --config        configuration file, and after a colon its argument: network, dataset, ...
    --config.KEY    new value for a key of it, as in --config.optim.learning_rate=0.1, or for a
                    field of its network, as in --config.model.width=32
    --workdir       folder for the run's files; created if needed
    --log           loggers beside metrics.jsonl, of tensorboard (the default), wandb and mlflow, as
                    in --log=tensorboard,wandb; none for --log=
    --distributed   train with the other processes of the job
    --coordinator   HOST:PORT of process 0, the same for all processes
    --num_processes number of processes that train together
    --process_id    number of this process, from 0
    --join_timeout  seconds to wait for the other processes; 300 by default
    --flagfile      file with further flags, one a line, as any command here takes it
"""

if __name__ == "__main__":
    from senet_jax.system import startup

    startup.begin()

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from senet_jax.errors import InputError, refuse
from senet_jax.system import cli, processes
from senet_jax.training import loggers
from senet_jax.training.given import ConfigFlag

FLAGS = flags.FLAGS
ARGV: list[str] = []  # filled in by `parse`: until then, a --flagfile has not been read
CONFIG = ConfigFlag(FLAGS, ARGV)
WORKDIR = cli.define_path("workdir", None, "Folder for the run's files.")
LOG = loggers.define_flag(FLAGS)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Train with the job's other processes.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for all processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many train together.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
JOIN_TIMEOUT = flags.DEFINE_integer("join_timeout", 300, "Seconds to wait for the others.")


def main(argv: list[str]) -> None:
    config, directory = parse(argv)
    join()
    # These import JAX, which is slow: flags come first.
    from senet_jax.training import class_errors, process
    from senet_jax.training.loop import train_and_evaluate
    from senet_jax.training.result import caption, in_words

    process.begin()
    result = train_and_evaluate(config, directory, log=LOG.value)
    if processes.is_first():
        print(in_words(result, directory))
        refuse(class_errors.draw_run(directory, caption(result)))


def parse(argv: list[str]) -> tuple[ConfigDict, Path]:
    """The configuration and the work directory. Raises: InputError for bad flags."""
    ARGV[:] = argv
    for file in config_files(argv):
        cli.check_config_file(file)
    if extra := cli.parse_flags(argv, FLAGS):
        raise InputError(f"unexpected argument {extra[0]!r}; flags look like --config.seed=1")
    config = CONFIG.value
    loggers.check(LOG.value)
    if not WORKDIR.value:
        raise InputError("give a work directory, e.g. --workdir=runs/x")
    return config, Path(WORKDIR.value)


def config_files(argv: list[str]) -> list[str]:
    """The values of --config in either form. Raises: InputError if the flag is absent."""
    arguments = [argument.partition("=") for argument in argv[1:]]
    places = [place for place, (name, _, _) in enumerate(arguments) if name.strip("-") == "config"]
    if not places:
        raise InputError("give a configuration, e.g. --config=configs/digits.py:seresnet20")
    files = []
    for place in places:
        _, equals, value = arguments[place]
        if equals:
            files.append(value)
        elif place + 1 < len(arguments):
            files.append("".join(arguments[place + 1]))
    return files


def join() -> None:
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
