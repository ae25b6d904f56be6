"""What must hold of the page's looks: themes, narrow screens, names for screen readers; and text that means harm."""

from __future__ import annotations

import pytest
from browser import Page
from fake_engine import FakeEngine
from local_server import LocalServer
from test_chat import MARKDOWN, opened, say

NO_SIDEWAYS = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"
HOSTILE = """<img src=x onerror="window.harmed=1"><script>window.harmed=2</script>
<iframe srcdoc="<script>parent.harmed=3</script>"></iframe>

[click](javascript:window.harmed=4) [data](data:text/html,<script>window.harmed=5</script>)
![pixel](https://tracker.example/p.png) <javascript:alert(1)> [vb](VBSCRIPT:x) [tab](java\tscript:alert(1))

```html"><img src=x onerror=window.harmed=6>
</code></pre><script>window.harmed=7</script>
```
"""


async def test_hostile_text_stays_text(page: Page, server: LocalServer, engine: FakeEngine) -> None:
    engine.text = HOSTILE
    await opened(page, server)
    await say(page, '<img src=x onerror="window.harmed=8">')
    await page.click("#toggle-settings")
    await page.click("#show-tokens")
    await page.click(".message.assistant .retry")
    await page.wait("document.querySelector('.token') && !document.querySelector('.message.writing')")
    await page.click("#show-tokens")
    for tag in ("img", "script", "iframe", "style", "object", "svg image"):
        assert await page.count(f"#messages {tag}") == 0, tag
    addresses = await page.evaluate("[...document.querySelectorAll('#messages a')].map((a) => a.protocol)")
    assert addresses == ["https:"]
    assert await page.evaluate("window.harmed ?? null") is None
    assert "onerror" in await page.text(".message.assistant .body")
    assert await page.text("#conversations .open") == '<img src=x onerror="window.harmed=8">'


@pytest.mark.parametrize(
    "text",
    [
        "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n" + ("|" + "b|" * 20 + "\n") * 1500,
        "| a | b |\n|---|---|\n" + "| c | d |\n" * 3000,
        "*_`[" * 15000,
        "> " * 15000 + "deep",
        "".join("  " * depth + "- x\n" for depth in range(300)),
    ],
    ids=["wide table", "long table", "marks", "quotes", "nested list"],
)
async def test_text_made_to_take_long_does_not(page: Page, server: LocalServer, text: str) -> None:
    await opened(page, server)
    await page.evaluate(
        f"import({server.url!r} + '/page/markdown.js').then((markdown) => markdown.render(document.createElement('div'), {text!r}))"
    )
    assert await page.evaluate("1 + 1") == 2


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_narrow_screen_never_scrolls_sideways(page: Page, server: LocalServer, engine: FakeEngine, theme: str) -> None:
    engine.text = MARKDOWN + "\n```\n" + "x" * 300 + "\n```\n\n|" + "column |" * 12 + "\n|" + "---|" * 12 + "\n" + "w" * 200
    await page.theme(theme)
    await page.resize(400, 800)
    await opened(page, server)
    await say(page, "u" * 300)
    assert await page.evaluate(NO_SIDEWAYS)
    for tab in ("dashboard", "code", "chat"):
        await page.click(f"#tab-{tab}")
        assert await page.evaluate(NO_SIDEWAYS), tab
    await page.click("#toggle-sidebar")
    await page.wait("getComputedStyle(document.querySelector('#sidebar')).visibility === 'visible'")
    await page.press("Escape")
    await page.click("#toggle-settings")
    assert await page.evaluate(NO_SIDEWAYS)


async def test_dark_and_light(page: Page, server: LocalServer) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    await page.theme("light")
    await opened(page, server)
    light = await page.evaluate(ground)
    await page.theme("dark")
    dark = await page.evaluate(ground)
    assert light != dark
    await page.click("#toggle-theme")
    assert await page.evaluate(ground) == light
    await page.reload()
    assert await page.evaluate(ground) == light


async def test_everything_that_can_be_used_has_a_name(page: Page, server: LocalServer) -> None:
    await opened(page, server)
    await say(page, "Hello")
    tree = await page.call("Accessibility.getFullAXTree")
    usable = {"button", "textbox", "spinbutton", "combobox", "switch", "tab", "link"}
    nodes = [node for node in tree["nodes"] if node.get("role", {}).get("value") in usable and not node.get("ignored")]
    assert len(nodes) > 10
    assert not [node for node in nodes if not node.get("name", {}).get("value")]
