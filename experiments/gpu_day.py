"""Do on a GPU what is due there, in stages of under ten minutes: tests, bits, speed, runs, a trace.

    python -m experiments.gpu_day --workdir=runs/gpu_day
    python -m experiments.gpu_day --workdir=runs/smoke --smoke       (in miniature, on any machine)

A stage is a command of this repository in a process of its own; its output is in WORKDIR/STAGE.log.
What is done has a file WORKDIR/STAGE.done, so the same command continues after an interruption. A
stage that fails, or takes longer than ten minutes, is named at the end, and the others go on. Of
the campaign each call does ten minutes: give the command again until it is done.

Nothing needs TensorFlow. The tests have float32 as such (JAX_DEFAULT_MATMUL_PRECISION=highest),
without the TF32 that is a GPU's default.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from senet_jax.errors import InputError, refuse
from senet_jax.system import cli, files

LIMIT_S = 570
TESTED = ("layers", "models", "evaluation", "inference", "weights", "training")
TIMED = ("seresnet50", "resnet50", "seresnext50_32x4d", "seresnet20_cifar", "seresnet56_cifar")
SHORT_AND_WIDE = (  # all ratios differ at a width of 64; an epoch is a call
    "--config.model.name=sewrn16_4_cifar",
    "--config.model.dtype=bfloat16",
    "--config.train.batch_size=256",
    "--config.train.epochs=40",
    "--config.train.eval_every_epochs=40",
    "--config.train.steps_per_call=97",
    "--seeds=0,1,2,3,4,5",
)
BITS = ("bits_once", "bits_twice")  # two runs of the same seed
EXACT = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
SAME_BITS = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
RESULTS = Path(__file__).parent / "results" / "timing" / "performance"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command: the module and its arguments, and what it has in its environment besides."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    cli.define_path("workdir", "runs/gpu_day", "Where logs and runs are.", flag_values=values)
    flags.DEFINE_bool("smoke", False, "All stages in miniature.", flag_values=values)
    if rest := cli.parse_flags(argv, values):
        raise InputError(f"gpu_day takes flags only, not {rest[0]!r}")
    workdir = Path(values.workdir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage is ended as well
    problems = run_all(stages(workdir, smoke=values.smoke), workdir)
    refuse([*problems, *same_bits(workdir)])


def stages(workdir: Path, *, smoke: bool) -> list[Stage]:
    """The stages in their order."""
    tests = ["config"] if smoke else TESTED
    path = {"config": "tests/test_config.py"}
    quick = [
        Stage(f"tests_{room}", ["pytest", "-q", "-n", "0", path.get(room, f"tests/{room}")], EXACT)
        for room in tests
    ]
    short = ["--config.train.epochs=1"] if smoke else []
    config = "digits.py:seresnet20" if smoke else "cifar.py:seresnet20,cifar100"
    train = ["senet_jax.main", f"--config=configs/{config}", *short]
    twice = [Stage(name, [*train, f"--workdir={workdir / name}"], SAME_BITS) for name in BITS]
    races = [
        Stage(f"speed_{network}_{what}", _race(network, what, workdir, smoke=smoke))
        for network in (["seresnet20_cifar"] if smoke else TIMED)
        for what in ("train", "infer")
    ]
    study = ["experiments.run", "reduction", f"--workdir={workdir / 'campaign'}"]
    wide = ["--dataset=cifar100_half", *SHORT_AND_WIDE]
    campaign = [*study, *(["--smoke"] if smoke else wide)]
    trace = [*train, f"--workdir={workdir / 'profile'}", "--config.train.profile_steps=(20,22)"]
    return [*quick, *twice, *races, Stage("campaign", campaign), Stage("profile", trace)]


def _race(network: str, what: str, workdir: Path, *, smoke: bool) -> list[str]:
    command = ["experiments.benchmark", network, f"--what={what}"]
    if smoke:
        return [*command, "--batch=2", "--steps=1", f"--csv={workdir / 'speed'}"]
    batch = 1024 if network.endswith("_cifar") else 256
    against = "--against=torch,torch-compile,fused,plain"
    return [*command, "--dtype=bfloat16", f"--batch={batch}", against, f"--csv={RESULTS}"]


def run_all(stages: Sequence[Stage], workdir: Path, limit_s: float = LIMIT_S) -> list[str]:
    """Run the stages that are not done; returns a sentence for each that fails."""
    workdir.mkdir(parents=True, exist_ok=True)
    problems = []
    for stage in stages:
        done = workdir / f"{stage.name}.done"
        if done.exists():
            print(f"{stage.name}: done before", flush=True)
            continue
        start = time.perf_counter()
        if problem := _run(stage, workdir / f"{stage.name}.log", limit_s):
            problems.append(problem)
        else:
            files.write(done, b"")
        print(problem or f"{stage.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return problems


def _run(stage: Stage, log: Path, limit_s: float) -> str | None:
    """Run a stage; returns what went wrong, if anything did."""
    environment = dict(os.environ)
    for name, value in stage.environment.items():
        environment[name] = " ".join(filter(None, (environment.get(name), value)))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *stage.command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.terminate()  # a run then writes a checkpoint, from which it continues
            process.wait()
            return f"{stage.name} was not done in {limit_s:.0f} s; the same command continues"
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return f"{stage.name} failed; see {log}" if status else None


def same_bits(workdir: Path) -> list[str]:
    """Compare the weights of the two runs, if both are done; returns what differs."""
    results = [workdir / name / "result.json" for name in BITS]
    if not all(result.exists() for result in results):
        return []
    one, two = (json.loads(result.read_text("utf-8"))["params_sha256"] for result in results)
    if one == two:
        print("the same bits twice")
        return []
    return [
        f"two runs of the same seed ended with different weights: {', '.join(map(str, results))}"
    ]


if __name__ == "__main__":
    cli.run(main, __doc__)
