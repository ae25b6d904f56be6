"""Screenshots of the page, and what axe-core says of it: `make page-check`.

Args: the folder for the pictures, and the path of axe.min.js. Exits with 1 when axe-core finds a serious or critical violation.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
sys.path.insert(0, os.path.dirname(__file__))

from browser import Chromium, Page, eventually, find_chromium, new_page
from servers import OctavoServer
from test_chat import DONE, READY

from octavo.frontend.server.page.files import page_files
from octavo.sources.model_source import DEFAULT_MODEL

QUESTIONS = ("Write a short Python function that adds two numbers.", "What is the capital of France?")
BAD = ("serious", "critical")


async def axe(page: Page, source: str, where: str) -> list[str]:
    """The serious violations of what is shown now."""
    await page.evaluate(f"{source}; true")
    violations: list[dict[str, Any]] = json.loads(
        await page.evaluate("axe.run().then((found) => JSON.stringify(found.violations))")
    )
    for one in violations:
        print(f"{where}: {one['impact']}: {one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}")
    return [f"{where}: {one['id']}" for one in violations if one["impact"] in BAD]


async def look(page: Page, folder: Path, source: str, theme: str, width: int) -> list[str]:
    await page.theme(theme)
    await page.resize(width, 800)
    await asyncio.sleep(0.5)  # the sidebar slides away
    faults = []
    for tab in ("chat", "dashboard", "code"):
        await page.click(f"#tab-{tab}")
        await asyncio.sleep(2.5 if tab == "dashboard" else 0.3)
        await page.screenshot(folder / f"{tab}-{width}-{theme}.png")
        faults += await axe(page, source, f"{tab} {width} {theme}")
    await page.click("#tab-chat")
    await page.click("#toggle-settings")
    await asyncio.sleep(0.3)
    await page.screenshot(folder / f"settings-{width}-{theme}.png")
    faults += await axe(page, source, f"settings {width} {theme}")
    await page.press("Escape")
    if width < 760:
        await page.click("#toggle-sidebar")
        await asyncio.sleep(0.4)
        await page.screenshot(folder / f"sidebar-{width}-{theme}.png")
        await page.press("Escape")
    return faults


async def talk(page: Page) -> None:
    await page.click("#toggle-settings")
    await page.type("#set-max_tokens", "120")
    await page.click("#show-tokens")
    await page.press("Escape")
    for question in QUESTIONS:
        await page.type("#prompt", question)
        await page.press("Enter")
        await page.wait(DONE)
    await page.hover(".message.assistant:last-child .token:nth-child(3)")
    await page.wait("!document.querySelector('#token-tip').hidden")


async def first_paint(page: Page, server: OctavoServer, folder: Path) -> None:
    """The page is there while the model loads: say when, and how far the start was."""
    await eventually(lambda: server.status("/startup"))
    await page.goto(server.url)
    state = json.loads(await asyncio.to_thread(server.get, "/startup"))
    await page.wait("performance.getEntriesByName('first-contentful-paint').length")
    painted = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    weight = sum(len(file.body) for file in page_files().values())
    print(f"first paint after {painted:.0f} ms, when the start was at: {state['phase']}, {state.get('step')}; {weight} bytes")
    await page.screenshot(folder / "loading.png")


async def check(folder: Path, source: str) -> int:
    program = find_chromium()
    if program is None:
        print("no Chromium here (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    model = os.environ.get("MODEL") or DEFAULT_MODEL
    with Chromium(program) as chromium, ExitStack() as stack:
        async with new_page(chromium) as page:
            server = OctavoServer(model)
            starting = asyncio.ensure_future(asyncio.to_thread(stack.enter_context, server))
            await first_paint(page, server, folder)
            await starting
            await page.wait(READY)
            await page.screenshot(folder / "welcome.png")
            faults = await axe(page, source, "welcome")
            await page.click("#tab-dashboard")
            await page.click("#tab-chat")
            await talk(page)
            await page.screenshot(folder / "tokens.png")
            faults += await axe(page, source, "tokens")
            await page.evaluate("document.querySelector('#show-tokens').click()")
            for theme in ("light", "dark"):
                for width in (1200, 400):
                    faults += await look(page, folder, source, theme, width)
            faults += page.complaints
    print(f"pictures in {folder}; " + (f"serious: {faults}" if faults else "no serious violation"))
    return 1 if faults else 0


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(check(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8"))))
