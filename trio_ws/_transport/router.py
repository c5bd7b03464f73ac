"""`Router`: a handler made of handlers, chosen by path."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from trio_ws._protocol.http import decode_path
from trio_ws._transport.handshake import Handler, Request, not_found
from trio_ws._types import Response, is_token

_Segment: TypeAlias = str | tuple[str, bool]
"""A literal, decoded; or the name of a parameter and whether it takes the rest of the path."""


class Router:
    """Chooses a handler by path and method. It is a handler itself, so routers nest.

    Example::

        router = Router()
        router.add("/", index)
        router.add("/rooms/{room}", chat)
        router.add("/api/{rest:path}", api_router)
        await trio_ws.serve(router, 8080)

    ``{name}`` matches one segment, ``{name:path}`` the rest of the path, which may be empty. What
    they match stands percent-decoded in `Request.params`. The path is split at its slashes before
    it is decoded, so ``%2F`` never separates. An exact route wins over a pattern; among patterns
    the first added wins. A router that was reached through ``{name:path}`` sees only that rest.

    No match is answered 404, a match with another method 405.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[str, ...], dict[str, Handler]] = {}
        self._patterns: dict[tuple[_Segment, ...], dict[str, Handler]] = {}

    def add(self, path: str, handler: Handler, *, methods: Iterable[str] | None = None) -> None:
        """Add a route.

        Args:
            path: An absolute path, with patterns or without.
            handler: What serves it.
            methods: The methods it serves; ``GET`` takes ``HEAD`` along. By default GET alone,
                and for a router whatever its own routes serve.

        Raises:
            ValueError: The path is malformed, or has a route for the method already.
        """
        segments = _compile(path)
        if methods is None:
            methods = ("*",) if isinstance(handler, Router) else ("GET",)
        names = [method.upper() for method in methods]
        if not names or not all(name == "*" or is_token(name) for name in names):
            raise ValueError(f"methods are names such as GET, not {names!r}")
        routes: dict[str, Handler]
        if all(isinstance(segment, str) for segment in segments):
            routes = self._exact.setdefault(tuple(map(str, segments)), {})
        else:
            routes = self._patterns.setdefault(segments, {})
        for name in names:
            if name in routes:
                raise ValueError(f"{path!r} has a route for {name} already")
            routes[name] = handler

    async def __call__(self, request: Request) -> Response | None:
        """Serve a request with the first route that fits.

        Raises:
            Exception: Whatever the chosen handler raises.
        """
        raw = request._unrouted.split("/")[1:]  # noqa: SLF001 - a router is what it is there for
        segments = tuple(map(decode_path, raw))
        allowed: set[str] = set()
        for routes, params, rest in self._matches(segments, raw):
            handler = _for_method(routes, request.method)
            if handler is not None:
                return await _serve(handler, request, params, rest)
            allowed.update(routes)
        if not allowed:
            return not_found(request.target)
        if "GET" in allowed:
            allowed.add("HEAD")
        methods = ", ".join(sorted(allowed))
        return Response(405, f"use {methods} here\n", headers={"Allow": methods})

    def _matches(
        self, segments: tuple[str, ...], raw: list[str]
    ) -> Iterator[tuple[dict[str, Handler], dict[str, str], str | None]]:
        if segments in self._exact:
            yield self._exact[segments], {}, None
        for pattern, routes in self._patterns.items():
            matched = _match(pattern, segments, raw)
            if matched is not None:
                yield routes, *matched


def _for_method(routes: dict[str, Handler], method: str) -> Handler | None:
    for name in (method, "GET" if method == "HEAD" else method, "*"):
        if name in routes:
            return routes[name]
    return None


async def _serve(
    handler: Handler, request: Request, params: dict[str, str], rest: str | None
) -> Response | None:
    request.params.update(params)
    if rest is not None:
        request._unrouted = rest  # noqa: SLF001 - a router is what it is there for
    return await handler(request)


def _match(
    pattern: tuple[_Segment, ...], segments: tuple[str, ...], raw: list[str]
) -> tuple[dict[str, str], str | None] | None:
    """Match a pattern; return the parameters and the raw rest for a nested router."""
    params: dict[str, str] = {}
    for index, part in enumerate(pattern):
        if not isinstance(part, str) and part[1]:
            params[part[0]] = "/".join(segments[index:])
            return params, "/" + "/".join(raw[index:])
        if index >= len(segments):
            return None
        if isinstance(part, str):
            if part != segments[index]:
                return None
        elif not segments[index]:
            return None
        else:
            params[part[0]] = segments[index]
    return (params, None) if len(pattern) == len(segments) else None


def _compile(path: str) -> tuple[_Segment, ...]:
    if not path.startswith("/"):
        raise ValueError(f"a route begins with a slash, unlike {path!r}")
    segments = tuple(_segment(part, path) for part in path.split("/")[1:])
    names = [part[0] for part in segments if not isinstance(part, str)]
    if len(set(names)) != len(names):
        raise ValueError(f"{path!r} uses the name of a parameter twice")
    if any(not isinstance(part, str) and part[1] for part in segments[:-1]):
        raise ValueError(f"a pattern for the rest of the path comes last, unlike in {path!r}")
    return segments


def _segment(part: str, path: str) -> _Segment:
    if "{" not in part and "}" not in part:
        return part
    name, _, kind = part[1:-1].partition(":")
    whole = part.startswith("{") and part.endswith("}") and name.isidentifier()
    if not whole or kind not in {"", "path"}:
        raise ValueError(f"{part!r} in {path!r} is no pattern: write {{name}} or {{name:path}}")
    return name, kind == "path"
