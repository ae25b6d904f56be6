"""Texts and a conversation through the engine, without a server: python examples/offline_inference.py [MODEL]"""

import sys

from octavo import LLM, SamplingParams

PROMPTS = ["The capital of France is", "Once upon a time,", "def fibonacci(n):"]


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "HuggingFaceTB/SmolLM2-135M-Instruct"
    with LLM(model) as llm:
        for output in llm.generate(PROMPTS, SamplingParams(temperature=0.0, max_tokens=32)):
            print(f"{output.prompt!r} -> {output.outputs[0].text!r}")

        conversation = [{"role": "user", "content": "What is the capital of France?"}]
        [answer] = llm.chat(conversation, SamplingParams(temperature=0.0, max_tokens=64))
        print(answer.outputs[0].text)


if __name__ == "__main__":
    main()
