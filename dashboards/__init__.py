"""Plotly figures drawn from stored records, the static report and the web server."""
