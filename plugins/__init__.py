"""Extensions that are found by entry point: what they are written against, how they are found, checked and described."""
