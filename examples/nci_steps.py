"""The steps of the NCI screen: from a SMILES to a verdict, one typed step after the other.

RDKit computes in worker threads, at most as many at once as there are processors. Nothing depends on the clock, and
floats are rounded, so that the same molecule gives the same fingerprint in every run.
"""

import os
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
from nci_molecules import (
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
from rdkit import Chem
from rdkit.Chem import QED, rdDistGeom, rdForceFieldHelpers, rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize

from chem_persistence import Artifact, BlockingStep, StepContext, StepKind

PROCESSORS = anyio.CapacityLimiter(os.cpu_count() or 1)

average_weight = rdMolDescriptors.Properties(["amw"])
drug_likeness: Callable[[Chem.Mol], float] = QED.qed  # RDKit does not say its types


class AcquireStep(BlockingStep[Molecule, Molecule]):
    """Parse and sanitise."""

    id = "acquire"
    kind = StepKind.SOURCE
    limiter = PROCESSORS

    def compute(self, molecule: Molecule, _context: StepContext) -> Molecule:
        """Give the molecule with RDKit's canonical SMILES."""
        return Molecule(molecule.name, Chem.MolToSmiles(parse(molecule.smiles)))


class StandardiseStep(BlockingStep[Molecule, Standardised]):
    """Normalise functional groups, keep the largest fragment, and take its charges away."""

    id = "standardise"
    limiter = PROCESSORS

    def compute(self, molecule: Molecule, _context: StepContext) -> Standardised:
        """Give the parent molecule."""
        cleaned = rdMolStandardize.Cleanup(parse(molecule.smiles))
        largest = rdMolStandardize.LargestFragmentChooser().choose(cleaned)
        neutral = rdMolStandardize.Uncharger().uncharge(largest)
        smiles = Chem.MolToSmiles(neutral)
        parse(
            smiles
        )  # without its metal, a sandwich complex leaves rings that are no molecule: it fails here
        return Standardised(molecule.name, smiles)


class DescribeStep(BlockingStep[Standardised, Described]):
    """Compute descriptors of the structure."""

    id = "describe"
    limiter = PROCESSORS

    def compute(self, molecule: Standardised, _context: StepContext) -> Described:
        """Give the molecule with its descriptors."""
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
    """What bounds the work on one molecule, in counts and not in seconds, which differ from run to run."""

    seed: int = 0xF00D
    max_heavy_atoms: int = 100
    max_rotatable_bonds: int = 40
    embedding_attempts: int = 50
    minimiser_steps: int = 1_000


class EmbedStep(BlockingStep[Described, Embedded]):
    """Find one conformer by ETKDGv3 (Wang et al., J. Chem. Inf. Model. 2020, 60, 2044) and relax it in MMFF94."""

    id = "embed"
    limiter = PROCESSORS

    def __init__(self, params: EmbedParams) -> None:
        self.params: EmbedParams = params

    def compute(self, molecule: Described, context: StepContext) -> Embedded:
        """Give the energy, and store the molfile beside it."""
        self._refuse_monsters(molecule.descriptors)
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

    def _refuse_monsters(self, descriptors: Descriptors) -> None:
        if descriptors.heavy_atoms > self.params.max_heavy_atoms:
            raise TooManyAtoms(
                f"{descriptors.heavy_atoms} heavy atoms, the limit is {self.params.max_heavy_atoms}"
            )
        if descriptors.rotatable_bonds > self.params.max_rotatable_bonds:
            raise TooFlexible(
                f"{descriptors.rotatable_bonds} rotatable bonds, the limit is {self.params.max_rotatable_bonds}"
            )

    def _embed(self, mol: Chem.Mol) -> None:
        """Start from random coordinates only where distance geometry's own do not lead to a conformer."""
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


class JudgeStep(BlockingStep[Embedded, Verdict]):
    """Apply Lipinski's rule of five (Adv. Drug Deliv. Rev. 1997, 23, 3) and Veber's (J. Med. Chem. 2002, 45, 2615)."""

    id = "judge"
    kind = StepKind.SINK
    limiter = PROCESSORS

    def compute(self, molecule: Embedded, _context: StepContext) -> Verdict:
        """Drug-like is what breaks at most one of Lipinski's rules and none of Veber's."""
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
        drug_like = sum(lipinski.values()) <= 1 and not any(veber.values())
        violations = [rule for rule, broken in (lipinski | veber).items() if broken]
        return Verdict(molecule.name, molecule.smiles, drug_like, violations)
