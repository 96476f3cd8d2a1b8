"""The how-to page on numbers, and what it says of each package, with the real packages."""

import math
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chem_persistence import (
    Artifact,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidDefinition,
    InvalidPayload,
    Step,
    StepContext,
)
from tests.support.pages.pages import follow_page

pytestmark = pytest.mark.science


class Numbers(msgspec.Struct):
    value: float
    rows: list[list[float]]
    more: dict[str, float]


def of_ase() -> Numbers:
    from ase.build import molecule
    from ase.calculators.emt import EMT

    atoms = molecule("CH4")
    atoms.calc = EMT()
    return Numbers(
        atoms.get_potential_energy(), atoms.get_forces(), {"mass": atoms.get_masses()[0]}
    )


def of_rdkit() -> Numbers:
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    describe: Any = Descriptors.CalcMolDescriptors
    found = describe(Chem.MolFromSmiles("CCO"))
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    return Numbers(finite["MolWt"], [], finite)


def of_cclib() -> Numbers:
    import numpy as np
    from cclib.parser.data import ccData

    data = ccData(
        {
            "scfenergies": np.array([-76.4, -76.5]),
            "atomcoords": np.zeros((2, 3, 3)),
            "atommasses": np.array([16.0, 1.0, 1.0]),
        }
    )
    return Numbers(data.scfenergies[-1], data.atomcoords[-1], {"mass": data.atommasses[0]})


def of_pymatgen() -> Numbers:
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(3.5), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return Numbers(
        structure.volume, structure.lattice.matrix, {"distance": structure.get_distance(0, 1)}
    )


def of_mdanalysis() -> Numbers:
    import MDAnalysis
    import numpy as np

    universe = MDAnalysis.Universe.empty(3, trajectory=True)
    universe.add_TopologyAttr("masses", [16.0, 1.0, 1.0])
    universe.atoms.positions = np.array([[0, 0, 0.1], [0, 0.8, 0.6], [0, -0.8, 0.6]])
    return Numbers(universe.atoms.radius_of_gyration(), universe.atoms.positions, {})


@pytest.mark.filterwarnings("ignore")  # of the packages themselves
@pytest.mark.parametrize("make", [of_ase, of_rdkit, of_cclib, of_pymatgen, of_mdanalysis])
async def test_12_numbers_of_a_package_are_stored_as_they_are(make: Any) -> None:
    class Compute(Step[None, Numbers]):
        id = "compute"

        async def run(self, _nothing: None, _context: StepContext) -> Numbers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return make()  # type: ignore[no-any-return]

    store = InMemoryEventStore()
    engine = FlowEngine.builder(store, InMemoryFlowRepository(store)).first_step(Compute()).build()
    await engine.run_to_end()
    (slot,) = (await engine.load()).steps
    found = (await store.get_artifact(slot.outputs[0])).decode(Numbers)
    assert type(found.value) is float
    assert all(type(item) is float for row in found.rows for item in row)
    assert all(type(item) is float for item in found.more.values())


async def test_12_attrs_classes_are_step_types() -> None:
    import attrs

    @attrs.define
    class Spin:
        up: int

    @attrs.define
    class Phase:
        z: complex

    class Make(Step[None, Spin]):
        id = "make"

        async def run(self, _nothing: None, _context: StepContext) -> Spin:
            import numpy as np

            return Spin(np.int64(3))  # type: ignore[arg-type]

    class Wrong(Step[None, Phase]):
        id = "wrong"

        async def run(self, _nothing: None, _context: StepContext) -> Phase:
            return Phase(1j)

    store = InMemoryEventStore()
    builder = FlowEngine.builder(store, InMemoryFlowRepository(store))
    engine = builder.first_step(Make()).build()
    await engine.run_to_end()
    (slot,) = (await engine.load()).steps
    assert (await store.get_artifact(slot.outputs[0])).decode(Spin) == Spin(3)
    with pytest.raises(InvalidDefinition, match=r"Phase\.z is of the type builtins\.complex"):
        builder.first_step(Wrong())


@pytest.mark.filterwarnings("ignore")
def test_12_a_descriptor_that_is_nan_is_named() -> None:
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    describe: Any = Descriptors.CalcMolDescriptors
    found = describe(Chem.MolFromSmiles("[Na+]"), missingVal=math.nan)
    found["MolWt"] = math.nan
    with pytest.raises(InvalidPayload, match="give None instead") as caught:
        Artifact.from_payload(kind="descriptors", payload=dict.fromkeys(["MolWt"], found["MolWt"]))
    assert caught.value.path == "$.MolWt"


@pytest.mark.slow
async def test_the_page(tmp_path: Path) -> None:
    page = "how-to/numbers-from-science-packages.md"
    assert await follow_page(page, tmp_path, DATABASE_URL="") == 3
