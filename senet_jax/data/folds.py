"""Folds of a split: a part to evaluate on, and the others to train on."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from senet_jax.data.file_stream import FileStream
from senet_jax.data.in_memory import Images
from senet_jax.data.split import Split
from senet_jax.errors import InputError, counted


@dataclasses.dataclass(frozen=True)
class Fold:
    """One of several equal parts of a split, which together are all of it.

    Attributes:
      number: number of the fold, from 1 on.
      count: number of folds.
      seed: seed that draws all folds of the split.

    Raises:
      ValueError: for numbers that are no fold.
    """

    number: int
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.count >= 2 and 1 <= self.number <= self.count and self.seed >= 0):
            raise ValueError(
                "fold must be the number of a fold, how many there are, and if need be the seed "
                f"that draws them, such as (1, 5) or (1, 5, 0), not {dataclasses.astuple(self)}"
            )

    @classmethod
    def of(cls, values: tuple[int, ...]) -> "Fold | None":
        """The fold that `data.fold` means; None for (). Raises: InputError if there is none."""
        if isinstance(values, tuple) and not values:
            return None
        numbers = values if isinstance(values, tuple) else ()
        if len(numbers) not in (2, 3) or not all(type(number) is int for number in numbers):
            raise InputError(
                "data.fold must be the number of a fold and how many there are, such as (1, 5), "
                f"not {values!r}"
            )
        try:
            return cls(*numbers)
        except ValueError as error:
            raise InputError(f"data.{error}") from error

    def divide(self, split: Split) -> tuple[Images | FileStream, Images | FileStream]:
        """The training and the evaluation part of a split.

        Folds are stratified: their sizes, and the numbers of each class in them, differ by at most
        one. They are a function of the labels, the number of folds and the seed alone. Images in
        memory that cannot be read are left out of the training part; evaluation masks them.

        Raises: InputError as `places` does, or if the examples are a stream of TFDS.
        """
        if not isinstance(split, Images | FileStream):
            raise InputError(
                "data.fold is for images that are kept in memory, and for files: streamed datasets "
                "of TFDS would have to be read to be divided; leave it out"
            )
        # What stands in for an unreadable image might be in the other part. In a stream it is of
        # the same batch.
        labels, unreadable = split.labels(), split.unreadable if isinstance(split, Images) else {}
        if unreadable:
            labels = labels.copy()
            labels[[*unreadable]] = [*unreadable.values()]
        train, evaluation = self.places(labels, unreadable)
        return split.take(train), split.take(evaluation)

    def places(
        self, labels: np.ndarray, unreadable: Collection[int] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """The places to train and to evaluate on, of all labels [N].

        Places of `unreadable` images are not trained on. They do not move the others: a stream,
        which does not know them, has the same folds, at the same places.

        Raises: InputError if there are more folds than examples, or nothing in a part can be read.
        """
        if self.count > len(labels):
            raise InputError(
                f"data.fold asks for {self.count} folds of "
                f"{counted(len(labels), 'training example')}"
            )
        shuffled = np.random.default_rng([self.seed, self.count]).permutation(len(labels))
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        is_evaluated = np.zeros(len(labels), bool)
        is_evaluated[by_class[self.number - 1 :: self.count]] = True  # dealt out class by class
        is_readable = np.ones(len(labels), bool)
        is_readable[[*unreadable]] = False
        for part, chosen in (("trained", ~is_evaluated), ("evaluated", is_evaluated)):
            if not (chosen & is_readable).any():
                raise InputError(
                    f"fold {self.number} of {self.count} has no image to be {part} on that can be "
                    "read: ask for fewer folds"
                )
        return np.flatnonzero(~is_evaluated & is_readable), np.flatnonzero(is_evaluated)


def in_words(split: str, fold: Sequence[int]) -> str:
    """A split, or one of its folds as `data.fold` has it: "train", "train, fold 2 of 5"."""
    return f"{split}, fold {fold[0]} of {fold[1]}" if fold else split
