"""The page of an artifact: what it is, where it comes from, what was made of it; and its bytes."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from chem_persistence.domain.artifacts import Artifact, is_content_hash
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.routes.artifact_body import SPATIAL, Body, body_of
from chem_persistence.explorer.sources import Sources, sources_of
from chem_persistence.pages.previews.artifact_previews import IMAGES
from chem_persistence.pages.sections.molecule_list import molecule_figure
from chem_persistence.postgres.read.search import ArtifactDescription, describe_artifact

__all__ = ["send_content", "show_artifact"]

MOST_BYTES = 4_000_000
MOST_RELATED = 50
NEAR = 5
"""So many steps away ancestors and descendants are looked for."""


async def show_artifact(request: Request) -> Response:
    """Return the page of an artifact.

    Raises:
        HTTPException: 404, there is no such artifact.
    """
    sources = sources_of(request)
    described = await _described(sources, request.path_params["artifact_hash"])
    key = described.hash
    body, note = await _body(sources, described)
    ancestors = await sources.models.ancestors(key, depth=NEAR, limit=MOST_RELATED)
    values = {
        "artifact": described,
        "body": body,
        "note": note,
        "figures": [str(molecule_figure(each, linked=False)) for each in body.molecules],
        "is_image": described.media_type in IMAGES,
        "producers": await sources.models.producers(key, limit=MOST_RELATED),
        "consumers": await sources.models.consumers(key, limit=MOST_RELATED),
        "ancestors": ancestors,
        "kept": next((each for each in ancestors.kept if each.artifact_hash == key), None),
        "descendants": await sources.models.descendants(key, depth=NEAR, limit=MOST_RELATED),
    }
    return render(request, "artifact.html", values)


async def send_content(request: Request) -> Response:
    """Return the bytes of an artifact: images and structures to be shown, all else as a file.

    Raises:
        HTTPException: 404, there is no such artifact.
    """
    sources = sources_of(request)
    described = await _described(sources, request.path_params["artifact_hash"])
    media_type = "application/octet-stream"
    headers = {
        "content-disposition": f'attachment; filename="{described.hash}"',
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, immutable, max-age=86400",  # a hash has one content
    }
    if described.media_type in IMAGES:
        media_type = described.media_type
        del headers["content-disposition"]
    elif described.media_type in SPATIAL:
        media_type = "text/plain; charset=utf-8"
    chunks = sources.store.read_artifact(described.hash)
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


async def _described(sources: Sources, artifact_hash: str) -> ArtifactDescription:
    if not is_content_hash(artifact_hash):
        raise HTTPException(404, "that is not the hash of an artifact")
    try:
        return await describe_artifact(sources.provider, artifact_hash)
    except ArtifactNotFound as error:
        raise HTTPException(404, f"there is no artifact {artifact_hash}") from error


async def _body(sources: Sources, described: ArtifactDescription) -> tuple[Body, str]:
    """Return what is shown of the body, or why nothing is."""
    if (described.content_bytes or 0) > MOST_BYTES:
        return Body(), "It is too large to be shown: download it."
    try:
        artifact: Artifact = await sources.store.get_artifact(described.hash)
    except ArtifactCorrupt as error:
        return Body(), f"It is damaged, it does not have its hash: {error.reason}."
    except ArtifactTooLarge:
        return Body(), "It is too large to be shown: download it."
    return await asyncio.to_thread(body_of, artifact), ""
