"""The molecules that artifacts contain, each once, in order of appearance."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.views.flow_view import MoleculeView

__all__ = ["Molecules"]

MOLFILES = frozenset({"chemical/x-mdl-molfile", "chemical/x-mdl-sdfile"})
MOST_VALUES = 10_000
"""How many values of a payload are searched for SMILES."""


class Molecules:
    """Draws the molecules that it finds: molfiles, and SMILES as values of a JSON key `smiles`.

    `more` is set when there are more than `most` molecules, `missing_rdkit` when RDKit is missing.
    """

    def __init__(self, most: int) -> None:
        self.missing_rdkit = False
        self.more = False
        self._most = most
        self._found: dict[str, MoleculeView] = {}
        self._named: dict[str, str | None] = {}

    def drawn(self) -> tuple[MoleculeView, ...]:
        """Return the molecules."""
        return tuple(self._found.values())

    def look_into(self, artifact: Artifact) -> None:
        """Draw the molecules that an artifact contains, as far as the limit allows."""
        texts = list(_texts(artifact))
        if not texts:
            return
        if importlib.util.find_spec("rdkit") is None:
            self.missing_rdkit = True
            return
        drawing = importlib.import_module("chem_persistence.pages.previews.drawing")
        draw = drawing.draw_smiles if artifact.content is None else drawing.draw_molfile
        with drawing.quiet():
            for text, label in texts:
                self._add(text, label, artifact.hash, draw)

    def _add(
        self, text: str, label: str, source: str, draw: Callable[[str, str], MoleculeView | None]
    ) -> None:
        if text not in self._named:
            if len(self._found) >= self._most:
                self.more = True
                return
            molecule = draw(text, label)
            self._named[text] = molecule.smiles if molecule else None
            if molecule:
                self._found.setdefault(molecule.smiles, molecule)
        smiles = self._named[text]
        if smiles is not None and source not in self._found[smiles].sources:
            known = self._found[smiles]
            sources = (*known.sources, source)
            self._found[smiles] = replace(known, label=known.label or label, sources=sources)


def _texts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Yield the SMILES, or the molfile, of an artifact, each with its name there or ''."""
    if artifact.content is None:
        yield from _smiles(artifact.payload)
    elif artifact.media_type in MOLFILES:
        with suppress(UnicodeDecodeError):
            yield artifact.content.decode("utf-8"), ""


def _smiles(payload: Any) -> Iterator[tuple[str, str]]:
    waiting = [payload]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, Mapping):
            name = value.get("name")
            label = name if isinstance(name, str) else ""
            given = value.get("smiles")
            for text in given if isinstance(given, list) else [given]:
                if isinstance(text, str) and text:
                    yield text, label
            waiting += reversed(list(value.values()))
        elif isinstance(value, list):
            waiting += reversed(value[:MOST_VALUES])
