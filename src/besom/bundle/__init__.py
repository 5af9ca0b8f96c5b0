"""Bundled training: many trials of small models in one pass over the same batches, each as if it trained alone.

A lane is a trial in a bundle. Each lane has the LightningModule that it would have alone, built as it would be built
alone; only its parameters lie in a stack's memory, and what Lightning would do for it step by step is done for all
lanes at once. What a lane comes to is what its solo run comes to, but for rounding.
"""
