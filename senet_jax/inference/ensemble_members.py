"""The members of an ensemble: networks of runs, with what is needed to evaluate them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from senet_jax.errors import InputError
from senet_jax.inference import trained_run
from senet_jax.layers.network import Network
from senet_jax.runs import workdir
from senet_jax.system.devices import replicate

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of each channel


@dataclasses.dataclass(frozen=True)
class Member:
    """The trained network of a run.

    Attributes:
      name: directory of the run.
      config: configuration of the run, nested.
      statistics: what its images are normalised with, in units of 0 to 255.
      variables: `params` and `batch_stats`, replicated on all local devices.
      step: the step of the run at which it had these variables.
      image_shape: [H, W, C] of the images it was trained on.
    """

    name: str
    config: Mapping[str, Any]
    model: Network
    statistics: Statistics
    class_names: tuple[str, ...]
    variables: Any
    step: int
    image_shape: tuple[int, int, int]

    @property
    def streamed(self) -> bool:
        """Whether its images are streamed and cropped, not taken whole from memory."""
        return self.config["data"]["image_size"] > 0


def load_members(directories: Sequence[Path], weights: str, *, unfinished: bool) -> list[Member]:
    """Load the networks of runs, with arguments and errors of `load_run`.

    Raises: InputError if their classes differ.
    """
    members = []
    for directory in directories:
        with trained_run.offering_latest():
            trained = trained_run.load_run(directory, weights, unfinished=unfinished)
        dataset = trained.run.dataset
        member = Member(
            name=str(directory),
            config=workdir.load_config(directory).to_dict(),
            model=trained.run.model,
            statistics=(dataset.mean, dataset.std),
            class_names=dataset.class_names,
            variables=replicate(trained.state.variables, jax.local_devices()),
            step=int(trained.state.step),
            image_shape=trained.image_shape,
        )
        if members and member.class_names != members[0].class_names:
            raise InputError(
                f"{member.name} was trained on the classes of {member.config['data']['name']!r}, "
                f"{members[0].name} on those of {members[0].config['data']['name']!r}; the "
                "networks of an ensemble must have the same classes"
            )
        members.append(member)
    return members
