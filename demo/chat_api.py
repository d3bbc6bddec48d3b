"""A stand-in for chat-api. It holds no authorization code: it reads ``x-auth-*`` and shows what it read."""

from aiohttp import web
from aiohttp.typedefs import Handler

IDENTITY_PREFIX = "x-auth-"


class ChatApi:
    """Answers each request with its route and the identity that came with it."""

    def __init__(self) -> None:
        self.calls = 0
        """How many requests reached this application, those for unknown paths included."""

    def app(self) -> web.Application:
        """A fresh application around this object."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.calls += 1
            return await handler(request)

        app = web.Application(middlewares=[count])
        app.add_routes([
            web.get("/healthz", _answer),
            web.get("/api/chat/groups", _answer),
            web.post("/api/chat/groups", _answer),
            web.get("/api/chat/groups/{group_id}", _answer),
            web.delete("/api/chat/groups/{group_id}", _answer),
            web.get("/api/chat/groups/{group_id}/messages", _answer),
            web.post("/api/chat/groups/{group_id}/messages", _answer),
        ])  # fmt: skip
        return app


async def _answer(request: web.Request) -> web.Response:
    resource = request.match_info.route.resource
    path = resource.canonical if resource else request.path
    return web.json_response({"route": f"{request.method} {path}", "identity": identity(request)})


def identity(request: web.Request) -> dict[str, str]:
    """Every identity header, in any spelling that a framework could take for one; repeated ones joined by commas."""
    names = {name.lower() for name in request.headers if name.lower().replace("_", "-").startswith(IDENTITY_PREFIX)}
    return {name: ",".join(request.headers.getall(name)) for name in sorted(names)}
