"""An IO Processor plugin that embeds documents longer than the model's context."""


def register() -> str:
    """Where the plugin's class is."""
    return "long_document_plugin.plugin.LongDocumentProcessor"
