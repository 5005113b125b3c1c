"""One figure a module, each a pure function from stored records to a Plotly figure."""
