"""Plots as SVG: panels, axes and marks."""
