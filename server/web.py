"""The browser viewer's files: the page at `/`, its modules and styles under `/web/`.

Plain files of `clients/web`, the same for everybody and without secrets: no token is asked for them.
"""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

import clients

FILES = StaticFiles(directory=Path(clients.__file__).parent / "web")

# Everything comes from this server, sockets included; nothing inline, no plugins, no frames round the page.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for each time: 304 while unchanged, never a mix of versions
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

web = APIRouter(include_in_schema=False)


@web.get("/")
async def page(request: Request) -> Response:
    """The viewer."""
    return await _file("index.html", request)


@web.get("/web/{path:path}")
async def asset(path: str, request: Request) -> Response:
    """A file of the viewer; 404 for any other path, inside or outside its folder."""
    return await _file(path, request)


async def _file(path: str, request: Request) -> Response:
    response = await FILES.get_response(path, request.scope)
    response.headers.update(HEADERS)
    return response
