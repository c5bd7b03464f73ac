"""`Router` chooses a handler by path and method, and decodes a path once."""

import json

import pytest

import trio_ws.testing
from trio_ws._transport.handshake import Handler, Request
from trio_ws._transport.router import Router
from trio_ws._types import Response


def named(name: str) -> Handler:
    """Make a handler that answers with its name and the parameters of its request."""

    async def handler(request: Request) -> Response:
        return Response(200, json.dumps([name, request.params]))

    return handler


async def get(router: Router, target: str) -> tuple[str, dict[str, str]] | int:
    """Ask a router; return who answered with which parameters, or the status of a refusal."""
    response = await trio_ws.testing.request(router, "GET", target)
    if response.status != 200:
        return response.status
    name, params = json.loads(response.body)
    return name, params


async def test_an_exact_route_serves_its_path_alone() -> None:
    router = Router()
    router.add("/", named("index"))
    router.add("/rooms", named("rooms"))

    assert await get(router, "/") == ("index", {})
    assert await get(router, "/rooms?x=1") == ("rooms", {})
    assert await get(router, "/rooms/") == 404
    assert await get(router, "/Rooms") == 404


async def test_no_match_is_answered_404() -> None:
    response = await trio_ws.testing.request(Router(), "GET", "/nowhere")

    assert response.status == 404
    assert response.text == "there is nothing at /nowhere\n"


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/rooms/lobby", ("room", {"room": "lobby"})),
        ("/rooms/ol%C3%A1", ("room", {"room": "olá"})),
        ("/rooms/a%2Fb", ("room", {"room": "a/b"})),
        ("/rooms/a%252Fb", ("room", {"room": "a%2Fb"})),
        ("/rooms/..", ("room", {"room": ".."})),
        ("/rooms/", 404),
        ("/rooms", 404),
        ("/rooms/a/b", 404),
        ("/other/a", 404),
        ("/rooms/%zz", 400),
        ("/rooms/%ff", 400),
        ("/rooms/%00", 400),
    ],
)
async def test_a_parameter_matches_one_segment_decoded_once(
    target: str, answer: tuple[str, dict[str, str]] | int
) -> None:
    router = Router()
    router.add("/rooms/{room}", named("room"))

    assert await get(router, target) == answer


async def test_parameters_may_stand_anywhere_in_a_path() -> None:
    router = Router()
    router.add("/{city}/rooms/{room}", named("both"))

    assert await get(router, "/porto/rooms/1") == ("both", {"city": "porto", "room": "1"})


@pytest.mark.parametrize(
    ("target", "rest"),
    [("/files/", ""), ("/files/a", "a"), ("/files/a/b%2Fc/", "a/b/c/"), ("/files//a", "/a")],
)
async def test_a_path_parameter_matches_the_rest(target: str, rest: str) -> None:
    router = Router()
    router.add("/files/{rest:path}", named("files"))

    assert await get(router, target) == ("files", {"rest": rest})


async def test_the_rest_of_the_path_may_be_missing_with_its_slash() -> None:
    router = Router()
    router.add("/files/{rest:path}", named("files"))

    assert await get(router, "/files") == ("files", {"rest": ""})


async def test_an_exact_route_wins_over_a_pattern_added_before() -> None:
    router = Router()
    router.add("/rooms/{room}", named("pattern"))
    router.add("/rooms/lobby", named("exact"))

    assert await get(router, "/rooms/lobby") == ("exact", {})
    assert await get(router, "/rooms/l%6Fbby") == ("exact", {})


async def test_the_first_of_two_patterns_wins() -> None:
    router = Router()
    router.add("/{first}", named("first"))
    router.add("/{second}", named("second"))

    assert await get(router, "/x") == ("first", {"first": "x"})


async def test_a_pattern_serves_a_method_that_the_exact_route_does_not() -> None:
    router = Router()
    router.add("/rooms/lobby", named("exact"), methods=["GET"])
    router.add("/rooms/{room}", named("pattern"), methods=["POST"])

    response = await trio_ws.testing.request(router, "POST", "/rooms/lobby")

    assert json.loads(response.body) == ["pattern", {"room": "lobby"}]


async def test_a_match_with_another_method_is_answered_405() -> None:
    router = Router()
    router.add("/a", named("a"), methods=["post", "PUT"])
    router.add("/{b}", named("b"))

    response = await trio_ws.testing.request(router, "DELETE", "/a")

    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD, POST, PUT"


async def test_allow_does_not_name_head_where_get_is_not_served() -> None:
    router = Router()
    router.add("/a", named("a"), methods=["POST"])

    response = await trio_ws.testing.request(router, "GET", "/a")

    assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_get_takes_head_along() -> None:
    router = Router()
    router.add("/", named("index"))

    response = await trio_ws.testing.request(router, "HEAD", "/")

    assert (response.status, response.body) == (200, b"")


async def test_a_route_for_head_wins_over_that_for_get() -> None:
    router = Router()
    router.add("/", named("index"))
    router.add("/", _no_content, methods=["HEAD"])

    assert (await trio_ws.testing.request(router, "HEAD", "/")).status == 204


async def _no_content(request: Request) -> Response:
    return Response(204)


async def test_a_star_serves_every_method_that_no_other_route_does() -> None:
    router = Router()
    router.add("/", named("any"), methods=["*"])
    router.add("/", _no_content, methods=["DELETE"])

    assert (await trio_ws.testing.request(router, "PATCH", "/")).status == 200
    assert (await trio_ws.testing.request(router, "DELETE", "/")).status == 204


async def test_routers_nest_and_share_the_parameters() -> None:
    inner, outer = Router(), Router()
    inner.add("/", named("list"))
    inner.add("/users/{user}", named("user"))
    outer.add("/{city}/api/{rest:path}", inner)

    assert await get(outer, "/porto/api/") == ("list", {"city": "porto", "rest": ""})
    answer = await get(outer, "/porto/api/users/a%2Fb")
    assert answer == ("user", {"city": "porto", "rest": "users/a/b", "user": "a/b"})
    assert await get(outer, "/porto/api/nowhere") == 404


async def test_a_nested_router_does_not_decode_twice() -> None:
    inner, outer = Router(), Router()
    inner.add("/{name}", named("inner"))
    outer.add("/api/{rest:path}", inner)

    answer = await get(outer, "/api/a%252Fb")

    assert answer == ("inner", {"rest": "a%2Fb", "name": "a%2Fb"})


async def test_a_router_at_an_exact_path_sees_the_whole_path() -> None:
    inner, outer = Router(), Router()
    inner.add("/health", named("health"))
    outer.add("/health", inner)

    assert await get(outer, "/health") == ("health", {})


async def test_a_nested_router_serves_its_own_methods() -> None:
    inner, outer = Router(), Router()
    inner.add("/thing", named("thing"), methods=["DELETE"])
    outer.add("/api/{rest:path}", inner)

    deleted = await trio_ws.testing.request(outer, "DELETE", "/api/thing")
    refused = await trio_ws.testing.request(outer, "GET", "/api/thing")

    assert (deleted.status, refused.status) == (200, 405)


async def test_a_websocket_is_routed_like_any_request() -> None:
    async def chat(request: Request) -> None:
        async with request.accept() as connection:
            await connection.send(request.params["room"])

    router = Router()
    router.add("/rooms/{room}", chat)

    async with trio_ws.testing.connect(router, "ws://testserver/rooms/lobby") as client:
        assert await client.receive() == "lobby"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "begins with a slash"),
        ("rooms", "begins with a slash"),
        ("/{}", "is no pattern"),
        ("/{room", "is no pattern"),
        ("/room}", "is no pattern"),
        ("/x{room}", "is no pattern"),
        ("/{room}x", "is no pattern"),
        ("/{a b}", "is no pattern"),
        ("/{room:int}", "is no pattern"),
        ("/{1}", "is no pattern"),
        ("/{a}{b}", "is no pattern"),
        ("/{a}/{a}", "uses the name of a parameter twice"),
        ("/{rest:path}/more", "comes last"),
    ],
)
def test_a_malformed_path_is_refused(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Router().add(path, named("x"))


@pytest.mark.parametrize("methods", [[], ["GET", "a b"], [""]])
def test_malformed_methods_are_refused(methods: list[str]) -> None:
    with pytest.raises(ValueError, match="methods are names such as GET"):
        Router().add("/", named("x"), methods=methods)


@pytest.mark.parametrize("path", ["/", "/{room}", "/{rest:path}"])
def test_a_second_route_for_a_path_and_method_is_refused(path: str) -> None:
    router = Router()
    router.add(path, named("first"))
    router.add(path, named("other"), methods=["POST"])

    with pytest.raises(ValueError, match="has a route for GET already"):
        router.add(path, named("second"))
