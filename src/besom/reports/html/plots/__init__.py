"""The plots of a report as SVG, styled by the page.

Each module has a function of the report that returns its pictures, none if there is nothing to show: `_read` takes the
data of each picture from the report, `_draw` draws them.
"""
