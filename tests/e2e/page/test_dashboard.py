"""The dashboard over a real server process: its numbers are the server's."""

from __future__ import annotations

from browser import Page
from servers import OctavoServer
from test_chat import DONE, READY


async def test_its_numbers_move(page: Page, tiny_server: OctavoServer) -> None:
    await page.goto(tiny_server.url)
    await page.wait(READY)
    await page.click("#tab-dashboard")
    await page.wait("document.querySelectorAll('#totals dd').length")
    generated = "Number([...document.querySelectorAll('#totals div')].find((d) => d.innerText.startsWith('tokens generated')).lastChild.textContent)"
    before = await page.evaluate(generated)
    await page.click("#tab-chat")
    await page.click("#toggle-settings")
    await page.type("#set-max_tokens", "24")
    await page.click("#close-settings")
    await page.type("#prompt", "Hello there")
    await page.press("Enter")
    await page.wait(DONE)
    assert "24 tokens" in await page.text(".message.assistant .note")
    await page.click("#tab-dashboard")
    await page.wait(f"{generated} === {before + 24}")
    await page.wait(
        "document.querySelectorAll('.plot .line').length && document.querySelector('.plot .line').getAttribute('d')"
    )
    cards = await page.text("#plots")
    for title in ("Requests", "Tokens generated", "KV cache in use", "Time to first token"):
        assert title in cards
    await page.wait("!document.querySelectorAll('.card')[5].querySelector('strong').textContent.includes('–')")
