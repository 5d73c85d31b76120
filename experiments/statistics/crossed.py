"""Seeds crossed with test images: how much of a deviation is due to which.

Every run keeps which images it has right, so a row is a table [seeds, images] of zeros and ones.
"""

import dataclasses

import numpy as np
import scipy

from experiments.statistics.paired import LEVEL


@dataclasses.dataclass(frozen=True)
class Deviations:
    """The standard deviation of a row's error over seeds, in points, and its two parts.

    Attributes:
      total: the deviation as measured.
      test_set: the part that a finite number of test images explains, if each image is right or
        wrong independently of the others; more images would shrink it.
      genuine: the rest, between the networks; more images would leave it. It is 0 where the first
        part alone is larger than the total, as it is by chance where networks differ little.
    """

    total: float
    test_set: float
    genuine: float


def split_deviation(right: np.ndarray) -> Deviations | None:
    """Split the deviation of the error over seeds; None for fewer than two seeds or images.

    It is equation 3 of Jordan (arXiv 2304.01910) with estimators that are unbiased for few seeds.

    Args:
      right: zeros and ones [seeds, images].
    """
    seeds, images = right.shape
    if min(seeds, images) < 2:
        return None
    share = right.mean(axis=0)
    total = right.mean(axis=1).var(ddof=1)
    of_images = (share * (1 - share)).sum() * seeds / (seeds - 1) / images**2
    genuine = max(0.0, (total - of_images) * images / (images - 1))
    return Deviations(*(100 * float(np.sqrt(part)) for part in (total, of_images, genuine)))


def crossed_interval(
    right: np.ndarray, reference: np.ndarray, level: float = LEVEL
) -> tuple[float, float] | None:
    """The confidence interval of a gain for new seeds and new test images, in points.

    The interval over seeds alone holds for these test images; this one also says what others of
    their kind would show. Its variance is that of seeds crossed with images, both random: the sum
    of the variances of the mean over each of them, less their interaction, which both contain. A
    bootstrap that draws both counts the interaction three times (Owen 2007, "the pigeonhole
    bootstrap", theorem 3), and here it is nearly all there is. Degrees of freedom are
    Satterthwaite's.

    Args:
      right, reference: zeros and ones [seeds, images] of the row and of its reference, for the same
        seeds and images in the same order.

    Returns: None for fewer than two seeds, or without any difference between seeds.
    """
    difference = right.astype(np.float64) - reference
    seeds, images = difference.shape
    if min(seeds, images) < 2:
        return None
    mean = difference.mean()
    of_seeds, of_images = difference.mean(axis=1), difference.mean(axis=0)
    rest = difference - of_seeds[:, None] - of_images + mean
    interaction = (rest**2).sum() / ((seeds - 1) * (images - 1)) / (seeds * images)
    by_seed, by_image = of_seeds.var(ddof=1) / seeds, of_images.var(ddof=1) / images
    if by_seed == 0:
        return None
    # No less than either alone: a difference of estimates can be too small by chance.
    variance = max(by_seed + by_image - interaction, by_seed, by_image)
    parts = ((by_seed, seeds - 1), (by_image, images - 1))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = scipy.stats.t.ppf((1 + level) / 2, max(freedom, seeds - 1)) * np.sqrt(variance)
    return 100 * float(mean - half), 100 * float(mean + half)
