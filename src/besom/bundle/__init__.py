"""Bundled training: many trials of small models in one pass over the same batches, each as if it trained unbundled.

A member is a trial in a bundle. Each member has the LightningModule of its unbundled training, built in the same way;
only its parameters are located in the memory of a stack, and what Lightning would do step by step is done for all
members at once. The result of a member equals that of its unbundled training up to rounding.
"""
