"""The application: which address is which page, and what becomes of errors."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from chem_persistence.errors import (
    ChemPersistenceError,
    FlowArchived,
    InvalidArgument,
    StoreUnavailable,
)
from chem_persistence.explorer.actions.flow_actions import change_flow, show_actions
from chem_persistence.explorer.actions.permission import Permission
from chem_persistence.explorer.guard import LOCAL_HOSTS, Guard
from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.routes.artifact_detail import send_content, show_artifact
from chem_persistence.explorer.routes.definition_list import list_definitions
from chem_persistence.explorer.routes.failure_list import list_failures
from chem_persistence.explorer.routes.fleet import show_fleet
from chem_persistence.explorer.routes.flow_detail import show_flow
from chem_persistence.explorer.routes.flow_list import list_flows
from chem_persistence.explorer.routes.searching import search
from chem_persistence.explorer.sources import Sources, sources_of
from chem_persistence.postgres.connection.ports import ConnectionProvider

__all__ = ["end_streams", "explorer"]


def explorer(
    provider: ConnectionProvider,
    *,
    hosts: Collection[str] = LOCAL_HOSTS,
    permission: Permission | None = None,
) -> Starlette:
    """Return the explorer as an ASGI application, which reads through `provider`.

    It answers requests whose Host header names one of `hosts`. Without a `permission` it answers
    only GET and HEAD, and changes nothing in the log, so that a role that may read is enough.
    """
    sources = Sources.of(provider)
    acting: list[BaseRoute] = []
    if permission is not None:
        acting = [
            Route("/enter", permission.enter),
            Route("/flows/{flow_id:uuid}/actions", show_actions),
            Route("/flows/{flow_id:uuid}/{action}", change_flow, methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await sources.store.aclose()

    app = Starlette(
        routes=[
            Route("/", list_flows),
            Route("/flows/{flow_id:uuid}.html", show_flow),
            Route("/artifacts/{artifact_hash}", show_artifact),
            Route("/artifacts/{artifact_hash}/content", send_content),
            Route("/failures", list_failures),
            Route("/definitions", list_definitions),
            Route("/fleet", show_fleet),
            Route("/search", search),
            Route("/live", _follow),
            *acting,
            Mount("/static", StaticFiles(packages=[("chem_persistence.explorer", "static")])),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _refused, ChemPersistenceError: _failed},
        lifespan=lifespan,
    )
    app.state.sources, app.state.permission = sources, permission
    return app


def end_streams(app: Starlette) -> None:
    """End the streams of an explorer that is about to stop."""
    sources: Sources = app.state.sources
    sources.changes.end()


async def _follow(request: Request) -> Response:
    """Return a stream of server-sent events: one each time that the log has grown."""
    lines = sources_of(request).changes.lines()
    return StreamingResponse(lines, media_type="text/event-stream")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # Starlette calls it for nothing else
    return render(request, "error.html", {"message": error.detail}, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    """Return the page of an error, with a status: 410 of a flow that was archived."""
    status = 500
    if isinstance(error, InvalidArgument):
        status = 400
    elif isinstance(error, FlowArchived):
        status = 410
    elif isinstance(error, StoreUnavailable):
        status = 503
    return render(request, "error.html", {"message": str(error)}, status)
