"""The plots of a report as SVG, styled by the page."""
