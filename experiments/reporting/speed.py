"""The tables of speed by hardware and of growth, in every page that has a place for them.

`python -m experiments.report --index` writes them from experiments/results/timing/.
"""

from experiments.reporting import blocks
from experiments.timing import growth, performance

MARK, SHORT, GROWTH = "performance", "speed", "growth"


def write() -> None:
    blocks.write_block(MARK, lambda page: performance.overview())
    blocks.write_block(SHORT, lambda page: performance.headline())
    blocks.write_block(GROWTH, lambda page: growth.published())
