"""The public surface: exactly these names, each documented, each at its public path."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_ws
import trio_ws.middleware
import trio_ws.testing

NAMES = {
    "serve",
    "connect",
    "Request",
    "Response",
    "Handler",
    "Router",
    "Connection",
    "Server",
    "Limits",
    "Keepalive",
    "Deflate",
    "TrustedProxies",
    "CloseCode",
    "WebSocketError",
    "HandshakeError",
    "HandshakeRejected",
    "ConnectionClosed",
    "ConnectionClosedOK",
    "ConnectionClosedError",
}

TESTING_NAMES = {
    "FaultyStream",
    "MemoryChannel",
    "MemoryStream",
    "channel_pair",
    "connect",
    "connection_pair",
    "request",
    "stream_pair",
}

MIDDLEWARE_NAMES = {
    "Rate",
    "basic_auth",
    "bearer_auth",
    "limit_rate",
}

OBJECTS = [getattr(trio_ws, name) for name in sorted(NAMES - {"Handler"})]
TESTING_OBJECTS = [getattr(trio_ws.testing, name) for name in sorted(TESTING_NAMES)]
MIDDLEWARE_OBJECTS = [getattr(trio_ws.middleware, name) for name in sorted(MIDDLEWARE_NAMES)]
ALL_OBJECTS = OBJECTS + TESTING_OBJECTS + MIDDLEWARE_OBJECTS
CLASSES = [public for public in ALL_OBJECTS if inspect.isclass(public)]


def members(public: type) -> Iterator[tuple[str, object]]:
    """Give the public methods and properties of a class that trio_ws itself defines."""
    for base in public.__mro__:
        if base.__module__.split(".")[0] != "trio_ws":
            continue
        for name, member in vars(base).items():
            function = member.fget if isinstance(member, property) else inspect.unwrap(member)
            function = getattr(function, "__func__", function)
            if not name.startswith("_") and inspect.isfunction(function):
                yield f"{public.__name__}.{name}", function


# Classes and functions by the name that a user would call them by.
DOCUMENTED = {
    **{public.__module__ + "." + public.__name__: public for public in ALL_OBJECTS},
    **{name: member for public in CLASSES for name, member in members(public)},
}

ASYNC = {
    name: member
    for name, member in DOCUMENTED.items()
    if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(inspect.unwrap(member))
}


def test_public_names_are_exactly_the_designed_ones() -> None:
    assert sorted(trio_ws.__all__) == sorted(NAMES)


def test_public_names_of_testing_are_exactly_the_designed_ones() -> None:
    assert sorted(trio_ws.testing.__all__) == sorted(TESTING_NAMES)


def test_public_names_of_middleware_are_exactly_the_designed_ones() -> None:
    assert sorted(trio_ws.middleware.__all__) == sorted(MIDDLEWARE_NAMES)


def test_nothing_else_can_be_seen_in_the_package() -> None:
    # Submodules become attributes of their package once something imports them, and pytest adds
    # names that are no identifiers where it has rewritten the assertions.
    modules = {path.stem for path in Path(trio_ws.__file__).parent.iterdir()}

    visible = {name for name in vars(trio_ws) if name.isidentifier() and name[0] != "_"}

    assert visible - modules == NAMES


@pytest.mark.parametrize("public", OBJECTS, ids=lambda public: public.__name__)
def test_public_name_says_that_it_comes_from_trio_ws(public: type) -> None:
    assert public.__module__ == "trio_ws"


@pytest.mark.parametrize("public", TESTING_OBJECTS, ids=lambda public: public.__name__)
def test_name_of_the_test_kit_says_that_it_comes_from_testing(public: type) -> None:
    assert public.__module__ == "trio_ws.testing"


@pytest.mark.parametrize("public", MIDDLEWARE_OBJECTS, ids=lambda public: public.__name__)
def test_name_of_middleware_says_that_it_comes_from_there(public: type) -> None:
    assert public.__module__ == "trio_ws.middleware"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_public_name_has_a_docstring_of_its_own(name: str) -> None:
    # Not inspect.getdoc(), which finds the docstring of a base class as well.
    docstring = getattr(DOCUMENTED[name], "__doc__", None)

    assert docstring
    assert docstring.partition("\n")[0].strip().endswith((".", ":"))


@pytest.mark.parametrize("name", ASYNC)
def test_public_async_function_says_what_cancellation_does(name: str) -> None:
    assert "\nCancellation:\n    " in inspect.cleandoc(ASYNC[name].__doc__ or "")


def test_what_is_looked_at_includes_what_everybody_uses() -> None:
    assert {"trio_ws.serve", "Connection.remote", "Response.text", "Router.add"} <= set(DOCUMENTED)
    assert {"trio_ws.serve", "trio_ws.connect", "Server.drain", "Connection.ping"} <= set(ASYNC)
    assert {"trio_ws.testing.request", "FaultyStream.cut", "Connection.open_nursery"} <= set(ASYNC)


def statements(module: Path) -> list[ast.stmt]:
    """Parse a module; a class whose `__module__` was set has no source for `inspect`."""
    return ast.parse(module.read_text(encoding="utf-8")).body


DEFINITIONS = {
    definition.name: definition.body
    for module in Path(trio_ws.__file__).parent.rglob("*.py")
    for definition in statements(module)
    if isinstance(definition, ast.ClassDef)
}


def undocumented(body: list[ast.stmt]) -> list[str]:
    """Name the public annotated names that no string follows."""
    return [
        statement.target.id
        for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not statement.target.id.startswith("_")
        and not isinstance(following, ast.Expr)
    ]


@pytest.mark.parametrize("public", CLASSES, ids=lambda public: public.__name__)
def test_public_field_has_a_docstring_below_it(public: type) -> None:
    assert undocumented(DEFINITIONS[public.__name__]) == []


def test_handler_type_has_a_docstring_below_it() -> None:
    body = statements(Path(inspect.getsourcefile(trio_ws.Request.accept) or ""))
    handler = [name for name in undocumented(body) if name == "Handler"]

    assert handler == []


def test_a_field_without_a_docstring_is_noticed() -> None:
    assert undocumented(ast.parse("seconds: int\n'How long.'\nname: str").body) == ["name"]
