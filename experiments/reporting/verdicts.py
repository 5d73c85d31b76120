"""The claims of the paper and of the article, each with the verdict of our published runs."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.reporting import blocks, html, primary, publish
from experiments.reporting.claims import CLAIMS, Claim
from experiments.reporting.numbers import not_as_declared
from experiments.reporting.primary import Decided
from experiments.statistics.paired import CONFIRMED, CONTRADICTED, UNDECIDED
from experiments.studies import load_study

MARK, SHORT = "claims", "claims_short"
HEADINGS = ("claim", "verdict", "comparison", "gain, points", "data", "source")
NARROW = ("claim", "verdict", "gain, points", "data")  # what fits into a terminal and a first page
REPRODUCED, NOT_RUN = "reproduced", "not run yet"
NOTE = (
    "Reproduced: every primary comparison behind the claim is confirmed; contradicted: one is; "
    "both at 5 % for all comparisons of the study together. Gains are the reference's top-1 error "
    "less the row's, with 95 % intervals over seeds. Undecided: the data allow both."
)


def verdict(claim: Claim, decided: Sequence[Decided]) -> str:
    """The verdict on a claim, from the primary comparisons of its study."""
    verdicts = [each.verdict for each in decided if each.comparison.row in claim.rows]
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    is_whole = len(verdicts) == len(claim.rows)
    return REPRODUCED if is_whole and {*verdicts} == {CONFIRMED} else UNDECIDED


def rows() -> Iterator[tuple[str, ...]]:
    """The cells of the table: a row per claim and dataset, most images in evaluation first.

    A cell has a line for each of several comparisons.
    """
    by_study = {name: _decided(name) for name in dict.fromkeys(claim.study for claim in CLAIMS)}
    for claim in CLAIMS:
        for data, decided in by_study[claim.study] or [("-", [])]:
            of_claim = [each for each in decided if each.comparison.row in claim.rows]
            if not of_claim:
                command = f"`python -m experiments.run {claim.study}`"
                yield claim.text, f"{NOT_RUN}: {command}", "-", "-", data, claim.source
                continue
            comparisons = "\n".join(
                f"{each.comparison.row} {each.comparison.claim} {each.comparison.reference}"
                for each in of_claim
            )
            gains = "\n".join(_unbroken(each.numbers) for each in of_claim)
            yield claim.text, verdict(claim, decided), comparisons, gains, data, claim.source


def _unbroken(numbers: str) -> str:
    """The numbers of a comparison, which a narrow column breaks before the p-value alone."""
    return numbers.replace(" ", "\u00a0").replace(",\u00a0p", ", p")


def _decided(name: str) -> list[tuple[str, list[Decided]]]:
    """The data of each published table of a study, and its primary comparisons."""
    study, found = load_study(name), []
    for dataset in publish.published_datasets(study):
        results, _ = publish.read(study, dataset)
        if decided := primary.decisions(study, results):
            run = next(iter(results.values()))[0]
            data = f"{dataset}, {run['model']}"
            if not_as_declared(study, results):
                data += " (not the study's own recipe)"
            found.append((run["eval/examples"], data, decided))
    return [(data, decided) for _, data, decided in sorted(found, key=lambda item: -item[0])]


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """The table of `rows` as Markdown, with what its words mean."""
    return f"{blocks.table(HEADINGS, ('---',) * len(HEADINGS), lines)}\n{NOTE}\n"


def short(lines: Iterable[Sequence[str]]) -> str:
    """Of `rows` the first of each claim, of the data with the most images in evaluation."""
    first: dict[str, tuple[str, ...]] = {}
    for cells in lines:
        first.setdefault(cells[0], _narrow(cells))
    return blocks.table(NARROW, ("---",) * len(NARROW), first.values())


def _narrow(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cells[HEADINGS.index(heading)] for heading in NARROW)


def section() -> str:
    """The table as a section of the page."""
    lines = ([escape(cell).replace("\n", "<br>") for cell in cells] for cells in rows())
    return (
        '<h2 id="claims">The claims, and what our published runs say</h2>\n'
        + html.table(HEADINGS, lines, "overview")
        + html.remarks([NOTE], "remarks")
    )


def show() -> None:
    """Print the table, without what does not fit; table and note are whole in docs/studies.md."""
    drawn = Table(box=box.SIMPLE_HEAD)
    for heading in NARROW:
        drawn.add_column(Text(heading), overflow="fold")
    for cells in rows():
        drawn.add_row(*map(Text, _narrow(cells)))
    console = Console(highlight=False)
    console.print(drawn)
    console.print(Text(NOTE))


def write() -> None:
    """Bring both tables up to date in every page that has a place for them."""
    lines = list(rows())
    blocks.write_block(MARK, lambda page: markdown(lines))
    blocks.write_block(SHORT, lambda page: short(lines))
