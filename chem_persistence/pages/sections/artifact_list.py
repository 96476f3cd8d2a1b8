"""The section of artifacts: a card for each, with a preview if it is safe."""

import base64
from collections.abc import Iterator

from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import left_out, section, text_block
from chem_persistence.views.flow_view import (
    ArtifactView,
    FlowView,
    ImagePreview,
    NoPreview,
    Preview,
    TextPreview,
)
from chem_persistence.views.wording import counted, short_hash, size_of

__all__ = ["artifact_link", "artifact_section"]

MOST_LINES = 18
"""A text with more lines is collapsed until it is opened."""

MOST_CHARACTERS = 1_200


def artifact_section(view: FlowView) -> Html:
    """Return the section of the artifacts, in the order of the events that brought them."""
    shown = {artifact.hash for artifact in view.artifacts}
    served = view.served is not None
    return section(
        "artifacts",
        f"Artifacts ({view.artifact_count:,})",
        element(
            "div",
            {"class": "cards"},
            *(_card(artifact, shown, served=served) for artifact in view.artifacts),
        ),
        left_out(view.artifact_count, len(view.artifacts), "artifact"),
    )


def artifact_link(artifact_hash: str) -> Html:
    """Return a link to an artifact that the page shows."""
    code = element("code", None, short_hash(artifact_hash))
    if not is_content_hash(artifact_hash):  # an event may name any text
        return code
    return element("a", {"href": f"#artifact-{artifact_hash}"}, code)


def _card(artifact: ArtifactView, shown: set[str], *, served: bool) -> Html:
    named = {"id": f"artifact-{artifact.hash}"} if is_content_hash(artifact.hash) else {}
    size = "" if artifact.size is None else size_of(artifact.size)
    kind = ", ".join(part for part in (artifact.media_type, size) if part)
    return element(
        "article",
        {"class": "card", **named},
        element("h3", None, artifact.kind or "Artifact"),
        element("p", {"class": "note"}, kind) if kind else "",
        element("p", {"class": "role"}, f"{artifact.role}, event {artifact.version}"),
        element("p", {"class": "hash"}, _hash(artifact.hash, served=served)),
        *_metadata(artifact, shown),
        *_preview(artifact.preview, artifact, shown),
    )


def _hash(artifact_hash: str, *, served: bool) -> Html:
    code = element("code", None, artifact_hash)
    if served and is_content_hash(artifact_hash):
        return element("a", {"href": f"../artifacts/{artifact_hash}"}, code)
    return code


def _metadata(artifact: ArtifactView, shown: set[str]) -> Iterator[Child]:
    if artifact.metadata is not None:
        yield element(
            "div",
            {"class": "metadata"},
            element("h4", None, "Metadata"),
            text_block(artifact.metadata, shown),
        )


def _preview(preview: Preview, artifact: ArtifactView, shown: set[str]) -> Iterator[Child]:
    match preview:
        case ImagePreview():
            data = base64.b64encode(preview.content).decode()
            source = f"data:{preview.media_type};base64,{data}"
            size = f"{preview.width} by {preview.height}"
            yield element(
                "img",
                {
                    "src": source,
                    "alt": f"{artifact.kind}, an image of {size} pixels",
                    "width": preview.width,
                    "height": preview.height,
                },
            )
        case NoPreview():
            yield text_block(preview)
        case TextPreview():
            lines = preview.text.count("\n") + 1
            if lines <= MOST_LINES and len(preview.text) <= MOST_CHARACTERS:
                yield text_block(preview, shown)
            else:
                summary = element("summary", None, f"Show {counted(lines, 'line')}")
                yield element("details", None, summary, text_block(preview, shown))
