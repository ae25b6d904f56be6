"""Several requests at once through the asyncio engine, streamed: python examples/async_engine.py [MODEL]"""

import asyncio
import sys

from octavo import AsyncLLM, EngineArgs, RequestOutputKind, SamplingParams

PROMPTS = ["The capital of France is", "The capital of Italy is", "The capital of Japan is"]


async def answer(engine: AsyncLLM, number: int, prompt: str) -> str:
    params = SamplingParams(temperature=0.8, seed=number, max_tokens=24, output_kind=RequestOutputKind.DELTA)
    text = prompt
    async for output in engine.generate(prompt, params, request_id=f"example-{number}"):
        text += output.outputs[0].text
    return text


async def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "HuggingFaceTB/SmolLM2-135M-Instruct"
    async with AsyncLLM.from_engine_args(EngineArgs(model=model)) as engine:
        for text in await asyncio.gather(*(answer(engine, i, prompt) for i, prompt in enumerate(PROMPTS))):
            print(repr(text))


if __name__ == "__main__":
    asyncio.run(main())
