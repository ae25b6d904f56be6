"""48 varied prompts: questions, stories, code, other languages, tables, chat turns, and a few long ones."""

from __future__ import annotations


def _chat(text: str, system: str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face") -> str:
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


_SHORT = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    ",
    "The three laws of thermodynamics are:\n1.",
    "SELECT name, COUNT(*) FROM",
    "Dear Sir or Madam,\n\nI am writing to",
    "To be, or not to be, that is the",
    "Water boils at a temperature of",
    "import numpy as np\n\nclass Matrix:\n",
    "Q: What is the largest planet in the solar system?\nA:",
    "El perro y el gato viven en",
    "Le petit chat dort sur",
    "Die Hauptstadt von Deutschland ist",
    "人工知能とは",
    "Москва является столицей",
    "1, 1, 2, 3, 5, 8, 13,",
    "The recipe for pancakes: take two eggs,",
    "In 1969, Neil Armstrong",
    "<html>\n<head>\n<title>",
    "Roses are red, violets are blue,",
    "A prime number is a number that",
    "The stock market fell sharply on Monday after",
    "Translate to French: Good morning -> ",
    '{"name": "Alice", "age":',
]

_CHAT = [
    _chat("What is the capital of France?"),
    _chat("Write a haiku about autumn."),
    _chat("Explain photosynthesis to a child in two sentences."),
    _chat("How do I reverse a list in Python?"),
    _chat("Give me three tips for better sleep."),
    _chat("What is 17 times 23?"),
    _chat("Name five animals that live in Africa.", "Answer with a list."),
    _chat("Who wrote Romeo and Juliet, and when?"),
    _chat("Summarize the plot of Cinderella."),
    _chat("What's the difference between TCP and UDP?", "You are a network engineer."),
    _chat("I feel sad today. Can you cheer me up?"),
    _chat("Was ist der Unterschied zwischen Hund und Wolf?"),
    _chat("Fix this sentence: 'she go to school yesterday'"),
    _chat("Write an SQL query that finds duplicate emails in a table named users."),
    _chat("Tell me a joke about computers. 🙂"),
    _chat("List the primary colours."),
]

_LONG = [
    "The history of bread is long. " * 12 + "In conclusion,",
    "\n".join(f"{i} squared is {i * i}." for i in range(1, 25)) + "\n25 squared is",
    "| city | country |\n|---|---|\n"
    + "\n".join(["| Rome | Italy |", "| Oslo | Norway |", "| Lima | Peru |"] * 5)
    + "\n| Cairo |",
    (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was "
        "the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Darkness, it was "
        "the"
    ),
    (
        "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n        self.items.append(item)\n\n"
        "    def pop(self):\n        return self.items.pop()\n\nclass Queue:\n    def __init__(self):\n"
    ),
    _chat("Here is a list of words: " + ", ".join(f"word{i}" for i in range(60)) + ". How many words are there?"),
    _chat(
        "Read the following and answer. "
        + "The river flows from the mountains to the sea. " * 20
        + "Where does the river flow?"
    ),
    "".join(f"Q: What comes after {i}?\nA: {i + 1}\n\n" for i in range(20)) + "Q: What comes after 20?\nA:",
]

PROMPTS: list[str] = _SHORT + _CHAT + _LONG
