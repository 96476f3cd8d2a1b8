"""The values that the steps of the NCI screen pass on, and the errors that end a child.

The class of an exception is the reason: the log keeps it, and the report groups by it.
"""

import logging
from typing import Any

import msgspec
from rdkit import Chem, rdBase

# RDKit's own switches are not safe when threads use them, so its log goes to Python's, which is.
rdBase.LogToPythonLogger()
logging.getLogger("rdkit").setLevel(logging.CRITICAL + 1)


class SmilesUnreadable(ValueError):
    """The input is not SMILES."""


class StructureImpossible(ValueError):
    """The SMILES describes an impossible structure, such as five bonds on a carbon."""


class StructureEmpty(ValueError):
    """The molecule has no atoms."""


class TooManyAtoms(ValueError):
    """The molecule is larger than the limit of the embedding."""


class TooFlexible(ValueError):
    """The molecule has more rotatable bonds than one conformer can represent."""


class EmbeddingFailed(ValueError):
    """No conformer was found."""


class NoForceFieldParameters(ValueError):
    """MMFF94 has no parameters for one of the atoms."""


class NotConverged(ValueError):
    """The minimiser did not converge within its steps."""


class Library(msgspec.Struct, frozen=True):
    """The input of the screen: the text of a file, and how many molecules to take (None: all)."""

    text: str
    limit: int | None = None


class Molecule(msgspec.Struct, frozen=True):
    """The input of a child: a name (the NSC number in the NCI file) and the SMILES as found."""

    name: str
    smiles: str


class Standardised(msgspec.Struct, frozen=True):
    """The largest fragment, neutral, as canonical SMILES."""

    name: str
    smiles: str


class Descriptors(msgspec.Struct, frozen=True):
    """The inputs of the rules: dalton, log units, square angstrom, counts; QED from 0 to 1."""

    molecular_weight: float
    log_p: float
    tpsa: float
    h_bond_donors: int
    h_bond_acceptors: int
    rotatable_bonds: int
    rings: int
    aromatic_rings: int
    heavy_atoms: int
    fraction_csp3: float
    qed: float


class Described(msgspec.Struct, frozen=True):
    """A standardised molecule and its descriptors."""

    name: str
    smiles: str
    descriptors: Descriptors


class Embedded(msgspec.Struct, frozen=True):
    """A molecule with a conformer: MMFF94 energy in kcal/mol, hash of the molfile artifact."""

    name: str
    smiles: str
    descriptors: Descriptors
    energy: float
    molfile: str


class Verdict(msgspec.Struct, frozen=True):
    """Whether the molecule is drug-like, and the rules that it breaks."""

    name: str
    smiles: str
    drug_like: bool
    violations: list[str]


class Ranking(msgspec.Struct, frozen=True):
    """The verdicts, the best first, and the places in the library of the molecules that failed."""

    ranked: tuple[Verdict, ...]
    missing: tuple[int, ...]


class Summary(msgspec.Struct, frozen=True):
    """The output of the screen: counts, and the hash of the artifact that has the ranked table."""

    molecules: int
    drug_like: int
    violations: dict[str, int]
    missing: tuple[int, ...]
    table: str


def parse(smiles: str) -> Chem.Mol:
    """Read a SMILES as a sanitised molecule.

    Raises:
        SmilesUnreadable, StructureImpossible, StructureEmpty: the text is not a molecule.
    """
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise _reason(smiles)
    if mol.GetNumAtoms() == 0:
        raise StructureEmpty(f"{smiles!r} has no atoms")
    return mol


def _reason(smiles: str) -> ValueError:
    mol: Any = Chem.MolFromSmiles(
        smiles, sanitize=False
    )  # None too, which RDKit's types do not say
    if mol is None:
        return SmilesUnreadable(f"{smiles!r} is not SMILES")
    try:
        Chem.SanitizeMol(mol)
    except Chem.MolSanitizeException as error:
        return StructureImpossible(str(error))
    return StructureImpossible(f"{smiles!r} is refused")
