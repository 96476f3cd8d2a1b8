"""The artifacts of a flow, each with as much of it as is safe and small enough to show."""

from collections.abc import Iterable
from typing import assert_never

from anyio import to_thread

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.pages.previews.images import image_size
from chem_persistence.pages.previews.molecules import Molecules
from chem_persistence.store.artifact_reads import read_artifacts
from chem_persistence.store.ports import EventStore
from chem_persistence.views.flow_view import (
    ArtifactView,
    ImagePreview,
    MoleculeView,
    NoPreview,
    PageLimits,
    Preview,
    TextPreview,
    json_text,
)
from chem_persistence.views.wording import short

__all__ = ["IMAGES", "Previews", "text_preview"]

MOST_PIXELS = 40_000_000
"""The limit for an image, because a small file may decode to a huge image in the browser."""

IMAGES = frozenset({"image/png", "image/jpeg"})


class Previews:
    """Reads artifacts, and keeps only what is shown of each."""

    def __init__(self, limits: PageLimits) -> None:
        self.artifacts: list[ArtifactView] = []
        self._limits = limits
        self._left = limits.embedded
        self._molecules = Molecules(limits.molecules)

    async def read(self, store: EventStore, named: Iterable[tuple[str, int, str]]) -> None:
        """Read artifacts, each given as its hash, the version that names it, and its role.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        roles = {artifact_hash: (version, role) for artifact_hash, version, role in named}
        expected = iter(roles.items())
        async for read in read_artifacts(store, list(roles)):
            artifact_hash, (version, role) = next(expected)
            if isinstance(read, Artifact):
                if self._limits.molecules:  # a page without any is the same without RDKit
                    await to_thread.run_sync(self._molecules.look_into, read)
                self._add_read(read, version, role)
            else:
                self._add_unread(artifact_hash, version, role, read)

    def molecules(self) -> tuple[MoleculeView, ...]:
        """Return the molecules that the artifacts contain."""
        return self._molecules.drawn()

    def molecule_note(self) -> str:
        """Return a note on molecules that were not drawn, or an empty text."""
        if self._molecules.missing_rdkit:
            install = "pip install 'chem-persistence[chem]'"
            return f"Molecules are drawn where RDKit is installed: {install}."
        if self._molecules.more:
            return f"Only the first {self._limits.molecules:,} molecules are drawn."
        return ""

    def _add_read(self, artifact: Artifact, version: int, role: str) -> None:
        encoded = artifact.encoded()
        self.artifacts.append(
            ArtifactView(
                hash=artifact.hash,
                version=version,
                role=role,
                kind=short(artifact.kind),
                media_type=short(artifact.media_type),
                size=len(encoded),
                metadata=json_text(canonical_json(artifact.metadata), self._limits.text)
                if artifact.metadata
                else None,
                preview=self._within_limit(self._preview(artifact, encoded)),
            )
        )

    def _add_unread(
        self,
        artifact_hash: str,
        version: int,
        role: str,
        error: ArtifactNotFound | ArtifactCorrupt | ArtifactTooLarge,
    ) -> None:
        self.artifacts.append(
            ArtifactView(
                hash=artifact_hash,
                version=version,
                role=role,
                kind="",
                media_type="",
                size=error.size if isinstance(error, ArtifactTooLarge) else None,
                metadata=None,
                preview=_why_unread(error),
            )
        )

    def _preview(self, artifact: Artifact, encoded: bytes) -> Preview:
        if artifact.content is None:
            return json_text(encoded, self._limits.text)
        if artifact.media_type in IMAGES:
            return self._image(artifact.media_type, encoded)
        return text_preview(encoded, self._limits.text)

    def _image(self, media_type: str, content: bytes) -> Preview:
        size = image_size(media_type, content)
        if size is None:
            return NoPreview(f"its bytes are not {media_type}", alarming=True)
        width, height = size
        if len(content) > self._limits.image or width * height > MOST_PIXELS:
            size_of_image = f"{width:,} by {height:,} pixels"
            return NoPreview(f"not shown: an image of {size_of_image} is above the page's limit")
        return ImagePreview(media_type, content, width, height)

    def _within_limit(self, preview: Preview) -> Preview:
        """Return the preview, or none if the limit for all previews together is used up."""
        if isinstance(preview, NoPreview):
            return preview
        size = len(preview.content if isinstance(preview, ImagePreview) else preview.text)
        if size > self._left:
            return NoPreview("not shown: the page's limit for all artifacts is reached")
        self._left -= size
        return preview


def _why_unread(error: ArtifactNotFound | ArtifactCorrupt | ArtifactTooLarge) -> NoPreview:
    match error:
        case ArtifactNotFound():
            return NoPreview("is not in the store", alarming=True)
        case ArtifactCorrupt():
            return NoPreview(
                f"is damaged, it does not have its hash: {error.reason}", alarming=True
            )
        case ArtifactTooLarge():
            return NoPreview("was streamed into the store, and is too large to be read whole")
        case _ as never:
            assert_never(never)


def text_preview(content: bytes, limit: int) -> TextPreview | NoPreview:
    """Return bytes as text if they are UTF-8, whatever their media type."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return NoPreview("binary: it is not shown")
    if "\0" in text:
        return NoPreview("binary: it is not shown")
    return TextPreview(text[:limit].replace("\r\n", "\n"), len(text))
