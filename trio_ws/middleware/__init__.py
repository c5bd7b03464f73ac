"""Functions from handler to handler: put one around a handler, or several around each other.

Example::

    app = basic_auth(limit_rate(chat, Rate(messages=20)), users)
    await trio_ws.serve(app, 8080)
"""

from trio_ws._config import Rate
from trio_ws.middleware._auth import basic_auth, bearer_auth
from trio_ws.middleware._rate import limit_rate

__all__ = [
    "Rate",
    "basic_auth",
    "bearer_auth",
    "limit_rate",
]


def _show_public_path() -> None:
    """Make names say where to import them from, in tracebacks and documentation."""
    for name in __all__:
        globals()[name].__module__ = __name__


_show_public_path()
