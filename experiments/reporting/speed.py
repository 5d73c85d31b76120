"""The tables of speed by hardware, in every page that has a place for them.

`python -m experiments.report --index` writes them from experiments/results/timing/performance/.
"""

from experiments.reporting import blocks
from experiments.timing import performance

MARK, SHORT = "performance", "speed"


def write() -> None:
    blocks.write_block(MARK, lambda page: performance.overview())
    blocks.write_block(SHORT, lambda page: performance.headline())
