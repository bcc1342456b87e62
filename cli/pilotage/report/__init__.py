"""The report of a run: figures.py (numbers), breach.py (what led to a rollback), charts.py (SVG), page.py (HTML)."""
