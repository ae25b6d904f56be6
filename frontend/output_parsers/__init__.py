"""Reasoning and tool calls found in a model's text as it comes, by pure functions over pieces of text."""
