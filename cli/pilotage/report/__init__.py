"""The report of a run: figures (numbers), breach (what led to a rollback), charts (SVG), page, times, write."""
