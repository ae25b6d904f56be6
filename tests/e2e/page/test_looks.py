"""What must hold of the page's looks: themes, narrow screens, names for screen readers; and text that means harm."""

from __future__ import annotations

import json

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


SLOW = {
    "wide table": "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n" + ("|" + "b|" * 20 + "\n") * 1500,
    "long table": "| a | b |\n|---|---|\n" + "| c | d |\n" * 3000,
    "marks": "*_`[" * 12000,
    "stars": "*a " * 16000,
    "brackets": "[" * 49000 + "](x)",
    "angles": "<" * 49000 + ">",
    "quotes": "> " * 20000 + "deep",
    "nested list": "".join("  " * depth + "- x\n" for depth in range(300)),
    "heading of blanks": "# a" + " " * 100000 + "b",
    "fence of blanks": "```" + " " * 100000 + "`",
    "fence of tildes": "~" * 100000 + "`",
    "table rule of blanks": "|a\n|-" + " " * 100000 + "x",
    "rule of blanks": "-" + " " * 100000 + "x",
    "dots in an address": "http://" + "." * 49000 + "x",
    "blanks before a word": " " * 24000 + "x\n" + "y" + " " * 24000 + "z",
    "code of blanks": "` " + " " * 48000 + "x`",
}


async def test_text_made_to_take_long_does_not(page: Page, server: LocalServer) -> None:
    await opened(page, server)
    for name, text in SLOW.items():
        length = await page.evaluate(
            f"import('/page/markdown.js').then((markdown) => {{ const box = document.createElement('div');"
            f" markdown.render(box, {json.dumps(text)}); return box.textContent.length; }})"
        )
        assert length > 0, name


RENDERED = {
    "a\nb": "<p>a<br>b</p>",
    "## A *b* ##": "<h4>A <em>b</em></h4>",
    "**bold**, __too__, ***both***, ~~gone~~": (
        "<p><strong>bold</strong>, <strong>too</strong>, <strong><em>both</em></strong>, <del>gone</del></p>"
    ),
    "snake_case_name and 2 * 3 * 4": "<p>snake_case_name and 2 * 3 * 4</p>",
    r"\*not\* `a*b*c` ``x`y``": "<p>*not* <code>a*b*c</code> <code>x`y</code></p>",
    "- a\n- b\n\n  more\n- c": "<ul><li>a</li><li><p>b</p><p>more</p></li><li>c</li></ul>",
    "3. x\n4. y": '<ol start="3"><li>x</li><li>y</li></ol>',
    "> q\n> - r": "<blockquote><p>q</p><ul><li>r</li></ul></blockquote>",
    "---": "<hr>",
    "1 < 2 & <b>x</b>": "<p>1 &lt; 2 &amp; &lt;b&gt;x&lt;/b&gt;</p>",
    "**open": "<p>**open</p>",
}


async def test_markdown_becomes_these_elements(page: Page, server: LocalServer) -> None:
    await opened(page, server)
    for source, html in RENDERED.items():
        made = await page.evaluate(
            f"import('/page/markdown.js').then((markdown) => {{ const box = document.createElement('div');"
            f" markdown.render(box, {json.dumps(source)}); return box.innerHTML; }})"
        )
        assert made == html, source


async def test_a_growing_text_ends_as_the_whole_would(page: Page, server: LocalServer) -> None:
    await opened(page, server)
    same = await page.evaluate(
        f"import('/page/markdown.js').then((markdown) => {{ const text = {json.dumps(MARKDOWN)};"
        " const [grown, whole] = [document.createElement('div'), document.createElement('div')];"
        " for (let end = 1; end <= text.length; end += 1) markdown.render(grown, text.slice(0, end));"
        " markdown.render(whole, text); return grown.innerHTML === whole.innerHTML; })"
    )
    assert same


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
