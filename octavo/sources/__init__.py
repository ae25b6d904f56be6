"""Where models come from: hubs, wheels, folders and GGUF files, and what their headers and configurations say."""
