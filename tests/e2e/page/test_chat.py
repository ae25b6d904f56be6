"""The chat as a person uses it, over an engine that says what the test wants."""

from __future__ import annotations

import json
from pathlib import Path

from browser import Page, eventually
from fake_engine import FakeEngine
from local_server import LocalServer, ServerMaker

from octavo.wire.messages import Progress

READY = "document.querySelector('#state').className === 'good' && document.querySelector('#model').value"
DONE = "document.querySelectorAll('.message.assistant').length && !document.querySelector('.message.writing')"
MARKDOWN = """# Rivers
A **bold** and *soft* word, `code`, [a link](https://example.org/a).

- first
- second
  1. inner

| name | km |
|---|--:|
| Rhine | 1233 |

```python
print("<b>hi</b>")
```
"""


async def say(page: Page, text: str) -> None:
    await page.type("#prompt", text)
    await page.press("Enter")
    await page.wait(f"document.querySelector('#prompt').value === '' && {DONE}")


async def opened(page: Page, server: LocalServer, path: str = "/") -> None:
    await page.goto(server.url + path)
    await page.wait(READY)


def downloads(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


def prompt_of(engine: FakeEngine, call: int = -1) -> str:
    prompt = engine.calls[call].prompt
    return str(prompt.get("prompt") or engine.tokenizer.decode(prompt["prompt_token_ids"]))


async def test_an_answer_streams_as_markdown(page: Page, server: LocalServer, engine: FakeEngine) -> None:
    engine.text, engine.delay = MARKDOWN, 0.01
    await opened(page, server)
    await page.type("#prompt", "Tell me about rivers")
    await page.click("#send")
    await page.wait("document.querySelector('.message.writing .body h3')")
    assert await page.text(".message.user .body") == "Tell me about rivers"
    await page.wait(DONE)
    body = ".message.assistant .body"
    assert await page.text(f"{body} h3") == "Rivers"
    assert await page.text(f"{body} strong") == "bold"
    assert await page.text(f"{body} em") == "soft"
    assert await page.text(f"{body} li ol li") == "inner"
    assert await page.text(f"{body} td.right") == "1233"
    assert await page.text(f"{body} pre") == 'print("<b>hi</b>")'
    assert await page.evaluate(f"document.querySelector('{body} a').href") == "https://example.org/a"
    note = await page.text(".message.assistant .note")
    assert "tokens/s" in note
    assert "first token after" in note
    await page.click(f"{body} .copy-code")
    await page.wait("document.querySelector('#announcer').textContent === 'Copied'")
    assert await page.text("#conversations .open") == "Tell me about rivers"


async def test_stop_keeps_what_came(page: Page, server: LocalServer, engine: FakeEngine) -> None:
    engine.text, engine.delay = "word " * 400, 0.05
    await opened(page, server)
    await page.type("#prompt", "Go on")
    await page.press("Enter")
    await page.wait("document.querySelector('.message.writing .body').innerText.includes('word word')")
    await page.press("Escape")
    await page.wait(DONE)
    assert "stopped" in await page.text(".message.assistant .note")
    kept = await page.text(".message.assistant .body")
    await page.reload()
    assert await page.text(".message.assistant .body") == kept
    await eventually(lambda: engine.aborted)


async def test_retry_and_edit_make_branches(page: Page, server: LocalServer, engine: FakeEngine) -> None:
    await opened(page, server)
    engine.text = "answer one"
    await say(page, "question one")
    engine.text = "answer two"
    await page.click(".message.assistant .retry")
    await page.wait(f"document.querySelector('.message.assistant .body').innerText === 'answer two' && {DONE}")
    assert await page.text(".message.assistant .branches span") == "2/2"
    await page.click(".message.assistant .earlier")
    assert await page.text(".message.assistant .body") == "answer one"
    engine.text = "answer three"
    await page.click(".message.user .edit")
    await page.type(".editor textarea", "question two")
    await page.press("Enter")
    await page.wait(f"document.querySelector('.message.assistant .body').innerText === 'answer three' && {DONE}")
    assert await page.text(".message.user .body") == "question two"
    assert "question one" not in prompt_of(engine)
    await page.click(".message.user .earlier")
    assert await page.text(".message.user .body") == "question one"
    assert await page.text(".message.assistant .body") == "answer one"
    await say(page, "and then?")
    assert "question one" in prompt_of(engine)
    assert "answer one" in prompt_of(engine)


async def test_system_prompt_and_sampling_are_sent(page: Page, server: LocalServer, engine: FakeEngine) -> None:
    await opened(page, server)
    await page.click("#toggle-settings")
    await page.type("#system", "You are a pirate.")
    await page.type("#set-temperature", "0.25")
    await page.type("#set-top_k", "7")
    await page.type("#set-seed", "11")
    await page.type("#set-max_tokens", "5")
    await page.type("#set-stop", "END\nHALT")
    await say(page, "Hello")
    params = engine.calls[-1].params
    assert (params.temperature, params.top_k, params.seed, params.max_tokens) == (0.25, 7, 11, 5)
    assert params.stop == ["END", "HALT"]
    assert "You are a pirate." in prompt_of(engine)
    assert "cut at the longest length" in await page.text(".message.assistant .note")
    await page.click("#reset-settings")
    await page.reload()
    await page.wait(READY)
    assert await page.evaluate("document.querySelector('#system').value") == "You are a pirate."
    await say(page, "Again")
    assert engine.calls[-1].params.seed is None


async def test_token_view_shows_alternatives(page: Page, server: LocalServer) -> None:
    await opened(page, server)
    await page.click("#toggle-settings")
    await page.click("#show-tokens")
    await page.click("#close-settings")
    await say(page, "Count")
    assert await page.count(".token") > 3
    await page.hover(".token")
    await page.wait("!document.querySelector('#token-tip').hidden")
    tip = await page.text("#token-tip")
    assert "22.3 %" in tip  # exp(-1.5)
    assert await page.count("#token-tip tr") > 2
    await page.evaluate("document.querySelector('.token').focus()")
    await page.press("ArrowRight")
    assert await page.evaluate("document.activeElement.dataset.index") == "1"
    await page.click("#toggle-settings")
    await page.click("#show-tokens")
    assert await page.count(".token") == 0


async def test_conversations_survive_reload_export_and_import(page: Page, server: LocalServer, tmp_path: Path) -> None:
    await opened(page, server)
    await say(page, "First talk")
    await page.click("#new-chat")
    await say(page, "Second talk")
    await page.reload()
    await page.wait(READY)
    assert await page.count("#conversations li .open") == 2
    assert await page.text(".message.user .body") == "Second talk"
    await page.download_to(tmp_path)
    await page.click("#export")
    await eventually(lambda: downloads(tmp_path))
    found = downloads(tmp_path)[0]
    assert len(json.loads(found.read_text())["conversations"]) == 2
    for left in (1, 0):
        await page.click("#conversations .delete")
        await page.wait(f"document.querySelectorAll('#conversations .open').length === {left}")
    await page.choose_file("#import-file", found)
    await page.wait("document.querySelectorAll('#conversations .open').length === 2")
    assert await page.text(".message.user .body") in ("First talk", "Second talk")
    broken = tmp_path / "broken"
    broken.write_text('{"format": "octavo-conversations", "conversations": [{"nodes": {"a": {"role": "user", "text": 5}}}]}')
    await page.choose_file("#import-file", broken)
    await page.wait("document.querySelector('#sidebar-note').textContent.startsWith('Not imported')")


async def test_an_import_shows_only_children_that_are_there(page: Page, server: LocalServer, tmp_path: Path) -> None:
    await opened(page, server)
    nodes = {
        "A": {"role": "user", "parent": None, "text": "first"},
        "B": {"role": "assistant", "parent": "A", "text": "second"},
        "C": {"role": "user", "parent": "B", "text": "third"},
    }
    for number, chosen in enumerate(({"root": "A", "A": "A"}, {"root": "A", "A": "B", "B": "A"}, {"root": "A", "A": "C"}), 1):
        file = tmp_path / f"{number}.json"
        talk = {"title": f"talk {number}", "nodes": nodes, "chosen": chosen}
        file.write_text(json.dumps({"format": "octavo-conversations", "conversations": [talk]}))
        await page.choose_file("#import-file", file)
        await page.wait(f"document.querySelectorAll('#conversations .open').length === {number}")
        shown = 2 if number == 2 else 1
        await page.wait(f"document.querySelectorAll('.message').length === {shown}")
    nodes["B"] |= {"tokens": [["second", -0.1, [None]]]}  # type: ignore[dict-item]
    file = tmp_path / "rival.json"
    file.write_text(json.dumps({"format": "octavo-conversations", "conversations": [{"nodes": nodes}]}))
    await page.choose_file("#import-file", file)
    await page.wait("document.querySelector('#sidebar-note').textContent.includes('has no text or no probability')")


async def test_the_key_is_asked_for_and_kept(page: Page, make_server: ServerMaker) -> None:
    server = await make_server(api_key=["secret"])
    await page.goto(server.url)
    await page.wait("document.activeElement.id === 'key'")
    assert "API key" in await page.text("#notice")
    await page.type("#key", "wrong")
    await page.press("Enter")
    await page.type("#key", "secret")
    await page.press("Enter")
    await page.wait(READY)
    await page.wait("document.querySelector('#notice').hidden")
    await say(page, "Hello")
    assert "one two" in await page.text(".message.assistant .body")
    assert "OCTAVO_API_KEY" in await page.evaluate("document.querySelector('#snippets').textContent")
    assert "secret" not in await page.evaluate("document.querySelector('#snippets').textContent")
    await page.reload()
    await page.wait(READY)


async def test_an_error_is_told_and_can_be_tried_again(page: Page, server: LocalServer, engine: FakeEngine) -> None:
    await opened(page, server)
    engine.fail_with, engine.fail_after = RuntimeError("boom"), 3
    await say(page, "Hello")
    assert await page.text(".message.assistant .error")
    engine.fail_with = None
    await page.click(".message.assistant .retry")
    await page.wait(f"document.querySelector('.message.assistant .body').innerText.includes('nine ten') && {DONE}")


async def test_it_is_there_while_the_model_loads(page: Page, make_server: ServerMaker, engine: FakeEngine) -> None:
    server = await make_server(started=False)
    server.state.progress = lambda: Progress("weights", 0.4, 1.5)
    await page.goto(server.url)
    await page.wait("document.querySelector('#startup-words').textContent.includes('reading the weights')")
    assert await page.evaluate("document.querySelector('#startup-bar').value") == 0.4
    await page.type("#prompt", "Hello")
    assert await page.evaluate("document.querySelector('#send').disabled")
    server.state.started(engine)  # type: ignore[arg-type]
    await page.wait("!document.querySelector('#send').disabled")
    assert await page.evaluate("document.querySelector('#startup').hidden")


async def test_behind_a_root_path(page: Page, make_server: ServerMaker) -> None:
    server = await make_server(root_path="/llm/")
    await opened(page, server, "/llm")
    await say(page, "Hello")
    assert f"{server.url}/llm/v1" == await page.evaluate("document.querySelector('#base-url').textContent")


async def test_keys_do_what_the_list_of_keys_says(page: Page, server: LocalServer) -> None:
    await opened(page, server)
    await page.evaluate("document.activeElement.blur()")
    await page.press("?", modifiers=8)
    await page.wait("document.querySelector('#help').open")
    await page.press("Escape")
    await page.wait("!document.querySelector('#help').open")
    await page.evaluate("document.activeElement.blur()")
    await page.press("/")
    assert await page.evaluate("document.activeElement.id") == "prompt"
    await say(page, "Hello")
    await page.press("2", "Digit2", 1)
    await page.wait("!document.querySelector('#dashboard').hidden")
    await page.press("1", "Digit1", 1)
    await page.press("n", "KeyN", 1)
    await page.wait("document.querySelector('.welcome')")
    await page.press("s", "KeyS", 1)
    await page.wait("document.activeElement.id === 'system'")
    await page.press("Escape")
    assert await page.evaluate("document.querySelector('#settings').hidden")
