"""Counts of what a network says of a split: by class, class against class, and by confidence."""

import dataclasses
import functools

import numpy as np

BINS = 15  # of equal width between 0 and 1, as in Guo et al. 2017 (arXiv 1706.04599)
MOST_CLASSES = 2000  # of which a matrix of all against all is kept


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts over the examples of a split; those of several networks add up.

    An example of which an output is not finite is wrong, and has neither a most probable class nor
    a confidence.

    Attributes:
      examples, right: number of examples, and of right ones, by their class, [classes].
      bins: sums over the examples whose confidence, the probability of the most probable class, is
        in a bin, [BINS, 3]: their number, that of right ones, and their confidences. The lower
        end of a bin does not belong to it.
      confusion: number of examples by right and by most probable class, [classes, classes]; None
        for more than MOST_CLASSES.
    """

    examples: np.ndarray
    right: np.ndarray
    bins: np.ndarray
    confusion: np.ndarray | None

    @classmethod
    def of(
        cls, label: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, classes: int
    ) -> "Tally":
        """Count examples.

        Args:
          label: right classes [N].
          predicted: most probable classes [N]; -1 where an output is not finite.
          confidence: their probabilities [N].
        """
        examples = np.bincount(label, minlength=classes)
        finite = predicted >= 0
        label, predicted = label[finite], predicted[finite]
        is_right, confidence = label == predicted, confidence[finite].astype(np.float64)
        place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        sums = [np.bincount(place, w, BINS) for w in (np.ones(len(place)), is_right, confidence)]
        confusion = None
        if classes <= MOST_CLASSES:
            pairs = np.bincount(np.int64(label) * classes + predicted, minlength=classes**2)
            confusion = pairs.reshape(classes, classes)
        right = np.bincount(label[is_right], minlength=classes)
        return cls(examples, right, np.stack(sums, axis=1), confusion)

    def __add__(self, other: "Tally") -> "Tally":
        one, two = self.confusion, other.confusion
        return Tally(
            self.examples + other.examples,
            self.right + other.right,
            self.bins + other.bins,
            None if one is None or two is None else one + two,
        )

    @functools.cached_property
    def class_errors(self) -> np.ndarray:
        """The error of each class in per cent, [classes]; not a number for one without examples."""
        wrong, errors = self.examples - self.right, np.full(len(self.right), np.nan)
        np.divide(100.0 * wrong, self.examples, out=errors, where=self.examples > 0)
        return errors

    @property
    def balanced_error(self) -> float:
        """The mean error in per cent of the classes that have examples."""
        return float(np.nanmean(self.class_errors))

    @property
    def calibration_error(self) -> float:
        """The expected calibration error (Guo et al. 2017, equation 3) in per cent.

        The mean over the examples of the distance of accuracy and mean confidence in their bin. It
        is not a number where an output is not finite.
        """
        number, right, confidence = self.bins.T
        if number.sum() < self.examples.sum():
            return float("nan")
        return float(100 * np.abs(right - confidence).sum() / number.sum())

    @property
    def means(self) -> dict[str, float]:
        """Both errors by the names that metrics have; {} without examples."""
        if not self.examples.any():
            return {}
        return {
            "balanced_error": self.balanced_error,
            "calibration_error": self.calibration_error,
        }
