"""A real FastAPI application whose routes bear the names of the policy's rules, and that policy.

It does what applications do: it percent-decodes before it routes, redirects trailing slashes, and listens to
``X-HTTP-Method-Override``. As ``LAX_HOST`` it reads paths as laxly as any server is known to. Each answer tells the
route that ran and its parameters.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import unquote

import uvicorn
from fastapi import FastAPI, Request, Response

ROUTE_HEADER = "x-route"
HOST = "chat.example.com"
LAX_HOST = "lax.chat.internal"
HOSTS = ("chat.example.com", "*.chat.internal")


class Route(NamedTuple):
    """A rule and the route that it is meant for."""

    name: str
    methods: tuple[str, ...]
    path: str
    """As the policy writes it; FastAPI writes it alike."""
    is_prefix: bool = False
    require: str = "{authenticated: true}"
    more: str = ""

    def rule(self) -> str:
        """A line of the policy."""
        match = f'{{{"prefix" if self.is_prefix else "path"}: "{self.path}", methods: [{", ".join(self.methods)}]}}'
        verdict = "public: true" if not self.require else f"require: {self.require}"
        return f"  - {{name: {self.name}, match: {match}, {verdict}{self.more}}}\n"


ROUTES = (
    Route("health", ("GET",), "/healthz", require=""),
    Route("list", ("GET",), "/api/groups", more=", cors_preflight: true"),
    Route("create", ("POST",), "/api/groups"),
    Route("mine", ("GET",), "/api/groups/mine"),
    Route("export", ("GET", "POST"), "/api/groups/export"),
    Route("group", ("GET",), "/api/groups/{group_id}"),
    Route("delete", ("DELETE",), "/api/groups/{group_id}"),
    Route("members", ("GET",), "/api/groups/{group_id}/members"),
    Route("member", ("GET", "PUT"), "/api/groups/{group_id}/members/{user_id}"),
    Route("owners", ("GET",), "/api/groups/{group_id}/owners/"),
    Route("accented", ("GET",), "/api/caf%C3%A9"),
    Route("org", ("GET",), "/api/orgs/{org_id}/info", require="{claim_equals_param: {org_id: org_id}}"),
    Route("files", ("GET", "PUT", "OPTIONS"), "/files/{owner}/", is_prefix=True),
    Route("keys", ("GET",), "/admin/keys"),
    Route("admin", ("GET", "POST", "DELETE"), "/admin/", is_prefix=True),
    Route("root", ("GET",), "/"),
)

POLICY = f"version: 1\nhosts: {json.dumps(HOSTS)}\nrules:\n" + "".join(route.rule() for route in ROUTES)


def routed_app(calls: list[str]) -> FastAPI:
    """The application; it notes the path of each request that reaches it."""
    app = FastAPI(openapi_url=None)
    for route in ROUTES:
        path = route.path.replace("%C3%A9", "é") + ("{rest:path}" if route.is_prefix else "")
        methods = [*route.methods, "HEAD"] if "GET" in route.methods else list(route.methods)
        if ", cors_preflight" in route.more:
            methods.append("OPTIONS")  # as a CORS middleware would answer it
        app.add_api_route(path, _endpoint(route.name), methods=methods)

    @app.middleware("http")
    async def override(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        calls.append(request.url.path)
        if request.headers["host"] == LAX_HOST:
            request.scope["path"] = laxly(request.scope["path"])
        request.scope["method"] = request.headers.get("x-http-method-override", request.method)
        return await proceed(request)

    return app


def laxly(path: str) -> str:
    """Decode a second time, cut at NUL, drop parameters, turn backslashes, resolve dots, merge slashes."""
    path = unquote(path).partition("\0")[0].partition("#")[0].partition("?")[0].replace("\\", "/")
    segments: list[str] = []
    for segment in (each.partition(";")[0] for each in path.split("/")):
        if segment == "..":
            segments = segments[:-1]
        elif segment not in {"", "."}:
            segments.append(segment)
    slash = "/" if path.endswith("/") and segments else ""
    return "/" + "/".join(segments) + slash


def _endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        told = json.dumps({"params": request.path_params, "host": request.headers["host"]})
        return Response(told, media_type="application/json", headers={ROUTE_HEADER: name})

    return answer


class RunningApp(NamedTuple):
    """Where it listens, and the path of each request that reached it, whether there is a route for it or not."""

    port: int
    calls: list[str]


@asynccontextmanager
async def serve_routed_app() -> AsyncIterator[RunningApp]:
    """Served by uvicorn, as applications are."""
    calls: list[str] = []
    config = uvicorn.Config(
        routed_app(calls), host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off", ws="none",
        http="h11",
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving
        await asyncio.sleep(0.01)
    try:
        yield RunningApp(server.servers[0].sockets[0].getsockname()[1], calls)
    finally:
        server.should_exit = True
        await serving
