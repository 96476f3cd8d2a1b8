"""The section of molecules: each drawn once, with the artifacts that contain it."""

import re

from chem_persistence.pages.html.markup import Html, element
from chem_persistence.pages.sections.artifact_list import artifact_link
from chem_persistence.pages.sections.section import section
from chem_persistence.views.flow_view import FlowView, Ink, MoleculeView
from chem_persistence.views.wording import short

_COUNT = re.compile(r"(?<=[A-Za-z)])\d+")
_SUBSCRIPTS = str.maketrans(
    "0123456789", "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089"
)

__all__ = ["molecule_figure", "molecule_section"]


def molecule_section(view: FlowView) -> Html:
    """Return the section of the molecules, with a note on those not drawn."""
    note = (
        element("p", {"class": "note left-out"}, view.molecule_note) if view.molecule_note else ""
    )
    return section(
        "molecules",
        f"Molecules ({len(view.molecules):,})",
        element(
            "div",
            {"class": "cards molecules"},
            *(molecule_figure(molecule) for molecule in view.molecules),
        ),
        note,
    )


def molecule_figure(molecule: MoleculeView, *, linked: bool = True) -> Html:
    """Return the drawing of a molecule, by default with links to the artifacts that contain it."""
    drawing = element(
        "svg",
        {
            "class": "molecule",
            "viewBox": f"0 0 {molecule.width} {molecule.height}",
            "role": "img",
            "aria-label": f"Structure of {molecule.label or molecule.formula}",
        },
        *(_ink(ink) for ink in molecule.inks),
    )
    caption = element(
        "figcaption",
        None,
        element("strong", None, short(molecule.label) or _subscripted(molecule.formula)),
        element("span", {"class": "formula"}, _subscripted(molecule.formula))
        if molecule.label
        else "",
        element("code", {"class": "smiles"}, molecule.smiles),
        element("span", {"class": "note"}, "in ", *_sources(molecule)) if linked else "",
    )
    return element("figure", {"class": "card"}, drawing, caption)


def _subscripted(formula: str) -> str:
    return _COUNT.sub(lambda match: match[0].translate(_SUBSCRIPTS), formula)


def _sources(molecule: MoleculeView) -> list[Html]:
    return [
        element("span", {"class": "source"}, artifact_link(source)) for source in molecule.sources
    ]


def _ink(ink: Ink) -> Html:
    classes = ["ink", ink.colour, "area" if ink.filled else "line"]
    classes += ["dashed"] if ink.dashed else []
    classes += ["thin"] if ink.thin else []
    return element("path", {"class": " ".join(classes), "d": ink.path})
