"""The flow of the NCI screen: read the library, run a flow for each molecule, rank, report.

The flow is a value that the program and its workers import. Its result depends on the library
alone, not on how many molecules are under way at once, or on how often a worker was killed.
"""

import io
from collections import Counter
from collections.abc import Iterator

from chem_persistence import Artifact, BlockingStep, Flow, Many, StepContext, StepKind, flow
from nci.molecules import Library, Molecule, Ranking, Summary, Verdict
from nci.steps import (
    KILLED_OFTEN,
    AcquireStep,
    DescribeStep,
    EmbedParams,
    EmbedStep,
    JudgeParams,
    JudgeStep,
    StandardiseStep,
)

__all__ = ["MAP", "SCREEN", "judging", "read_molecules", "screening"]

MAP = 1
"""The index of the step of the screen that runs a flow for each molecule."""


class ReadStep(BlockingStep[Library, Many[Molecule]]):
    """Read the molecules of a library."""

    id = "read"
    kind = StepKind.SOURCE
    retry = KILLED_OFTEN
    reuse = "any"

    def compute(self, library: Library, _context: StepContext) -> Many[Molecule]:
        """Return the molecules in the order of the library, each once."""
        return Many(tuple(read_molecules(library)))


class RankStep(BlockingStep[Many[Verdict], Ranking]):
    """Rank the molecules."""

    id = "rank"
    retry = KILLED_OFTEN
    reuse = "any"

    def compute(self, verdicts: Many[Verdict], _context: StepContext) -> Ranking:
        """Return the drug-like ones first, those that break fewer rules before the others."""
        return Ranking(tuple(sorted(verdicts.items, key=_rank)), verdicts.missing)


class ReportStep(BlockingStep[Ranking, Summary]):
    """Sum up, and write the table."""

    id = "report"
    kind = StepKind.SINK
    retry = KILLED_OFTEN
    reuse = "any"

    def compute(self, ranking: Ranking, context: StepContext) -> Summary:
        """Return the counts, and store the table as an artifact."""
        table = Artifact.from_content(
            kind="ranking",
            media_type="text/tab-separated-values",
            content="".join(f"{line}\n" for line in _table(ranking)).encode(),
        )
        violations = Counter(rule for verdict in ranking.ranked for rule in verdict.violations)
        return Summary(
            molecules=len(ranking.ranked) + len(ranking.missing),
            drug_like=sum(verdict.drug_like for verdict in ranking.ranked),
            violations=dict(violations),
            missing=ranking.missing,
            table=context.add_artifact(table),
        )


def _rank(verdict: Verdict) -> tuple[bool, int, str, str]:
    return (not verdict.drug_like, len(verdict.violations), verdict.name, verdict.smiles)


def _table(ranking: Ranking) -> Iterator[str]:
    yield "rank\tname\tSMILES\tdrug-like\tbroken rules"
    for rank, each in enumerate(ranking.ranked, start=1):
        judged = "yes" if each.drug_like else "no"
        yield f"{rank}\t{each.name}\t{each.smiles}\t{judged}\t{', '.join(each.violations)}"


def read_molecules(library: Library) -> Iterator[Molecule]:
    """Yield a molecule per line of SMILES and name; one without a name gets its line number."""
    seen = set()
    for number, line in enumerate(io.StringIO(library.text), start=1):
        smiles, _, name = line.strip().partition("\t" if "\t" in line else " ")
        molecule = Molecule(name.strip() or f"line {number}", smiles)
        if smiles and molecule not in seen:
            seen.add(molecule)
            yield molecule
        if library.limit is not None and len(seen) == library.limit:
            return


def judging(params: JudgeParams) -> Flow[Molecule, Verdict]:
    """Return what is done with each molecule."""
    return (
        flow("molecule", AcquireStep())
        .then(StandardiseStep())
        .then(DescribeStep())
        .then(EmbedStep(EmbedParams()))
        .then(JudgeStep(params))
    )


def screening(at_once: int, molecule: Flow[Molecule, Verdict]) -> Flow[Library, Summary]:
    """Return the screen, with at most so many molecules under way; any of them may fail."""
    read = flow("screen", ReadStep())
    many = read.map(molecule, at_once=at_once, failures=1.0, reuse="any")
    return many.then(RankStep()).then(ReportStep())


SCREEN = screening(100, judging(JudgeParams()))
"""What the command `chem-persistence worker nci.flow:SCREEN` serves."""
