"""The dashboard over a real server process: its numbers are the server's."""

from __future__ import annotations

import pytest
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


READINGS = """
const text = (scale) => `# HELP vllm:time_to_first_token_seconds x
vllm:time_to_first_token_seconds_bucket{model_name="a,b",le="0.1"} ${0 * scale}
vllm:time_to_first_token_seconds_bucket{model_name="a,b",le="0.2"} ${10 * scale}
vllm:time_to_first_token_seconds_bucket{model_name="a,b",le="0.4"} ${20 * scale}
vllm:time_to_first_token_seconds_bucket{model_name="a,b",le="+Inf"} ${20 * scale}
vllm:generation_tokens_total{model_name="a,b"} ${100 * scale}
process_open_fds 3
`;
const [before, now, none] = [parse(text(1)), parse(text(3)), parse("")];
const name = "time_to_first_token_seconds";
return [
  quantile(before, now, name, 0.25), quantile(before, now, name, 0.5), quantile(before, now, name, 0.95), quantile(now, now, name, 0.5),
  quantile(none, now, name, 0.5), growth(before, now, "generation_tokens_total"), growth(now, before, "generation_tokens_total"),
  gauge(now, "process_open_fds"), gauge(none, "process_open_fds"),
];
"""


async def test_metrics_are_read_right(page: Page, tiny_server: OctavoServer) -> None:
    await page.goto(tiny_server.url)
    values = await page.evaluate(
        f"import('/page/prometheus.js').then(({{parse, quantile, growth, gauge}}) => {{ {READINGS} }})"
    )
    assert values == pytest.approx([0.15, 0.2, 0.38, None, 0.2, 200, 100, 3, 0])
