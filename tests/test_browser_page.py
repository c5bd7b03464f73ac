"""The pages of the examples, in a real browser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.programs import DEADLINE, EXAMPLES

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

missing = "none of " + ", ".join(NAMES) + " is on the PATH"

pytestmark = [
    pytest.mark.network,
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("TRIO_WS_REQUIRE_BROWSER") != "1", reason=missing
    ),
]

# What keeps it from talking to anything but the page, and from a sandbox that root cannot have.
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run one browser for all tests of this module."""
    assert CHROMIUM is not None, missing
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def serving(example: str = "chat.py") -> Iterator[str]:
    """Run an example, and stop it with SIGTERM."""
    command = (sys.executable, EXAMPLES / example, "--port", "0")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
    ) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()
            server.communicate(timeout=DEADLINE)


@pytest.fixture
def chat() -> Iterator[str]:
    """Run the chat; its URL."""
    with serving() as url:
        yield url


@contextmanager
def taking_part(browser: Browser, url: str, name: str) -> Iterator[Page]:
    """Open the page in a window of its own, and join; every mistake of its script is ours."""
    mistakes: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto(url)
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Join").click()
        expect(page.get_by_role("status")).to_have_text(f"connected as {name}")
        yield page
    assert mistakes == []


def say(page: Page, text: str) -> None:
    """Type a message, and send it."""
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send").click()


def test_two_pages_talk_to_each_other(browser: Browser, chat: str) -> None:
    with taking_part(browser, chat, "Ana") as ana, taking_part(browser, chat, "Bia") as bia:
        say(ana, "Oi, Bia 🙂")
        expect(bia.get_by_role("listitem").last).to_have_text("Ana: Oi, Bia 🙂")
        say(bia, "Oi, Ana")

        expect(ana.get_by_role("listitem")).to_have_text(
            [
                "* Ana has come, 1 here",
                "* Bia has come, 2 here",
                "Ana: Oi, Bia 🙂",
                "Bia: Oi, Ana",
            ]
        )
        expect(ana.get_by_label("Message", exact=True)).to_be_empty()


def test_page_shows_html_of_others_as_text(browser: Browser, chat: str) -> None:
    html = "<img src=x onerror='document.title = \"stolen\"'><b>bold</b>"

    with taking_part(browser, chat, "<i>Ana") as ana, taking_part(browser, chat, "Bia") as bia:
        say(ana, html)

        expect(bia.get_by_role("listitem").last).to_have_text(f"<i>Ana: {html}")
        expect(bia.locator("li *")).to_have_count(0)
        assert bia.title() == "Chat"


def test_leaving_is_noticed(browser: Browser, chat: str) -> None:
    with taking_part(browser, chat, "Ana") as ana, taking_part(browser, chat, "Bia") as bia:
        expect(ana.get_by_role("listitem").last).to_have_text("* Bia has come, 2 here")
        bia.close()

        expect(ana.get_by_role("listitem").last).to_have_text("* Bia has left, 1 here")


def test_page_shows_that_the_server_has_left(browser: Browser) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        url = server.enter_context(serving())
        page = stack.enter_context(taking_part(browser, url, "Ana"))
        server.close()

        expect(page.get_by_role("status")).to_have_text("disconnected: code 1001")
        expect(page.get_by_role("button", name="Join")).to_be_enabled()


def test_page_beside_the_websocket_talks_to_it(browser: Browser) -> None:
    with serving("http_and_websocket.py") as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        expect(page.locator("output")).to_have_text("connected")
        page.get_by_label("Message").fill("<b>Olá</b>")
        page.get_by_role("button", name="Send").click()

        expect(page.locator("output")).to_have_text("<b>Olá</b>")


def test_page_of_another_origin_is_refused_with_403(browser: Browser, chat: str) -> None:
    said: list[str] = []
    opening = """url => new Promise(resolve => {
        const socket = new WebSocket(url);
        socket.onopen = () => resolve("open");
        socket.onclose = (event) => resolve(event.code);
    })"""
    socket_url = chat.replace("http", "ws") + "/chat"

    with serving() as other, browser.new_context() as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.goto(other)
        outcome = page.evaluate(opening, socket_url)
        page.goto(chat)
        outcome_of_same_origin = page.evaluate(opening, socket_url)

    assert outcome == 1006
    assert [text for text in said if "403" in text]
    assert outcome_of_same_origin == "open"
