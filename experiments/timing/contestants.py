"""The steps that the benchmark times: our networks, the same with plain layers, and in PyTorch.

    python -m experiments.timing.contestants ENTRY

The command is one contestant, a process that experiments/timing/race.py asks; ENTRY are the fields
of an Entry in JSON. Data are random and lie on the device. A training step is forward, backward and
an update by SGD with Nesterov momentum and weight decay.

`fused` is ours with implementation="fused", `no-onednn` is ours without oneDNN. PyTorch's processes
do not import JAX; for a dtype other than float32 they use autocast. On a GPU both sides choose
their kernels by trying them, and have TF32 for float32. On a CPU our networks and those of plain
layers have huge pages, as our commands do; of PyTorch's contestants only `torch-huge` has them.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.timing.answers import Steps, serve
from senet_jax.errors import InputError
from senet_jax.system import cli, host_memory, processors

IMPLEMENTATIONS = {"ours": "auto", "no-onednn": "auto", "fused": "fused", "plain": "xla"}
WITHOUT_HUGE_PAGES = ("torch", "torch-nchw", "torch-compile")
CONTESTANTS = (*IMPLEMENTATIONS, *WITHOUT_HUGE_PAGES, "torch-huge")
WHAT = ("train", "infer")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A contestant that takes steps.

    Attributes:
      who: the contestant's name, one of CONTESTANTS.
      fields: arguments of `senet_jax.create_model`, with the network's `name`.
      what: the kind of step, one of WHAT.
      batch: images per step, on all devices together.
      size: side of an image, in pixels.
      counts: numbers of parameters that a twin in PyTorch may have.
      dtype: dtype of activations, one of DTYPES.
      devices: number of devices that share a batch; on a CPU they are simulated.
    """

    who: str
    fields: Mapping[str, Any]
    what: str
    batch: int
    size: int
    counts: Sequence[int] = ()
    dtype: str = "float32"
    devices: int = 1
    module = "experiments.timing.contestants"

    def arguments(self) -> list[str]:
        return [json.dumps(dataclasses.asdict(self))]


@dataclasses.dataclass(frozen=True)
class Built:
    """A contestant that is ready.

    Attributes:
      steps: takes that many steps and waits for the last one alone.
      seconds: seconds of its compilation, 0 if there is none.
      facts: functions by name; race.py gets what they return when it asks.
    """

    steps: Steps
    seconds: float
    facts: Mapping[str, Callable[[], Any]]


def main(argv: list[str]) -> None:
    built = build(Entry(**json.loads(argv[1])))
    serve(built.steps, built.seconds, facts=built.facts)


def build(entry: Entry) -> Built:
    """Build a contestant. Raises: InputError if this machine lacks what it needs."""
    random = np.random.default_rng(0)
    images = random.standard_normal((entry.batch, entry.size, entry.size, 3), dtype=np.float32)
    labels = random.integers(0, 10, entry.batch)
    if entry.who.startswith("torch"):
        try:
            from experiments.timing import torch_steps
        except ImportError as error:
            raise InputError(
                f"{error.name} is not installed: pip install -e '.[parity]', or leave torch out of "
                f"--against"
            ) from None
        return Built(*torch_steps.build(entry, images, labels))
    host_memory.release_after_compilation()
    return _jax(entry, images, labels)


def _jax(entry: Entry, images: np.ndarray, labels: np.ndarray) -> Built:
    import jax
    import jax.numpy as jnp
    import optax

    from experiments.timing import ceilings
    from senet_jax import create_model
    from senet_jax.layers.cpu import onednn

    if entry.who == "no-onednn":
        os.environ[onednn.VARIABLE] = "0"
    onednn.enable(len(processors.usable()))
    devices = _devices(entry.devices)
    fields = dict(entry.fields)
    if entry.who != "ours":
        fields["implementation"] = IMPLEMENTATIONS[entry.who]
    if entry.dtype != "float32":
        fields["dtype"] = jnp.dtype(entry.dtype)
    model = create_model(**fields)
    optimizer = optax.chain(
        optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9, nesterov=True)
    )
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    params = variables["params"]
    state = (params, variables["batch_stats"], optimizer.init(params))
    batch = {"image": images, "label": labels}
    is_training = entry.what == "train"
    compiled, state, batch, seconds = _compile(
        _step(model, optimizer, entry), state, batch, devices, donate_state=is_training
    )

    def steps(count: int) -> None:
        nonlocal state
        result = None
        for _ in range(count):
            result = compiled(state, batch)
            state = result if is_training else state
        jax.block_until_ready(result)

    device = devices[0]
    facts = {
        **({} if device.platform == "cpu" else {"peak_gb": lambda: _peak_gb(device)}),
        "hardware": lambda: "" if device.platform == "cpu" else device.device_kind,
        "moved_gb": lambda: ceilings.bytes_of(compiled) / 1e9,
        "machine_tflops": lambda: ceilings.flops(entry.dtype, devices) / 1e12,
        "machine_gb_s": lambda: ceilings.bandwidth(devices) / 1e9,
    }
    return Built(steps, seconds, facts)


def _step(model: Any, optimizer: Any, entry: Entry) -> Any:
    """The step that an entry takes, from state and batch."""
    import jax
    import optax

    from senet_jax.system.devices import AXIS, average_over_devices

    axis = AXIS if entry.devices > 1 else None

    def train(state: Any, batch: Any) -> Any:
        params, stats, moments = state

        def loss_of(params: Any) -> Any:
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses.mean(), updates["batch_stats"]

        computed = jax.grad(loss_of, has_aux=True)(params)
        gradients, stats = average_over_devices(computed, axis)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), stats, moments

    def infer(state: Any, batch: Any) -> Any:
        return model.apply({"params": state[0], "batch_stats": state[1]}, batch["image"])

    return train if entry.what == "train" else infer


def _peak_gb(device: Any) -> float:
    return device.memory_stats()["peak_bytes_in_use"] / 1e9


def _devices(count: int) -> list[Any]:
    """The devices to use. Raises: InputError if there are fewer."""
    import jax

    if count > 1:
        jax.config.update("jax_num_cpu_devices", count)  # no effect on others
    devices = jax.local_devices()
    if len(devices) < count:
        raise InputError(f"--devices={count}, and this machine has {len(devices)}")
    return devices[:count]


def _compile(
    step: Any, state: Any, batch: Any, devices: list[Any], *, donate_state: bool
) -> tuple[Any, Any, Any, float]:
    """Compile a step; returns it, state and batch where it wants them, and the seconds it took."""
    import jax

    from senet_jax.layers import platforms
    from senet_jax.system.devices import (
        SHARD_MAP,
        DeviceGroup,
        map_step,
        place_batches,
        replicate,
    )

    if len(devices) == 1:
        mapped: Any = jax.jit(
            platforms.on(devices[0].platform, step), donate_argnums=0 if donate_state else ()
        )
        state, batch = jax.device_put((state, batch))
    else:
        group = DeviceGroup.of(devices, SHARD_MAP)
        # Of an inference the first device's logits are returned; the others compute theirs as well.
        mapped = map_step(step, group, donate_state=donate_state)
        state, batch = replicate(state, group), place_batches([batch], group)
    start = time.perf_counter()
    compiled = mapped.lower(state, batch).compile()
    return compiled, state, batch, time.perf_counter() - start


if __name__ == "__main__":
    if json.loads(sys.argv[1])["who"] not in WITHOUT_HUGE_PAGES:
        host_memory.use_huge_pages()
    cli.run(main, __doc__)
