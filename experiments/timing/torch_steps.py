"""The benchmark's steps in PyTorch, as fast as PyTorch is by its own switches.

On a GPU: channels last (but for `torch-nchw`), kernels of cuDNN by trial, TF32 for float32. For
another dtype than float32: autocast. `torch-compile` goes through torch.compile. The module is
imported only when PyTorch is a contestant.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from experiments.timing import torch_twins
from experiments.timing.answers import Steps


def build(
    entry: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[Steps, float, Mapping[str, Callable[[], Any]]]:
    """Build a contestant from a contestants.Entry; returns the fields of a contestants.Built."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, JAX's default there
    form: Any = torch.contiguous_format if entry.who == "torch-nchw" else torch.channels_last
    model = torch_twins.create(entry.fields["name"], entry.counts)
    model = model.to(device=device, memory_format=form).train(entry.what == "train")
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device=device, memory_format=form)
    y = torch.from_numpy(labels).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    if entry.who == "torch-compile":
        model = torch.compile(model)
    autocast = torch.autocast(
        device.type, getattr(torch, entry.dtype), enabled=entry.dtype != "float32"
    )

    def train() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode(), autocast:
            model(x)

    step = train if entry.what == "train" else infer

    def steps(count: int) -> None:
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = 0.0
    if entry.who == "torch-compile":  # which compiles in the first step
        start = time.perf_counter()
        steps(1)
        seconds = time.perf_counter() - start
    facts = {}
    if device.type == "cuda":
        facts["peak_gb"] = lambda: torch.cuda.max_memory_allocated() / 1e9
    return steps, seconds, facts
