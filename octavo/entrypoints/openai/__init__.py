"""vLLM's paths of the OpenAI server."""
