"""The flow of the command `demo`: four typed steps, of which one fails at its first attempt."""

import re

import anyio
import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import StepKind
from chem_persistence.engine.engine import FlowEngine
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Step
from chem_persistence.store.ports import EventStore, FlowRepository

__all__ = [
    "AcquireStep",
    "InstrumentBusy",
    "MeasureStep",
    "Measured",
    "Measurements",
    "Report",
    "ReportStep",
    "Substance",
    "Substances",
    "WeighStep",
    "Weighed",
    "WeighedSubstances",
    "build_demo",
]

MASSES = {"C": 12.011, "H": 1.008, "N": 14.007, "O": 15.999}
"""Standard atomic weights, abridged (IUPAC 2021)."""

MELTING_POINTS = {"aspirin": 135.0, "caffeine": 236.0, "ibuprofen": 76.0, "paracetamol": 169.5}
"""In degrees Celsius: the readings of the simulated instrument."""

WARM_UP = 0.15
"""Seconds that each attempt at a measurement takes, so that its bar in the timeline is visible."""


class InstrumentBusy(Exception):
    """The simulated instrument is in use: raised by the first attempt at the step `measure`."""


class Substance(msgspec.Struct):
    """A substance: its name, its formula in Hill order and its structure as SMILES."""

    name: str
    formula: str
    smiles: str


class Substances(msgspec.Struct):
    """The substances that the flow is about."""

    substances: list[Substance]


class Weighed(msgspec.Struct):
    """A substance with its molar mass in g/mol."""

    substance: Substance
    molar_mass: float


class WeighedSubstances(msgspec.Struct):
    """All substances with their molar masses."""

    weighed: list[Weighed]


class Measured(msgspec.Struct):
    """A substance with its molar mass in g/mol and its melting point in degrees Celsius."""

    name: str
    molar_mass: float
    melting_point: float


class Measurements(msgspec.Struct):
    """All substances with their measured values."""

    measured: list[Measured]


class Report(msgspec.Struct):
    """The number of substances, and the hash of the artifact that has the table as text."""

    substances: int
    table: str


SUBSTANCES = Substances(
    [
        Substance("aspirin", "C9H8O4", "CC(=O)Oc1ccccc1C(=O)O"),
        Substance("caffeine", "C8H10N4O2", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"),
        Substance("ibuprofen", "C13H18O2", "CC(C)Cc1ccc(cc1)C(C)C(=O)O"),
        Substance("paracetamol", "C8H9NO2", "CC(=O)Nc1ccc(O)cc1"),
    ]
)


class AcquireStep(Step[None, Substances]):
    """Provide the substances, as the source of the flow."""

    id = "acquire"
    kind = StepKind.SOURCE
    params = SUBSTANCES

    async def run(self, _nothing: None, _context: StepContext) -> Substances:
        """Return the substances."""
        return SUBSTANCES


class WeighStep(Step[Substances, WeighedSubstances]):
    """Compute molar masses."""

    id = "weigh"

    async def run(self, known: Substances, context: StepContext) -> WeighedSubstances:
        """Add up the masses of the atoms, and signal which substance is the heaviest."""
        weighed = [
            Weighed(substance, _molar_mass(substance.formula)) for substance in known.substances
        ]
        context.signal("heaviest", max(weighed, key=lambda each: each.molar_mass).substance.name)
        return WeighedSubstances(weighed)


class MeasureStep(Step[WeighedSubstances, Measurements]):
    """Measure melting points on an instrument that is in use at the first attempt."""

    id = "measure"

    async def run(self, all_weighed: WeighedSubstances, context: StepContext) -> Measurements:
        """Return the readings; raise InstrumentBusy at the first attempt."""
        await anyio.sleep(WARM_UP)
        if context.attempt == 1:
            raise InstrumentBusy("the melting point apparatus is in use")
        return Measurements(
            [
                Measured(each.substance.name, each.molar_mass, MELTING_POINTS[each.substance.name])
                for each in all_weighed.weighed
            ]
        )


class ReportStep(Step[Measurements, Report]):
    """Write a table of the substances."""

    id = "report"
    kind = StepKind.SINK

    async def run(self, measurements: Measurements, context: StepContext) -> Report:
        """Return the report, and add the table as an artifact of its own."""
        lines = [f"{'substance':<14}{'g/mol':>10}{'melts at':>12}"]
        lines += [
            f"{each.name:<14}{each.molar_mass:>10.2f}{each.melting_point:>9.1f} °C"
            for each in measurements.measured
        ]
        content = ("\n".join(lines) + "\n").encode()
        table = Artifact.from_content(
            kind="Table", content=content, media_type="text/plain; charset=utf-8"
        )
        return Report(len(measurements.measured), context.add_artifact(table))


def build_demo(store: EventStore, repository: FlowRepository) -> FlowEngine[None]:
    """Build the engine that runs the flow."""
    return (
        FlowEngine.builder(store, repository)
        .first_step(AcquireStep())
        .add_step(WeighStep())
        .add_step(MeasureStep())
        .add_step(ReportStep())
        .build()
    )


def _molar_mass(formula: str) -> float:
    atoms = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return round(sum(MASSES[element] * int(count or 1) for element, count in atoms), 3)
