"""The section of molecules: each drawn once, with the artifacts that hold it."""

from chem_persistence.pages.artifact_list import artifact_link
from chem_persistence.pages.flow_view import FlowView, Ink, MoleculeView
from chem_persistence.pages.markup import Html, element
from chem_persistence.pages.section import section

__all__ = ["molecule_section"]


def molecule_section(view: FlowView) -> Html:
    """Show the molecules and say which were not drawn."""
    note = element("p", {"class": "note left-out"}, view.molecule_note) if view.molecule_note else ""
    return section(
        "molecules",
        f"Molecules ({len(view.molecules):,})",
        element("div", {"class": "cards molecules"}, *(_molecule(molecule) for molecule in view.molecules)),
        note,
    )


def _molecule(molecule: MoleculeView) -> Html:
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
        element("strong", None, molecule.label or molecule.formula),
        element("span", {"class": "formula"}, molecule.formula) if molecule.label else "",
        element("code", {"class": "smiles"}, molecule.smiles),
        element("span", {"class": "note"}, "in ", *_sources(molecule)),
    )
    return element("figure", {"class": "card"}, drawing, caption)


def _sources(molecule: MoleculeView) -> list[Html]:
    return [element("span", {"class": "source"}, artifact_link(source)) for source in molecule.sources]


def _ink(ink: Ink) -> Html:
    classes = ["ink", ink.colour, "area" if ink.filled else "line"]
    classes += ["dashed"] if ink.dashed else []
    classes += ["thin"] if ink.thin else []
    return element("path", {"class": " ".join(classes), "d": ink.path})
