"""The models: calls, replies, recovery, validation, tokens and prices. The only home of openai."""
