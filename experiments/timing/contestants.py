"""The steps that the benchmark times: our networks, the same with plain layers, and in PyTorch.

    python -m experiments.timing.contestants WHO NETWORK WHAT BATCH SIZE [PARAMETERS ...]

The command is one contestant, a process that experiments/timing/race.py asks. NETWORK is a model's
fields in JSON; PARAMETERS are the counts of parameters that a twin in PyTorch may have.

The process first answers with the seconds that its compilation took. For each line `step` that it
reads it takes a step and answers with its seconds; for a line `peak` it answers with its peak
memory in GB. Data are random and lie in memory. A training step is forward, backward and an update
by SGD with Nesterov momentum and weight decay.

PyTorch's processes do not import JAX. Our networks and those of plain layers have huge pages, as
our commands do; of PyTorch's contestants only `torch-huge` has them.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from senet_jax.errors import InputError
from senet_jax.system import cli, host_memory

CONTESTANTS = ("ours", "plain", "torch", "torch-nchw", "torch-huge")
WITHOUT_HUGE_PAGES = ("torch", "torch-nchw")
WHAT = ("train", "infer")

Step = Callable[[], None]


def main(argv: list[str]) -> None:
    who, fields, what, *numbers = argv[1:]
    batch, size, *counts = map(int, numbers)
    serve(*build(who, json.loads(fields), what, batch, size, counts))


def serve(step: Step, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
    """Answer with `seconds`, the time to get ready, then answer experiments/timing/race.py.

    Args:
      step: the step to take and time.
      seconds: the time that it took to get ready.
      clock: the clock that a step is timed with, in seconds.
    """
    print("answer", seconds, flush=True)
    for line in sys.stdin:
        start = clock()
        if line.strip() == "step":
            step()
            print("answer", clock() - start, flush=True)
        else:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print("answer", kilobytes / 1e6, flush=True)


def build(
    who: str, fields: dict[str, Any], what: str, batch: int, size: int, counts: Sequence[int] = ()
) -> tuple[Step, float]:
    """Build a step; returns it with the seconds of its compilation, 0 if there is none."""
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, size, size, 3), dtype=np.float32)
    labels = random.integers(0, 10, batch)
    if who.startswith("torch"):
        name, last = fields["name"], who != "torch-nchw"
        return _torch(name, what, images, labels, counts, channels_last=last), 0.0
    host_memory.release_after_compilation()
    if who == "plain":
        fields = fields | {"implementation": "xla"}
    return _jax(fields, what, images, labels)


def _jax(
    fields: dict[str, Any], what: str, images: np.ndarray, labels: np.ndarray
) -> tuple[Step, float]:
    import jax
    import optax

    from senet_jax import create_model

    model = create_model(**fields)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    params, stats = variables["params"], variables["batch_stats"]
    optimizer = optax.chain(
        optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9, nesterov=True)
    )
    state = (params, stats, optimizer.init(params))

    def train(state: Any, images: Any, labels: Any) -> Any:
        params, stats, moments = state

        def loss_of(params: Any) -> Any:
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updates["batch_stats"]

        gradients, stats = jax.grad(loss_of, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), stats, moments

    def infer(state: Any, images: Any, labels: Any) -> Any:
        return model.apply({"params": state[0], "batch_stats": state[1]}, images)

    start = time.perf_counter()
    if what == "train":
        step = jax.jit(train, donate_argnums=0).lower(state, images, labels).compile()
    else:
        step = jax.jit(infer).lower(state, images, labels).compile()
    seconds = time.perf_counter() - start
    images, labels = jax.device_put((images, labels))

    def run() -> None:
        nonlocal state
        result = jax.block_until_ready(step(state, images, labels))
        state = result if what == "train" else state

    return run, seconds


def _torch(
    network: str,
    what: str,
    images: np.ndarray,
    labels: np.ndarray,
    counts: Sequence[int],
    *,
    channels_last: bool,
) -> Step:
    try:
        import torch  # pyright: ignore[reportMissingImports]

        from experiments.timing import torch_twins
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed: pip install -e '.[parity]', or leave torch out of "
            f"--against"
        ) from None
    form: Any = torch.channels_last if channels_last else torch.contiguous_format
    model = torch_twins.create(network, counts).to(memory_format=form)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(memory_format=form)
    y = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )

    def train() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            model(x)

    model.train(what == "train")
    return train if what == "train" else infer


if __name__ == "__main__":
    if sys.argv[1] not in WITHOUT_HUGE_PAGES:
        host_memory.use_huge_pages()
    cli.run(main, __doc__)
