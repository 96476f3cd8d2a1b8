"""The steps that each molecule of the NCI screen has, from a SMILES to a verdict.

RDKit computes in child processes, at most as many at once as there are processors: its embedding
and its substructure search install a handler of Ctrl-C of their own, which in the process of the
engine would make Ctrl-C end nothing and molecules fail. Nothing depends on the clock, and floats
are rounded, so that the same molecule has the same fingerprint in every run.
"""

import os
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
from rdkit import Chem
from rdkit.Chem import QED, rdDistGeom, rdForceFieldHelpers, rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize

from chem_persistence import (
    Artifact,
    BlockingStep,
    ProcessStep,
    RetryPolicy,
    StepContext,
    StepKind,
)
from nci.molecules import (
    Described,
    Descriptors,
    Embedded,
    EmbeddingFailed,
    Molecule,
    NoForceFieldParameters,
    NotConverged,
    Standardised,
    TooFlexible,
    TooManyAtoms,
    Verdict,
    parse,
)

PROCESSORS = anyio.CapacityLimiter(os.cpu_count() or 1)

KILLED_OFTEN = RetryPolicy(crashes=1_000)
"""By default a step fails whose workers died three times in a row; here that is no fault of it."""

average_weight = rdMolDescriptors.Properties(["amw"])
drug_likeness: Callable[[Chem.Mol], float] = QED.qed  # RDKit has no types here


class AcquireStep(ProcessStep[Molecule, Molecule]):
    """Parse and sanitise."""

    id = "acquire"
    kind = StepKind.SOURCE
    limiter = PROCESSORS
    retry = KILLED_OFTEN
    reuse = "any"

    def compute(self, molecule: Molecule, _context: StepContext) -> Molecule:
        """Return the molecule with the canonical SMILES of RDKit."""
        return Molecule(molecule.name, Chem.MolToSmiles(parse(molecule.smiles)))


class StandardiseStep(ProcessStep[Molecule, Standardised]):
    """Normalise functional groups, keep the largest fragment, and neutralise it."""

    id = "standardise"
    limiter = PROCESSORS
    retry = KILLED_OFTEN
    reuse = "any"

    def compute(self, molecule: Molecule, _context: StepContext) -> Standardised:
        """Return the parent molecule."""
        cleaned = rdMolStandardize.Cleanup(parse(molecule.smiles))
        largest = rdMolStandardize.LargestFragmentChooser().choose(cleaned)
        neutral = rdMolStandardize.Uncharger().uncharge(largest)
        smiles = Chem.MolToSmiles(neutral)
        parse(
            smiles
        )  # without its metal, a sandwich complex leaves rings that are not a molecule: it fails
        return Standardised(molecule.name, smiles)


class DescribeStep(ProcessStep[Standardised, Described]):
    """Compute descriptors of the structure."""

    id = "describe"
    limiter = PROCESSORS
    retry = KILLED_OFTEN
    reuse = "any"

    def compute(self, molecule: Standardised, _context: StepContext) -> Described:
        """Return the molecule with its descriptors."""
        mol = parse(molecule.smiles)
        descriptors = Descriptors(
            molecular_weight=round(average_weight.ComputeProperties(mol)[0], 3),
            log_p=round(rdMolDescriptors.CalcCrippenDescriptors(mol)[0], 3),
            tpsa=round(rdMolDescriptors.CalcTPSA(mol), 2),
            h_bond_donors=rdMolDescriptors.CalcNumLipinskiHBD(mol),
            h_bond_acceptors=rdMolDescriptors.CalcNumLipinskiHBA(mol),
            rotatable_bonds=rdMolDescriptors.CalcNumRotatableBonds(mol),
            rings=rdMolDescriptors.CalcNumRings(mol),
            aromatic_rings=rdMolDescriptors.CalcNumAromaticRings(mol),
            heavy_atoms=mol.GetNumHeavyAtoms(),
            fraction_csp3=round(rdMolDescriptors.CalcFractionCSP3(mol), 3),
            qed=round(drug_likeness(mol), 3),
        )
        return Described(molecule.name, molecule.smiles, descriptors)


class EmbedParams(msgspec.Struct, frozen=True):
    """Bounds of the work on one molecule, as counts: seconds would differ from run to run."""

    seed: int = 0xF00D
    max_heavy_atoms: int = 100
    max_rotatable_bonds: int = 40
    embedding_attempts: int = 50
    minimiser_steps: int = 1_000


class EmbedStep(ProcessStep[Described, Embedded]):
    """Find one conformer by ETKDGv3, and relax it in MMFF94.

    Wang et al., J. Chem. Inf. Model. 2020, 60, 2044.
    """

    id = "embed"
    limiter = PROCESSORS
    retry = KILLED_OFTEN
    reuse = "any"

    def __init__(self, params: EmbedParams) -> None:
        self.params: EmbedParams = params

    def compute(self, molecule: Described, context: StepContext) -> Embedded:
        """Return the energy, and store the molfile as an artifact."""
        self._check_size(molecule.descriptors)
        mol = Chem.AddHs(parse(molecule.smiles))
        self._embed(mol)
        energy = self._relax(mol)
        molfile = Artifact.from_content(
            kind="conformer",
            media_type="chemical/x-mdl-molfile",
            content=Chem.MolToMolBlock(mol).encode(),
            metadata={"method": "ETKDGv3, MMFF94"},
        )
        return Embedded(
            molecule.name,
            molecule.smiles,
            molecule.descriptors,
            energy,
            context.add_artifact(molfile),
        )

    def _check_size(self, descriptors: Descriptors) -> None:
        if descriptors.heavy_atoms > self.params.max_heavy_atoms:
            raise TooManyAtoms(
                f"{descriptors.heavy_atoms} heavy atoms, the limit is {self.params.max_heavy_atoms}"
            )
        if descriptors.rotatable_bonds > self.params.max_rotatable_bonds:
            raise TooFlexible(
                f"{descriptors.rotatable_bonds} rotatable bonds, "
                f"the limit is {self.params.max_rotatable_bonds}"
            )

    def _embed(self, mol: Chem.Mol) -> None:
        """Find a conformer; start from random coordinates only if the first start fails."""
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = self.params.seed
        settings.maxIterations = self.params.embedding_attempts
        for settings.useRandomCoords in (False, True):
            if rdDistGeom.EmbedMolecule(mol, settings) >= 0:
                return
        raise EmbeddingFailed(f"no conformer in {self.params.embedding_attempts} attempts")

    def _relax(self, mol: Chem.Mol) -> float:
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            raise NoForceFieldParameters("MMFF94 has no parameters for an atom of this molecule")
        ((unfinished, energy),) = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
            mol, maxIters=self.params.minimiser_steps, mmffVariant="MMFF94"
        )
        if unfinished:
            raise NotConverged(f"no minimum in {self.params.minimiser_steps} steps")
        return round(float(energy), 3)


class JudgeParams(msgspec.Struct, frozen=True):
    """How many of Lipinski's rules a molecule may break that is drug-like."""

    broken_rules: int = 1


class JudgeStep(BlockingStep[Embedded, Verdict]):
    """Apply the rules of Lipinski and Veber.

    Lipinski et al., Adv. Drug Deliv. Rev. 1997, 23, 3; Veber et al., J. Med. Chem. 2002, 45, 2615.
    """

    id = "judge"
    kind = StepKind.SINK
    limiter = PROCESSORS
    retry = KILLED_OFTEN
    reuse = "any"

    def __init__(self, params: JudgeParams) -> None:
        self.params: JudgeParams = params

    def compute(self, molecule: Embedded, _context: StepContext) -> Verdict:
        """Return drug-like if few rules of Lipinski and none of Veber are broken."""
        values = molecule.descriptors
        lipinski = {
            "weight above 500": values.molecular_weight > 500,
            "logP above 5": values.log_p > 5,
            "more than 5 donors": values.h_bond_donors > 5,
            "more than 10 acceptors": values.h_bond_acceptors > 10,
        }
        veber = {
            "more than 10 rotatable bonds": values.rotatable_bonds > 10,
            "TPSA above 140": values.tpsa > 140,
        }
        few = sum(lipinski.values()) <= self.params.broken_rules
        drug_like = few and not any(veber.values())
        violations = [rule for rule, broken in (lipinski | veber).items() if broken]
        return Verdict(molecule.name, molecule.smiles, drug_like, violations)
