"""Molecules as lines, drawn by RDKit (extra `chem`), which only this module imports.

RDKit writes SVG. Only its path data and colours are used, and each is checked, so that a molecule
can bring nothing else into a page, and the page's style sheet can colour it in light and dark mode.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdMolDescriptors
from rdkit.Chem.Draw import rdMolDraw2D

from chem_persistence.views.flow_view import Ink, MoleculeView

__all__ = ["draw_molfile", "draw_smiles", "quiet"]

WIDTH, HEIGHT = 300, 200
LONGEST_SMILES, LONGEST_MOLFILE = 2_000, 100_000
MOST_ATOMS = 150

_COLOURS = {
    "#000000": "carbon",
    "#191919": "carbon",
    "#0000FF": "nitrogen",
    "#FF0000": "oxygen",
    "#33CCCC": "fluorine",
    "#FF7F00": "phosphorus",
    "#CCCC00": "sulfur",
    "#00CC00": "chlorine",
    "#7F4C19": "bromine",
    "#A01EEF": "iodine",
}
"""The elements by the colours of RDKit's default palette."""

_SHAPE = re.compile(r"<(?!/|\?|!|svg\b)([a-z]+)\b([^>]*)>")
_ATTRIBUTE = re.compile(r"([a-z]+)='([^']*)'")
_PATH = re.compile(r"[MLCQZ0-9eE., \n-]+")


def quiet() -> AbstractContextManager[object]:
    """Return a context in which RDKit, in every thread, writes no warnings to standard error."""
    return rdBase.BlockLogs()


def draw_smiles(smiles: str, label: str) -> MoleculeView | None:
    """Draw a molecule given as SMILES; return None if it is invalid or too large to be seen."""
    if len(smiles) > LONGEST_SMILES:
        return None
    return _drawn(Chem.MolFromSmiles(smiles), label)


def draw_molfile(molfile: str, label: str) -> MoleculeView | None:
    """Draw the first molecule of a molfile or SD file, in two dimensions, hydrogens implicit."""
    if len(molfile) > LONGEST_MOLFILE:
        return None
    molecule = Chem.MolFromMolBlock(molfile)
    if molecule is not None:
        rdDepictor.Compute2DCoords(molecule)
    return _drawn(molecule, label or molfile.partition("\n")[0].strip())


def _drawn(molecule: Chem.Mol | None, label: str) -> MoleculeView | None:
    if molecule is None or not 0 < molecule.GetNumAtoms() <= MOST_ATOMS:
        return None
    drawing = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT)
    options: Any = drawing.drawOptions()  # RDKit's stubs declare the options as read-only
    options.clearBackground = False
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, molecule)
    drawing.FinishDrawing()
    inks = _inks(drawing.GetDrawingText())
    if not inks:
        return None
    return MoleculeView(
        smiles=Chem.MolToSmiles(molecule),
        label=label,
        formula=rdMolDescriptors.CalcMolFormula(molecule),
        width=WIDTH,
        height=HEIGHT,
        inks=inks,
    )


def _inks(svg: str) -> tuple[Ink, ...]:
    """Return the paths of RDKit's SVG, joined by ink; empty if it has anything but paths."""
    paths: dict[tuple[str, bool, bool, bool], list[str]] = {}
    for name, attributes in _SHAPE.findall(svg):
        found = dict(_ATTRIBUTE.findall(attributes))
        data = found.get("d", "")
        if name != "path" or not _PATH.fullmatch(data):
            return ()
        style = dict(_declarations(found))
        filled = style.get("fill", "none") != "none"
        colour = _COLOURS.get(style["fill" if filled else "stroke"], "carbon")
        thin = style.get("stroke-width") == "1.0px"
        paths.setdefault((colour, filled, "stroke-dasharray" in style, thin), []).append(
            " ".join(data.split())
        )
    return tuple(
        Ink(colour, " ".join(parts), filled, dashed, thin)
        for (colour, filled, dashed, thin), parts in paths.items()
    )


def _declarations(attributes: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield an element's presentation properties, from its attributes and then from `style`."""
    yield from ((key, value) for key, value in attributes.items() if key in {"fill", "stroke"})
    for declaration in attributes.get("style", "").split(";"):
        key, _, value = declaration.partition(":")
        yield key.strip(), value.strip()
