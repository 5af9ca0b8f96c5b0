"""The pictures of a report, each from what it shows to SVG that takes its colors from the page."""
